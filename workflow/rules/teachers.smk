rule teacher:
    input:
        f"{DATASET}/data.json",
    output:
        f"{DATASET}/teachers/{{teacher}}/seed{{seed}}/teacher.json",
    log:
        f"{LOGS}/{{dataset}}/teachers/{{teacher}}-seed{{seed}}.log",
    # First: all students wait for it. The jobs that measure come next, or they would be left for the end, with idle cores.
    priority: 2
    threads: cores_of(PLAN.config.teacher_recipe)
    resources:
        gpu=gpus_of(PLAN.config.teacher_recipe),
        runtime=minutes_of_teacher,
        mem_mb=memory_of_teacher,
    params:
        plan=PLAN_FILE,
        spec=spec_of_teacher,
    shell:
        "exec dctkd train --plan {params.plan:q} {output:q} > {log:q} 2>&1"
