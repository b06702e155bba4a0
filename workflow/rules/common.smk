# The plan of the experiment, and what rules ask of it. Nothing here imports torch: every cluster job parses this file again.

import re
from pathlib import Path

from dctkd.metrics import OVERLAP_VERSION
from dctkd.report import report_files
from dctkd.report.audit.findings import finding_files
from dctkd.report.published import published_files
from dctkd.report.subjects import subject_of
from dctkd.snakemake_locks import clear_stale_locks
from dctkd.workflow import (
    Slots,
    demand_of,
    ignore_time_warnings,
    open_plan,
    or_stop,
    plan_path,
    write_plan,
)

if workflow.is_main_process:
    clear_stale_locks()
else:
    ignore_time_warnings()

# "results", or where the copies lie that Snakemake makes of files in object storage (--default-storage-provider).
RESULTS = Path(workflow.inputfile("results"))
GPUS = workflow.global_resources.get("gpu")
SLOTS = Slots(
    cores=workflow.resource_settings.cores,
    jobs=workflow.resource_settings.nodes,
    gpus=getattr(GPUS, "value", GPUS),
)
PLAN = open_plan(
    config,
    files=workflow.configfiles,
    results=RESULTS,
    slots=SLOTS,
    is_main=workflow.is_main_process,
)
DEMAND = demand_of(PLAN, SLOTS if workflow.is_main_process else Slots())
PLAN_FILE = str(plan_path(PLAN.name, RESULTS))
TARGET = f"paper_tables/{PLAN.name}"
TABLES = [f"{TARGET}/{name}" for name in or_stop(lambda: report_files(PLAN))]
# Published numbers and findings travel with the Snakefile; no object storage has them.
REPORTED = (
    or_stop(lambda: [*published_files(PLAN), *finding_files(PLAN)])
    if RESULTS == Path("results")
    else []
)
LOGS = f"results/{PLAN.name}/logs"
DATASET = f"results/{PLAN.name}/{{dataset}}"
PAIR = f"{DATASET}/{{teacher}}__{{student}}"
GPUS_PER_JOB = int(DEMAND.kind == "cuda")


wildcard_constraints:
    dataset="|".join(map(re.escape, PLAN.config.datasets)),
    teacher="|".join(map(re.escape, PLAN.config.models)),
    student="|".join(map(re.escape, PLAN.config.models)),
    seed=r"\d+",


onstart:
    write_plan(PLAN, RESULTS, is_main=True)


if not workflow.is_main_process:
    write_plan(PLAN, RESULTS, is_main=False)


# Snakemake watches only params that depend on nothing but wildcards: one that takes `output` would never cause a rerun.


def spec_of_teacher(wildcards):
    return PLAN.spec_of_teacher(
        wildcards.dataset, wildcards.teacher, int(wildcards.seed)
    )


def spec_of_students(methods):
    pair = "{w.teacher}__{w.student}"
    return lambda wildcards: PLAN.spec_of_students(
        wildcards.dataset, pair.format(w=wildcards), methods, int(wildcards.seed)
    )


def spec_of_overlap(wildcards):
    students = spec_of_students(tuple(PLAN.config.methods))(wildcards)
    return f"{students} {OVERLAP_VERSION} {' '.join(PLAN.config.map_sources)}"


def threads_of(recipe):
    return PLAN.config.recipes[recipe].threads


# For jobs that use what they get; on a cluster a profile may give them more with set-threads.
def all_cores():
    if PLAN.is_for_cluster:
        return threads_of(PLAN.config.student_recipe)
    return SLOTS.cores or 1


def minutes_of_teacher(wildcards, attempt):
    return DEMAND.teacher_minutes(wildcards.dataset, wildcards.teacher, attempt)


def memory_of_teacher(wildcards, attempt):
    return DEMAND.teacher_mb(wildcards.dataset, wildcards.teacher, attempt)


def minutes_of_students(number):
    return lambda w, attempt: DEMAND.students_minutes(
        w.dataset, (w.teacher, w.student), number, attempt
    )


def memory_of_students(number):
    return lambda w, attempt: DEMAND.students_mb(
        w.dataset, (w.teacher, w.student), number, attempt
    )


def cores_of(recipe):
    return threads_of(recipe) * (PLAN.config.recipes[recipe].processes or 1)


def gpus_of(recipe):
    return GPUS_PER_JOB * (PLAN.config.recipes[recipe].processes or 1)


def teacher_edge(wildcards):
    return f"{DATASET}/teachers/{{teacher}}/seed{PLAN.teacher_seed(int(wildcards.seed))}/teacher.json"


# Captions are relative to the file that calls this.
def in_report(name):
    path = f"{TARGET}/{name}"
    categories = {"png": "Figures", "csv": "Tables", "html": "Page"}
    captions = {"png": "figure", "csv": "table", "html": "page"}
    suffix = name.rpartition(".")[2]
    if suffix not in categories:
        return path
    return report(
        path,
        caption=f"../report/{captions[suffix]}.rst",
        category=categories[suffix],
        labels={"file": name, "shows": subject_of(name)},
    )
