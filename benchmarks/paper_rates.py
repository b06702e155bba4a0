"""The paper experiment's cost on published rates of a GPU, and on rates measured here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.method_cost import cost_of_methods
from benchmarks.paper_cost import Job, Rates, groups_of, makespan, packs_for, student_jobs, teacher_jobs
from benchmarks.results import Section, Table
from benchmarks.settings import Setting
from dctkd.config import load
from dctkd.engine.device import Precision
from dctkd.models import build_model
from dctkd.plan import Plan, make_plan

CONFIG = Path(__file__).parents[1] / "config" / "paper.yaml"
RTX3090 = Rates(
    train={
        "resnet18": 3481.78,
        "resnet34": 2036.51,
        "mobilenetv2_100": 2313.1,
        "resnet50": 1218.01,
        "resnet152": 501.44,
    },
    forward={
        "resnet18": 11188.75,
        "resnet34": 6529.57,
        "mobilenetv2_100": 9887.57,
        "resnet50": 3729.86,
        "resnet152": 1606.24,
    },
)
"""Not measured by this project: timm's results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv and
benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv, 224 px (github.com/huggingface/pytorch-image-models)."""
GPUS = (1, 8, 64)
NUM_PROBED = 8
"""Images of a batch with which a core is timed."""


def measure_paper_cost(setting: Setting) -> Section:
    """Model the cost of config/paper.yaml."""
    plan = make_plan(load(CONFIG, {"data_root": "."}), config_file=str(CONFIG))
    overheads = {cost.method: cost.ratio for cost in cost_of_methods(setting)}
    if setting.is_quick:
        overheads = dict.fromkeys((row.removesuffix("+kd") for row in plan.config.methods), 1.0)
    core = RTX3090 if setting.is_quick else rates_of_a_core(RTX3090, setting.precision)
    about = (
        f"A model, not a measurement: {len(plan.runs)} runs and {len(plan.teachers)} teachers of config/paper.yaml. "
        "GPU rates are public figures of an RTX 3090 under AMP (timm's benchmark csv files), not ours: no GPU was "
        "used. Methods' overheads are those measured on one core above, as shares of a step, applied to all pairs and "
        "devices. The formulas stand in benchmarks/paper_cost.py; reading, start-up and report are left out. Packs "
        "are those that `students_per_job: auto` cuts."
    )
    tables = (_gpu_table(plan, overheads), _core_table(plan, core, overheads))
    return Section("The paper experiment's cost", about, tables=tables)


def _jobs(plan: Plan, rates: Rates, overheads: dict[str, float], num_devices: int, *, is_shared: bool) -> list[Job]:
    groups = groups_of(plan)
    alone = tuple((row,) for row in plan.config.methods)
    packs = packs_for(plan, groups, num_devices) if is_shared else alone
    return [*teacher_jobs(plan, rates), *student_jobs(groups, rates, overheads, packs)]


def _gpu_table(plan: Plan, overheads: dict[str, float]) -> Table:
    rows = []
    for gpus in GPUS:
        shared, alone = (_jobs(plan, RTX3090, overheads, gpus, is_shared=is_shared) for is_shared in (True, False))
        hours = [makespan(jobs, gpus) / 3600 for jobs in (shared, alone)]
        busy = [sum(job.seconds for job in jobs) / 3600 for jobs in (shared, alone)]
        num_packs = len(packs_for(plan, groups_of(plan), gpus))
        cells = (*hours, hours[1] / hours[0], *busy)
        rows.append(
            (
                str(gpus),
                str(num_packs),
                *(f"{cell:,.1f}" for cell in cells[:2]),
                f"{cells[2]:.2f}",
                *(f"{cell:,.0f}" for cell in cells[3:]),
            )
        )
    header = ("GPUs", "packs of a group", "hours", "hours, not shared", "ratio", "GPU-hours", "GPU-hours, not shared")
    return Table(
        header,
        tuple(rows),
        "On public rates of an RTX 3090; not shared: every student has a teacher's pass of its own.",
    )


def _core_table(plan: Plan, core: Rates, overheads: dict[str, float]) -> Table:
    shared, alone = (_jobs(plan, core, overheads, 1, is_shared=is_shared) for is_shared in (True, False))
    hours = [sum(job.seconds for job in jobs) / 3600 for jobs in (shared, alone)]
    rates = "; ".join(f"{name} {core.train[name]:.1f}, {core.forward[name]:.1f}" for name in core.train)
    caption = f"On the CPU, at rates measured here: images/s of one core at 224 px (training, forward alone): {rates}."
    return Table(
        ("core-hours", "core-hours, not shared", "ratio"),
        ((*(f"{h:,.0f}" for h in hours), f"{hours[1] / hours[0]:.2f}"),),
        caption,
    )


def rates_of_a_core(like: Rates, precision: Precision, input_size: int = 224) -> Rates:
    """Time the networks on one thread, on a few random images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train, forward = {}, {}
    for name in like.train:
        train[name], forward[name] = _rates_of_network(name, precision, input_size)
    torch.set_num_threads(threads)
    return Rates(train, forward)


def _rates_of_network(name: str, precision: Precision, input_size: int) -> tuple[float, float]:
    model = build_model(name, num_classes=100, stage_indices=[0, 1, 2, 3], input_size=input_size)
    model = model.to(memory_format=torch.channels_last).train()
    images_BCHW = torch.randn(NUM_PROBED, 3, input_size, input_size).contiguous(memory_format=torch.channels_last)

    def run() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits: torch.Tensor = model(images_BCHW).logits_BK
        return logits.float().square().mean()

    training = NUM_PROBED / _seconds(lambda: run().backward())
    with torch.no_grad():
        return training, NUM_PROBED / _seconds(run)


def _seconds(action: Callable[[], object]) -> float:
    """Return the shorter of two times, after one that does not count."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
