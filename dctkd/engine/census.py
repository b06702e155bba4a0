"""How large an experiment's datasets are, and what it leaves on the disk. Imports neither torch nor timm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from dctkd.data.cache import PixelCache
from dctkd.data.held_out import num_held_out
from dctkd.data.survey import survey, survey_classes
from dctkd.late_files import latency_of
from dctkd.plan import Plan, Run
from dctkd.recipe import Recipe
from dctkd.store import read_edge

BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Census:
    """Size of a dataset.

    Attributes:
        num_train_images: With those that a recipe holds out.
        num_held_out: Training images that each fraction of the experiment's recipes holds out.
    """

    num_classes: int
    num_train_images: int
    num_test_images: int
    num_held_out: Mapping[float, int] = field(default_factory=dict)

    def num_trained(self, recipe: Recipe) -> int:
        """Return the number of images that a recipe trains on."""
        fraction = recipe.held_out_fraction
        return self.num_train_images - (0 if fraction is None else self.num_held_out[fraction])

    def to_dict(self, recipe: Recipe) -> dict[str, int]:
        """Return the counts as JSON values, and how many images a recipe holds out if it does."""
        names = ("num_classes", "num_train_images", "num_test_images")
        fraction = recipe.held_out_fraction
        held_out = {} if fraction is None else {"num_held_out_images": self.num_held_out[fraction]}
        return {**{name: getattr(self, name) for name in names}, **held_out}


def published_census(plan: Plan, results: Path) -> dict[str, Census]:
    """Return the size of each dataset of an experiment, from its data.json.

    Raises:
        InputError: If a data.json is missing or not whole, or images are held out and a pixel cache is missing.
    """
    latency_s = latency_of(results, plan.config.shared_results, plan.config.latency_s)
    edges = {name: read_edge(results / plan.name / name / "data.json", latency_s) for name in plan.config.datasets}
    return {
        name: Census(
            edge["num_classes"],
            edge["num_train_images"],
            edge["num_test_images"],
            _num_held_out(plan, partial(_packed_classes, results / edge["cache"])),
        )
        for name, edge in edges.items()
    }


def surveyed_census(plan: Plan, name: str) -> Census:
    """Return the size of a dataset from where it lies; raises as `survey`."""
    identity = plan.data_identity(name)
    where = identity.format, identity.options, plan.data_root(name)
    return Census(*survey(*where), _num_held_out(plan, partial(survey_classes, *where)))


def _num_held_out(plan: Plan, count_classes: Callable[[], list[int]]) -> dict[float, int]:
    """Return how many images each fraction holds out; classes are counted only if there is one."""
    recipes = (plan.config.recipes[name] for name in (plan.config.student_recipe, plan.config.teacher_recipe))
    fractions = {recipe.held_out_fraction for recipe in recipes} - {None}
    counts = count_classes() if fractions else []
    return {fraction: sum(num_held_out(count, fraction) for count in counts) for fraction in fractions if fraction}


def _packed_classes(cache: Path) -> list[int]:
    counts: list[int] = np.bincount(PixelCache.open(cache).labels("train")).tolist()
    return counts


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
