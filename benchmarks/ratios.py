"""A ratio of two timings with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """Ratio of medians with a 95 % bootstrap interval, and the bound that it must keep, if it has one.

    A bound holds if the interval reaches it: machines are shared, so a bound is only broken by a whole interval
    beyond it. `goal` is what is aimed at; missing it breaks nothing.
    """

    name: str
    value: float
    low: float
    high: float
    at_most: float | None = None
    at_least: float | None = None
    goal: str = ""
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Tell whether the bound is kept."""
        return (self.at_most is None or self.low <= self.at_most) and (
            self.at_least is None or self.high >= self.at_least
        )

    @property
    def interval(self) -> str:
        """The value with its interval."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def bound(self) -> str:
        """The bound, the goal, and whether the bound is kept; empty where there is none."""
        limit = f"<= {self.at_most:g}" if self.at_most is not None else ""
        limit = f">= {self.at_least:g}" if self.at_least is not None else limit
        verdict = ("ok" if self.holds else "OUT OF BOUNDS") if limit else ""
        goal = f"goal {self.goal}" if self.goal else ""
        return ", ".join(part for part in (limit, goal, verdict) if part)

    def __str__(self) -> str:
        bound = f" ({self.bound})" if self.bound else ""
        return f"{self.name}: {self.interval}{bound} {self.detail}".rstrip()


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians of two paired series, and its 95 % bootstrap interval over pairs."""
    pairs = np.array([numerator, denominator])
    index = np.random.Generator(np.random.Philox(0)).integers(0, pairs.shape[1], size=(NUM_RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, index], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return float(np.median(pairs[0]) / np.median(pairs[1])), float(low), float(high)


def interleave(actions: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Run actions in turns, so that whatever else the machine does hits all of them; each returns its seconds."""
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(repeats):
        for position, action in enumerate(actions):
            seconds[position].append(action())
    return seconds
