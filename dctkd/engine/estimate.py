"""What an experiment will cost, before anything is trained: runs, jobs, disk, compute, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dctkd.engine.build import freeze, pair_networks, require_networks, stages_of
from dctkd.engine.census import Census, pixel_bytes, published_census, surveyed_census, weight_bytes
from dctkd.engine.cost import measure_costs
from dctkd.engine.device import resolve_device, resolve_precision
from dctkd.errors import InputError
from dctkd.identity import Identity
from dctkd.models import describe_stages
from dctkd.plan import Plan, Run

TIMED_STEPS = 3
NUM_PROBED_IMAGES = 4
SLOW_S = 1.0
"""A step over the probed images that takes longer is timed once, and never with the whole batch."""


def estimate(plan: Plan, results: Path, *, costs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the costs of an experiment as JSON values.

    MACs: forward of the teacher, and three forwards' worth for each training step of a student (forward, gradient to
        the inputs, gradient to the weights), in frozen stages too. Seconds: from a few timed steps on this machine,
        methods' own time left out.

    Args:
        plan: The experiment.
        results: The results folder; datasets that are not packed yet are surveyed where they lie.
        costs: What `measure_costs` returned for this plan; None: it is counted now.
    """
    require_networks(plan)
    try:
        census = published_census(plan, results)
    except InputError:
        census = {name: surveyed_census(plan, name) for name in plan.config.datasets}
    costs = measure_costs(plan, census) if costs is None else costs
    pairs = [_pair(plan, run, census[run.dataset], costs) for run in _first_runs(plan)]
    num_groups = len(plan.config.datasets) * len(plan.config.pairs) * len(plan.config.seeds)
    num_jobs = len(plan.packs) * num_groups
    # Jobs that do not train: one packs each dataset, one measures each group; one each counts costs, times, reports.
    num_others = len(plan.config.datasets) + num_groups + 3
    student_recipe = plan.config.recipes[plan.config.student_recipe]
    parameters = {name: model["parameters"] for name, model in costs["models"].items()}
    return {
        "experiment": plan.name,
        "runs": len(plan.runs),
        "teachers": len(plan.teachers),
        "jobs": {
            "students": num_jobs,
            "teachers": len(plan.teachers),
            "all": num_jobs + len(plan.teachers) + num_others,
        },
        "packs": [list(pack.methods) for pack in plan.packs],
        "datasets": {name: size.to_dict(student_recipe) for name, size in census.items()},
        "models": costs["models"],
        "methods": costs["methods"],
        "pairs": pairs,
        "disk_bytes": {
            "pixels": sum(pixel_bytes(plan, name, size) for name, size in census.items()),
            "weights": weight_bytes(plan, plan.runs, parameters),
            "largest_checkpoint": max(row["checkpoint_bytes"] for row in costs["methods"].values()),
        },
        "macs": sum(pair["macs"] for pair in pairs),
        "core_seconds": sum(pair["core_seconds"] for pair in pairs),
        "measured_on": {"device": resolve_device(plan.config.device), "cores": torch.get_num_threads()},
    }


def _first_runs(plan: Plan) -> list[Run]:
    """The first run of each dataset and pair."""
    return list({(run.dataset, run.pair): run for run in reversed(plan.runs)}.values())[::-1]


def _pair(plan: Plan, run: Run, size: Census, costs: dict[str, Any]) -> dict[str, Any]:
    identity = Identity.model_validate(run.identity)
    student, teacher = pair_networks(run, size.num_classes)
    freeze(teacher, Identity.model_validate(plan.teacher_of(run).identity))
    seconds = _seconds_per_image(identity, student, teacher, plan)
    teacher_recipe = plan.config.recipes[plan.config.teacher_recipe]
    macs_t, macs_s = (costs["models"][f"{run.dataset}/{name}"]["macs"] for name in (run.teacher, run.student))
    num_seeds, num_methods = len(plan.config.seeds), len(plan.config.methods)
    num_teachers = len({t.seed for t in plan.teachers if (t.dataset, t.teacher) == (run.dataset, run.teacher)})
    student_images = size.num_trained(identity.recipe) * identity.recipe.epochs * num_seeds
    teacher_images = size.num_trained(teacher_recipe) * teacher_recipe.epochs * num_teachers
    passes = student_images * len(plan.packs)
    return {
        "dataset": run.dataset,
        "pair": run.pair,
        "stages": _stage_names(identity),
        "macs": macs_s * 3 * student_images * num_methods + macs_t * (passes + 3 * teacher_images),
        "core_seconds": seconds["student_step"] * student_images * num_methods
        + seconds["teacher_pass"] * passes
        + seconds["teacher_step"] * teacher_images,
        "measured_images_per_second": {name: 1 / value for name, value in seconds.items()},
    }


