"""What experiments cost on 1, 8 and 64 GPUs, and what is in the way of more: a model, written into docs/scaling.md.

Nothing is measured here. The seconds of training are those of paper_cost.py, on public rates of a GPU and the overheads
that results.md records; the constants below say where each comes from. So the tables are a function of files in the
repository, and a test compares them with the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.cluster_model import ClusterJob, Delays, critical_path_s, simulate
from benchmarks.paper_cost import Group, groups_of, pack_seconds, packs_for, teacher_jobs
from benchmarks.paper_rates import RTX3090
from benchmarks.results import SECTION, Table
from dctkd.config import load
from dctkd.data.check.official_counts import official_counts
from dctkd.plan import Plan, make_plan

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs/scaling.md"
EXPERIMENTS = ("ade20k", "sun397", "mit67", "paper")
GPUS = (1, 8, 64)
USD_PER_GPU_HOUR = 0.30
"""An example, not an offer: put in your own."""

OWN_MACHINE = Delays(queue_s=0, start_s=8, notice_s=0, submit_s=0.03)
BUSY_CLUSTER = Delays(queue_s=600, start_s=10, notice_s=10, submit_s=0.5)
"""Imports took 3.5 s and Snakemake in a job 1.5 s on a CPU core; 5 s for networks and GPU are assumed. The profile
looks for ends every 20 s and submits two jobs per second. Ten minutes in the queue are an example."""
PACKED_PER_S = 332 * 8
"""Photographs per second of the job that packs them, on 8 cores: results.md, one core at short side 256."""
TABLES_S_PER_RUN = 26 / 540
"""Measured on one thread with made-up runs: tests/report/test_report.py."""
COST_S, SPEED_S = 60.0, 300.0
"""Assumed, and on nobody's critical path: costs of all networks (CPU), their latencies (GPU)."""
IMAGE_BYTES = 256 * 341 * 3
"""Of a photograph of 4:3 with a short side of 256 in the pixel cache."""
PARAMETERS = {"resnet18": 11.7e6, "resnet34": 21.8e6, "mobilenetv2_100": 3.5e6}
SAVED_BYTES_PER_S, SAVING_SHARE, SAVED_AT_LEAST_EVERY_S = 1e9, 1 / 50, 60.0
"""A checkpoint is due every minute, and at an epoch's end if saving takes at most a fiftieth; its rate is assumed."""


@dataclass(frozen=True)
class Overheads:
    """What results.md records of each method.

    Attributes:
        step: Step with it over the baseline's.
        parameters: That it adds.
    """

    step: Mapping[str, float]
    parameters: Mapping[str, int]


def read_overheads(results: str) -> Overheads:
    """Read the table of methods from the text of results.md.

    Raises:
        ValueError: If the section is not there.
    """
    section = next((part for part in results.split(SECTION) if part.startswith("What each method adds")), "")
    found = re.findall(r"^\| (\w+) +\| +[\d.]+ +\| ([\d.]+) \[[^|]+\| ([\d,]+) +\|", section, flags=re.MULTILINE)
    if not found:
        raise ValueError("results.md: no table of what each method adds; run `make bench BENCH='--only methods'`")
    return Overheads(
        {name: float(ratio) for name, ratio, _ in found}, {name: int(n.replace(",", "")) for name, _, n in found}
    )


@cache
def plan_of(experiment: str) -> Plan:
    """Return the plan of config/<experiment>.yaml."""
    file = REPOSITORY / "config" / f"{experiment}.yaml"
    return make_plan(load(file, {"data_root": "."}), config_file=str(file))


