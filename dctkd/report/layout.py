"""The order in which datasets, pairs and methods are shown, and their numbers looked up in the tidy table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pandas as pd

from dctkd.plan import Plan


@dataclass(frozen=True)
class Group:
    """One dataset and pair: the smallest part of an experiment in which methods can be compared."""

    dataset: str
    pair: str


@dataclass(frozen=True)
class Layout:
    """Names in the order of the config, taken from the order of the planned runs."""

    datasets: tuple[str, ...]
    pairs: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Return the layout of a plan."""
        return cls(
            tuple(dict.fromkeys(run.dataset for run in plan.runs)),
            tuple(dict.fromkeys(run.pair for run in plan.runs if run.pair)),
            tuple(dict.fromkeys(run.method for run in plan.runs if run.method)),
            tuple(dict.fromkeys(run.seed for run in plan.runs)),
        )

    @property
    def groups(self) -> tuple[Group, ...]:
        """All combinations of dataset and pair."""
        return tuple(Group(dataset, pair) for dataset in self.datasets for pair in self.pairs)

    def label(self, group: Group) -> str:
        """Return a group's shortest distinct name: what all groups share is left out.

        Example:
            >>> layout = Layout(("mit67", "sun397"), ("wide__narrow",), ("kd",), (0,))
            >>> layout.label(Group("mit67", "wide__narrow"))
            'mit67'
        """
        parts = [group.dataset] if len(self.datasets) > 1 else []
        parts += [group.pair] if len(self.pairs) > 1 else []
        return " ".join(parts) or f"{group.dataset} {group.pair}"


@dataclass(frozen=True)
class Measure:
    """What was measured: metric, stage of the run or of the network, split of the data."""

    metric: str
    stage: str = "last"
    split: str = "test"


BASELINE = "baseline"
"""Method that learns from the labels alone; every other one is compared with it."""

SHORT_STATUS = {"diverged": "div.", "oom": "oom"}
"""How tables and figures name what kept a run from a result."""

TOP1 = Measure("top1_percent")
MCA = Measure("mca_present_percent")


@dataclass(frozen=True)
class Point:
    """One run's value of one measure."""

    value: float
    digest: str


def numbers_of(points: Mapping[int, Point]) -> dict[int, float]:
    """Return the value of each seed."""
    return {seed: point.value for seed, point in points.items()}


class Values:
    """Numbers of a tidy table by dataset, pair, method and measure; only runs with status ok count."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._points: dict[tuple[Group, str, Measure], dict[int, Point]] = {}
        self._costs: dict[tuple[Group, str, str], float] = {}
        self._failed: dict[tuple[Group, str], Counter[str]] = {}
        names = ["dataset", "pair", "method", "seed", "metric", "stage", "split", "value", "status", "digest"]
        columns = (frame[name].tolist() for name in names)
        for dataset, pair, method, seed, metric, stage, split, value, status, digest in zip(*columns, strict=True):
            group = Group(dataset, pair)
            if status == "":
                self._costs[group, method, metric] = value
            elif status == "ok":
                self._points.setdefault((group, method, Measure(metric, stage, split)), {})[seed] = Point(value, digest)
            elif metric == "epochs_trained":
                self._failed.setdefault((group, method), Counter())[status] += 1

    def of_seeds(self, group: Group, method: str, measure: Measure) -> dict[int, Point]:
        """Return the value of each seed, in order of seed; empty if there is none."""
        return dict(sorted(self._points.get((group, method, measure), {}).items()))

    def cost(self, group: Group, method: str, metric: str) -> float | None:
        """Return a number of cost.json, or None if it is not known."""
        return self._costs.get((group, method, metric))

    def failures(self, group: Group, method: str) -> Counter[str]:
        """Return how many runs ended as diverged or oom."""
        return self._failed.get((group, method), Counter())

    def measures(self, metric: str) -> tuple[Measure, ...]:
        """Return the measures of a metric: stages by number, the mean last.

        Example:
            >>> row = dict.fromkeys(("dataset", "pair", "method", "digest"), "x") | {"seed": 0, "value": 0.5}
            >>> row |= {"metric": "ssim", "split": "test", "status": "ok"}
            >>> frame = pd.DataFrame([row | {"stage": stage} for stage in ("mean", "stage10", "stage2")])
            >>> [measure.stage for measure in Values(frame).measures("ssim")]
            ['stage2', 'stage10', 'mean']
        """
        found = {measure for _, _, measure in self._points if measure.metric == metric}
        return tuple(sorted(found, key=_natural_order))


def _natural_order(measure: Measure) -> tuple[bool, int, str]:
    digits = re.sub(r"\D", "", measure.stage)
    return measure.stage == "mean", int(digits or 0), measure.stage