def _stage_names(identity: Identity) -> list[str]:
    assert identity.teacher_model is not None
    student = describe_stages(identity.model.architecture, identity.model.options)
    teacher = describe_stages(identity.teacher_model.architecture, identity.teacher_model.options)
    return [f"{student[s].name}~{teacher[t].name}" for s, t in stages_of(identity)]


def _seconds_per_image(identity: Identity, student: Any, teacher: Any, plan: Plan) -> dict[str, float]:
    """Time a few steps with the recipe's threads and precision."""
    kind = resolve_device(plan.config.device)
    device = torch.device(kind)
    precision = resolve_precision(identity.recipe.precision, kind)
    torch.set_num_threads(identity.recipe.threads)
    shape = (identity.recipe.batch_size, 3, identity.data.input.crop, identity.data.input.crop)
    images_BCHW = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)

    def forward(model: Any, num_images: int) -> torch.Tensor:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits: torch.Tensor = model(images_BCHW[:num_images]).logits_BK
        return logits

    def step(model: Any, num_images: int) -> None:
        torch.autograd.backward(forward(model, num_images).float().square().mean())

    for model in (student, teacher):
        model.to(device).to(memory_format=torch.channels_last).train()
    batch_size = identity.recipe.batch_size
    seconds = {
        "student_step": _time_per_image(partial(step, student), batch_size, kind),
        "teacher_step": _time_per_image(partial(step, teacher), batch_size, kind),
    }
    with torch.no_grad():
        seconds["teacher_pass"] = _time_per_image(partial(forward, teacher.eval()), batch_size, kind)
    return seconds


def _time_per_image(action: Callable[[int], object], batch_size: int, kind: str) -> float:
    """Return the seconds per image of an action over so many images: of a whole batch, or of a few if it is slow."""
    num_probed = min(NUM_PROBED_IMAGES, batch_size)
    probed_s = _time(partial(action, num_probed), kind)
    if probed_s > SLOW_S or (kind == "cpu" and probed_s * batch_size / num_probed > SLOW_S):
        return probed_s / num_probed
    return _time(partial(action, batch_size), kind) / batch_size


def _time(action: Callable[[], object], kind: str) -> float:
    """Median seconds of an action, after one that does not count; a slow one is timed once."""
    seconds: list[float] = []
    while len(seconds) < TIMED_STEPS + 1 and not (seconds and seconds[0] > SLOW_S):
        started = time.perf_counter()
        action()
        if kind == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:] or seconds)


def print_estimate(costs: dict[str, Any]) -> None:
    """Print an estimate for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    jobs, disk = costs["jobs"], costs["disk_bytes"]
    console.print(
        f"[b]{costs['experiment']}[/b]: {costs['runs']} student runs, {costs['teachers']} teachers, {jobs['all']} jobs"
    )
    console.print(f"packs: {'; '.join(', '.join(pack) for pack in costs['packs'])}")
    networks = Table("network", "parameters", "GMACs", title="networks")
    for name, model in costs["models"].items():
        networks.add_row(name, f"{model['parameters']:,}", f"{model['macs'] / 1e9:.4g}")
    console.print(networks)
    for pair in costs["pairs"]:
        key = f"{pair['dataset']}/{pair['pair']}/"
        rows = Table("row", "extra parameters", "extra GMACs", "checkpoint", title=f"methods, {key.rstrip('/')}")
        for name, row in costs["methods"].items():
            if name.startswith(key):
                extra = "unknown" if row["extra_macs"] is None else f"{row['extra_macs'] / 1e9:.4g}"
                rows.add_row(
                    name.removeprefix(key), f"{row['extra_parameters']:,}", extra, _bytes(row["checkpoint_bytes"])
                )
        console.print(rows)
        console.print(f"stages (student~teacher): {', '.join(pair['stages'])}")
    hours = costs["core_seconds"] / 3600
    device = costs["measured_on"]["device"]
    console.print(
        f"compute: {costs['macs']:.3g} MACs; about {hours:.2g} {device}-job hours at this machine's measured rate"
    )
    console.print(
        f"disk: pixels {_bytes(disk['pixels'])}, weights {_bytes(disk['weights'])}, "
        f"checkpoints of running jobs up to {_bytes(disk['largest_checkpoint'])} per run"
    )


def _bytes(number: float) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
