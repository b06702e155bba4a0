rule cost:
    input:
        expand(f"{DATASET}/data.json", dataset=PLAN.config.datasets),
    output:
        f"results/{PLAN.name}/cost.json",
    log:
        f"{LOGS}/cost.log",
    params:
        plan=PLAN_FILE,
        spec=PLAN.cost_spec,
    shell:
        "exec dctkd cost --plan {params.plan} {output} > {log} 2>&1"
