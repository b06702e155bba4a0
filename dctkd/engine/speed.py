"""The job that times an experiment's networks on the machine at hand, for speed.json.

speed.json is a measurement: it differs between machines and between calls, is never compared, and no run's identity
depends on it. `latency` is the networks' inference, per batch (latency.py says what is timed). `estimate` is what the
whole experiment would take at the rate of a few training steps (estimate.py). `platform` is where both were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from dctkd.engine.build import pair_networks
from dctkd.engine.census import Census, published_census
from dctkd.engine.device import resolve_device, resolve_precision
from dctkd.engine.estimate import estimate
from dctkd.engine.gpu import job_device
from dctkd.engine.latency import BATCH_SIZES, Setting, measure_latency
from dctkd.errors import InputError
from dctkd.models import StageModel
from dctkd.plan import Plan
from dctkd.provenance import environment
from dctkd.store import read_edge


def measure_speed(plan: Plan, results: Path) -> dict[str, Any]:
    """Time every network of an experiment and estimate the whole experiment.

    Nothing is trained, and no weights are downloaded. All networks, teachers too, are timed with the threads and the
    precision of the students' recipe, so that they compare.

    Args:
        plan: The experiment.
        results: The results folder, with the experiment's cost.json and each dataset's data.json.

    Returns:
        `latency`: `<dataset>/<model>` to the batch size (a string) to median_seconds, p10_seconds, p90_seconds
        (seconds per batch) and repeats; `input_size`: dataset to the side of its images, in pixels; `estimate`:
        core_seconds (of all jobs, one after the other), macs and measured_on; `platform`: as in environment.json.

    Raises:
        InputError: If cost.json or a data.json is missing or of another version of the experiment, or no GPU is free.
    """
    census = published_census(plan, results)
    costs = _published_costs(plan, results)
    recipe = plan.config.recipes[plan.config.student_recipe]
    with _device(plan) as device:
        kind = resolve_device(plan.config.device)
        setting = Setting(device, resolve_precision(recipe.precision, kind), recipe.threads)
        whole = estimate(plan, results, costs=costs)
        latency = {
            name: {
                str(size): measure_latency(model, batch_size=size, input_size=crop, setting=setting).to_dict()
                for size in BATCH_SIZES
            }
            for name, model, crop in _networks(plan, census)
        }
        platform = environment(kind, setting.precision, setting.threads)["platform"]
    return {
        "latency": latency,
        "input_size": {name: plan.data_identity(name).input.crop for name in plan.config.datasets},
        "estimate": {name: whole[name] for name in ("core_seconds", "macs", "measured_on")},
        "platform": platform,
    }


def _published_costs(plan: Plan, results: Path) -> dict[str, Any]:
    path = results / plan.name / "cost.json"
    costs = read_edge(path)
    wanted = {
        "models": {f"{run.dataset}/{name}" for run in plan.runs for name in (run.teacher, run.student)},
        "methods": {f"{run.dataset}/{run.pair}/{run.method}" for run in plan.runs},
    }
    for part, names in wanted.items():
        if missing := sorted(names - set(costs.get(part, ()))):
            raise InputError(f"{path}: {part} lack {missing[0]}; run snakemake again, which renews it")
    return costs


def _networks(plan: Plan, census: Mapping[str, Census]) -> Iterator[tuple[str, StageModel, int]]:
    """Yield `<dataset>/<model>`, the network and the side of its images, each once."""
    seen: set[str] = set()
    for run in plan.runs:
        wanted = {f"{run.dataset}/{run.teacher}": 1, f"{run.dataset}/{run.student}": 0}
        if wanted.keys() <= seen:
            continue
        networks = pair_networks(run, census[run.dataset].num_classes)
        for name, position in wanted.items():
            if name not in seen:
                seen.add(name)
                yield name, networks[position], run.identity["data"]["input"]["crop"]


@contextmanager
def _device(plan: Plan) -> Iterator[torch.device]:
    """Give the experiment's device; a GPU becomes torch's default."""
    with ExitStack() as stack:
        device = stack.enter_context(job_device(resolve_device(plan.config.device)))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        yield device