def jobs_of(plan: Plan, overheads: Overheads, packs: Sequence[Sequence[str]]) -> list[ClusterJob]:
    """Return every job of an experiment, as the rules make them."""
    images = {run.dataset: _images(plan, run.dataset) for run in plan.teachers}
    data = [ClusterJob(name, sum(n) / PACKED_PER_S, has_gpu=False) for name, n in images.items()]
    dataset_of = {run.path: run.dataset for run in plan.teachers}
    teachers = [
        ClusterJob(job.name, job.seconds, frozenset({dataset_of[job.name]}), priority=2)
        for job in teacher_jobs(plan, RTX3090)
    ]
    students, overlaps = [], []
    for number, group in enumerate(groups_of(plan)):
        ours = [
            ClusterJob(
                f"group{number} pack{index}",
                pack_seconds(group, RTX3090, overheads.step, rows),
                frozenset({group.teacher}),
            )
            for index, rows in enumerate(packs)
        ]
        num_test = images[dataset_of[group.teacher]][1]
        after = frozenset(job.name for job in ours)
        overlaps.append(ClusterJob(f"group{number} overlap", _overlap_s(group, num_test), after, priority=1))
        students += ours
    cost = ClusterJob("cost", COST_S, frozenset(images), has_gpu=False, priority=1)
    speed = ClusterJob("speed", SPEED_S, frozenset({"cost"}))
    after = frozenset(job.name for job in overlaps) | {"speed"}
    tables = ClusterJob("tables", TABLES_S_PER_RUN * len(plan.runs), after, has_gpu=False)
    return [*data, *teachers, *students, *overlaps, cost, speed, tables]


def _images(plan: Plan, dataset: str) -> tuple[int, int]:
    data = plan.data_identity(dataset)
    counts = official_counts(data.format, data.options)
    if counts is None:
        raise ValueError(f"dataset {dataset}: format {data.format} has no published size")
    return counts.num_train_images, counts.num_test_images


def _overlap_s(group: Group, num_test: int) -> float:
    """A pass forward for activation maps, and one forward and back for Grad-CAM, of the teacher and all students."""
    teacher, student = group.networks
    rates = RTX3090

    def both(network: str) -> float:
        return 1 / rates.forward[network] + 1 / rates.train[network]

    return num_test * (both(teacher) + len(group.rows) * both(student))


def cost_table(overheads: Overheads) -> Table:
    """Return hours and money of each experiment on so many GPUs."""
    rows = []
    for name in EXPERIMENTS:
        plan = plan_of(name)
        for gpus in GPUS:
            packs = packs_for(plan, groups_of(plan), gpus)
            jobs = jobs_of(plan, overheads, packs)
            own, busy = (simulate(jobs, gpus, delays) for delays in (OWN_MACHINE, BUSY_CLUSTER))
            hours, gpu_hours = own.wall_s / 3600, own.gpu_s / 3600
            rows.append(
                (
                    name,
                    str(gpus),
                    f"{own.num_jobs:,}",
                    str(max(map(len, packs))),
                    f"{hours:,.1f}",
                    f"{busy.wall_s / 3600:,.1f}",
                    f"{gpu_hours:,.0f}",
                    f"{100 * gpu_hours / hours / gpus:.0f} %",
                    f"{USD_PER_GPU_HOUR * gpu_hours:,.0f}",
                )
            )
    header = ("config", "GPUs", "jobs", "students per job", "hours, own machines", "hours, busy cluster")
    return Table((*header, "GPU-hours", "busy", f"US$ at {USD_PER_GPU_HOUR:.2f}"), tuple(rows))


