# One job per pair and seed: the teacher's maps are made once for all students.


rule overlap:
    input:
        data=f"{DATASET}/data.json",
        teacher=teacher_edge,
        runs=expand(
            f"{PAIR}/{{method}}/seed{{seed}}/metrics.json",
            method=PLAN.config.methods,
            allow_missing=True,
        ),
    output:
        expand(
            f"{PAIR}/{{method}}/seed{{seed}}/overlap.json",
            method=PLAN.config.methods,
            allow_missing=True,
        ),
    log:
        f"{LOGS}/{{dataset}}/{{teacher}}__{{student}}/overlap-seed{{seed}}.log",
    priority: 1
    threads: threads_of(PLAN.config.student_recipe)
    resources:
        gpu=GPUS_PER_JOB,
    params:
        plan=PLAN_FILE,
        spec=spec_of_overlap,
    shell:
        "exec dctkd overlap --plan {params.plan:q} {output:q} > {log:q} 2>&1"


rule cost:
    input:
        expand(f"{DATASET}/data.json", dataset=PLAN.config.datasets),
    output:
        f"results/{PLAN.name}/cost.json",
    log:
        f"{LOGS}/cost.log",
    priority: 1
    params:
        plan=PLAN_FILE,
        spec=PLAN.cost_spec,
    shell:
        "exec dctkd cost --plan {params.plan:q} {output:q} > {log:q} 2>&1"


rule speed:
    input:
        data=expand(f"{DATASET}/data.json", dataset=PLAN.config.datasets),
        cost=f"results/{PLAN.name}/cost.json",
    output:
        f"results/{PLAN.name}/speed.json",
    log:
        f"{LOGS}/speed.log",
    # On this machine all cores: nothing else runs beside it, so the clock is not disturbed. It computes with the
    # students' threads.
    threads: all_cores()
    resources:
        gpu=GPUS_PER_JOB,
    params:
        plan=PLAN_FILE,
        spec=PLAN.speed_spec,
    shell:
        "exec dctkd speed --plan {params.plan:q} {output:q} > {log:q} 2>&1"
