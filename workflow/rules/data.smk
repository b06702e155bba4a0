rule data:
    output:
        f"{DATASET}/data.json",
    log:
        f"{LOGS}/{{dataset}}/data.log",
    threads: all_cores()
    params:
        plan=PLAN_FILE,
        spec=lambda wildcards: PLAN.data_spec(wildcards.dataset),
    shell:
        "exec dctkd data pack --plan {params.plan:q} --workers {threads} {output:q} > {log:q} 2>&1"
