"""How large an experiment's networks and datasets are, for what its jobs ask of a batch system (demand.py).

`python -m dctkd.engine.sizes PLAN RESULTS TARGET` measures them in a process of its own: Snakemake's main process runs
for days on a login node, and loads no torch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dctkd.demand import NetworkSize, Sizes, key_of
from dctkd.engine.build import network_of
from dctkd.engine.census import Census, published_census, surveyed_census
from dctkd.engine.footprint import map_bytes
from dctkd.errors import InputError
from dctkd.identity import ModelIdentity, identify_model
from dctkd.metrics.cost import measure_model
from dctkd.models import describe_stages
from dctkd.plan import Plan
from dctkd.plan_file import read_plan

NUM_CLASSES = 1000
"""Of the networks that are measured; the classifier is a small part of them."""

NUM_IMAGES = 2
"""With which kept maps are counted: batch normalisation needs two."""


def measure_sizes(plan: Plan, results: Path) -> Sizes:
    """Build each network of an experiment once, without weights of its own, and count the datasets.

    Args:
        plan: The experiment.
        results: The results folder; datasets that are not packed yet are surveyed where they lie.

    Raises:
        InputError: If a dataset cannot be surveyed or a network cannot be built.
    """
    try:
        census = published_census(plan, results)
    except InputError:
        census = {name: surveyed_census(plan, name) for name in plan.config.datasets}
    used = {name for pair in plan.config.pairs for name in (pair.teacher, pair.student)}
    models = {
        name: identify_model(model, f"{plan.config_file}: models.{name}")
        for name, model in plan.config.models.items()
        if name in used
    }
    measured: dict[str, NetworkSize] = {}
    networks = {}
    for dataset, recipe in plan.config.datasets.items():
        for name, model in models.items():
            known = f"{model.architecture} {model.options} {recipe.input.crop}"
            if known not in measured:
                measured[known] = _measure(model, recipe.input.crop)
            networks[f"{dataset}/{name}"] = measured[known]
    return Sizes(key_of(plan), networks, {name: _images(size) for name, size in census.items()})


def _images(size: Census) -> tuple[int, int]:
    return size.num_train_images, size.num_test_images


def _measure(model: ModelIdentity, crop: int) -> NetworkSize:
    last = describe_stages(model.architecture, model.options)[-1].index
    network = network_of(model, NUM_CLASSES, [last], crop, weights=None, pretrained=False)
    cost = measure_model(network, input_size=crop)
    return NetworkSize(cost.macs, cost.parameters, map_bytes(network, NUM_IMAGES, crop) // NUM_IMAGES)


def main(plan: Path, results: Path, target: Path) -> int:
    """Measure the networks and datasets of a plan; the status is 2, with one line, for a mistake of the user's."""
    try:
        measure_sizes(read_plan(plan), results).write(target)
    except InputError as error:
        sys.stderr.write(str(error))
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