def pack_table(overheads: Overheads) -> Table:
    """Return what the size of packs does to the paper experiment on 64 GPUs."""
    plan = plan_of("paper")
    chosen = len(packs_for(plan, groups_of(plan), GPUS[-1]))
    methods = tuple(plan.config.methods)
    rows = []
    for num_packs in sorted({1, 2, 4, 5, chosen, len(methods)}):
        packs = [methods[number::num_packs] for number in range(num_packs)]
        jobs = jobs_of(plan, overheads, packs)
        own, busy = (simulate(jobs, GPUS[-1], delays) for delays in (OWN_MACHINE, BUSY_CLUSTER))
        sorted_jobs = sorted(jobs, key=lambda job: -job.work_s)
        longest_first = simulate(sorted_jobs, GPUS[-1], OWN_MACHINE)
        chain_s = critical_path_s(jobs, OWN_MACHINE)
        longest_s = max(job.work_s for job in jobs if " pack" in job.name)
        cells = (own.wall_s, busy.wall_s, longest_first.wall_s, own.gpu_s / GPUS[-1], chain_s, longest_s)
        name = f"{num_packs}, chosen by `auto`" if num_packs == chosen else str(num_packs)
        rows.append((name, str(len(jobs)), *(f"{cell / 3600:.1f}" for cell in cells)))
    header = ("packs of a group", "jobs", "hours, own machines", "hours, busy cluster", "hours, longest job first")
    return Table((*header, "GPU-hours / 64", "longest chain (h)", "longest pack (h)"), tuple(rows))


def file_table(overheads: Overheads) -> Table:
    """Return what jobs of the paper experiment ask of a file system, all GPUs busy with students."""
    plan = plan_of("paper")
    groups = groups_of(plan)
    rows = []
    for gpus in GPUS:
        packs = packs_for(plan, groups, gpus)
        seconds = images = saved = 0.0
        for group in groups:
            for methods in packs:
                pack_s = pack_seconds(group, RTX3090, overheads.step, methods)
                seconds += pack_s
                images += group.num_train + group.num_tested
                saved += pack_s * _saved_bytes_per_s(group, methods, pack_s, overheads)
        rows.append(
            (
                str(gpus),
                f"{gpus * images / seconds:,.0f}",
                f"{gpus * images / seconds * IMAGE_BYTES / 1e9:,.1f}",
                f"{gpus * 60 * saved / seconds / 1e9:,.0f}",
            )
        )
    return Table(("GPUs", "images/s read", "GB/s, if nothing is cached", "GB of checkpoints per minute"), tuple(rows))


def _saved_bytes_per_s(group: Group, methods: Sequence[str], pack_s: float, overheads: Overheads) -> float:
    """Bytes of checkpoints per second of a pack: weights and momentum of its students and methods, in float32."""
    added = sum(overheads.parameters[row.removesuffix("+kd")] for row in methods)
    size = 8 * (len(methods) * PARAMETERS[group.networks[1]] + added)
    plan = plan_of("paper")
    epoch_s = pack_s / plan.config.recipes[plan.config.student_recipe].epochs
    return size / min(max(epoch_s, size / SAVED_BYTES_PER_S / SAVING_SHARE), SAVED_AT_LEAST_EVERY_S)


def size_table() -> Table:
    """Return the size of each dataset's pixel cache."""
    plan = plan_of("paper")
    rows = []
    for dataset in plan.config.datasets:
        num_images = sum(_images(plan, dataset))
        rows.append((dataset, f"{num_images:,}", f"{num_images * IMAGE_BYTES / 1e9:.1f}"))
    return Table(("dataset", "photographs", "pixel cache (GB)"), tuple(rows))


def filled(page: str, results: str) -> str:
    """Return the page with its tables as the model gives them now.

    Args:
        page: Text with a pair of lines `<!-- NAME -->` and `<!-- end of NAME -->` for each table.
        results: Text of results.md.

    Raises:
        ValueError: If a pair of lines is missing.
    """
    overheads = read_overheads(results)
    tables = {
        "cost": cost_table(overheads),
        "packs": pack_table(overheads),
        "files": file_table(overheads),
        "sizes": size_table(),
    }
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", flags=re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"docs/scaling.md: expected the lines <!-- {name} --> and <!-- end of {name} --> once")
        page = pattern.sub(lambda found, text=str(table): f"{found[1]}\n{text}\n\n{found[2]}", page)
    return page


def renew_page(results: Path) -> None:
    """Write the tables of docs/scaling.md anew."""
    PAGE.write_text(filled(PAGE.read_text(), results.read_text()))
