"""How large an experiment's datasets are, and what it leaves on the disk. Imports neither torch nor timm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dctkd.data.survey import survey
from dctkd.late_files import latency_of
from dctkd.plan import Plan, Run
from dctkd.store import read_edge

BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Census:
    """Size of a dataset."""

    num_classes: int
    num_train_images: int
    num_test_images: int


def published_census(plan: Plan, results: Path) -> dict[str, Census]:
    """Return the size of each dataset of an experiment, from its data.json.

    Raises:
        InputError: If a data.json is missing or not whole.
    """
    latency_s = latency_of(results, plan.config.shared_results, plan.config.latency_s)
    edges = {name: read_edge(results / plan.name / name / "data.json", latency_s) for name in plan.config.datasets}
    return {
        name: Census(edge["num_classes"], edge["num_train_images"], edge["num_test_images"])
        for name, edge in edges.items()
    }


def surveyed_census(plan: Plan, name: str) -> Census:
    """Return the size of a dataset from where it lies; raises as `survey`."""
    identity = plan.data_identity(name)
    return Census(*survey(identity.format, identity.options, plan.data_root(name)))


def pixel_bytes(plan: Plan, name: str, size: Census) -> int:
    """Return about how many bytes the pixel cache of a dataset takes."""
    recipe = plan.data_identity(name).input
    side = recipe.short_side or recipe.crop
    # Photographs are about 4:3; the cache keeps the long side.
    return round(3 * side * side * 4 / 3 * (size.num_train_images + size.num_test_images))


def weight_bytes(plan: Plan, runs: Iterable[Run], parameters: Mapping[str, int]) -> int:
    """Return how many bytes the stored weights of students' runs take.

    Args:
        plan: The experiment; with `keep_weights: none` there are none.
        runs: Students' runs.
        parameters: `<dataset>/<model>` to its number of parameters.
    """
    if plan.config.keep_weights == "none":
        return 0
    return sum(BYTES_PER_PARAMETER * parameters[f"{run.dataset}/{run.student}"] for run in runs)
