# One rule per pack: the students of a pack share the batches and the teacher's pass. Methods are bound eagerly, in the outputs.

for pack in PLAN.packs:

    rule:
        name:
            pack.name
        input:
            data=f"{DATASET}/data.json",
            teacher=teacher_edge,
        output:
            expand(
                f"{PAIR}/{{method}}/seed{{seed}}/metrics.json",
                method=pack.methods,
                allow_missing=True,
            ),
        log:
            f"{LOGS}/{{dataset}}/{{teacher}}__{{student}}/{pack.name}-seed{{seed}}.log",
        threads: cores_of(PLAN.config.student_recipe)
        resources:
            gpu=gpus_of(PLAN.config.student_recipe),
            runtime=minutes_of_students(len(pack.methods)),
            mem_mb=memory_of_students(len(pack.methods)),
        params:
            plan=PLAN_FILE,
            spec=spec_of_students(pack.methods),
        shell:
            "exec dctkd train --plan {params.plan:q} {output:q} > {log:q} 2>&1"
