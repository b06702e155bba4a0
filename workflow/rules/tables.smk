rule tables:
    input:
        runs=[f"results/{run.path}" for run in (*PLAN.teachers, *PLAN.runs)],
        overlaps=[f"results/{run.overlap_path}" for run in PLAN.runs],
        cost=f"results/{PLAN.name}/cost.json",
        speed=f"results/{PLAN.name}/speed.json",
        reported=REPORTED,
    output:
        [in_report(name) for name in report_files(PLAN)],
    log:
        f"{LOGS}/tables.log",
    threads: 4
    params:
        plan=PLAN_FILE,
        target=subpath(output[0], parent=True),
        spec=PLAN.report_spec,
    shell:
        "exec dctkd report --plan {params.plan:q} --to {params.target:q} --workers {threads} > {log:q} 2>&1"


rule partial:
    # Tables from what the store has now. It depends on no run, so it works while others train and after some failed.
    log:
        f"{LOGS}/partial.log",
    threads: 4
    params:
        plan=PLAN_FILE,
        target=TARGET,
    shell:
        "exec dctkd report --plan {params.plan:q} --to {params.target:q} --partial --workers {threads} > {log:q} 2>&1"
