"""How large the effects of an audit's contrasts are: paired differences over seeds, corrected within a finding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dctkd.contrasts import ALL_ROWS, Contrast, Side
from dctkd.report.collect import Collected
from dctkd.report.layout import SHORT_STATUS, TOP1, Group, Layout, Measure, Values
from dctkd.report.statistics import ALPHA, Summary, compare, holm, summarise
from dctkd.report.sweeps import sweeps
from dctkd.report.verdicts import released_top1_percent

HELD_OUT = Measure(TOP1.metric, "last", "held_out")
RELEASED_BATCH_SIZE = 256
"""Images per test batch of P1's released meter (Config/Training/config_SGD.yaml, BS_TEST, commit 3d70d15)."""


@dataclass(frozen=True)
class Chosen:
    """Values of one side.

    Attributes:
        percent: Top-1 accuracy by row and seed.
        runs: Digests of the runs behind them.
        weights: Rows that were chosen for their weight; empty where nothing was chosen.
    """

    percent: Mapping[tuple[str, int], float]
    runs: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()

    def by_seed(self, rows: Sequence[str]) -> dict[int, float]:
        """Return the mean over rows of each seed that all of them have."""
        seeds = sorted({seed for row, seed in self.percent if row in rows})
        complete = [seed for seed in seeds if all((row, seed) in self.percent for row in rows)]
        return {seed: math.fsum(self.percent[row, seed] for row in rows) / len(rows) for seed in complete}


@dataclass(frozen=True)
class Effect:
    """What one contrast shows on one dataset and pair.

    Attributes:
        label: What differs.
        a: Mean top-1 accuracy of the first side, in percent; None where nothing is finished.
        b: That of the second.
        difference: a - b in points, paired by seed; None where no seed has both.
        p: Two-sided p of the paired t-test, Holm-corrected over the finding's contrasts; None where there is no test.
        largest: Largest difference of a single run between the sides, in points; None where a side is one row.
        weights: Rows chosen for their weight, of a and of b.
        failed: Runs of a and of b that have no accuracy, such as "3 div.".
        runs: Digests of all runs behind it.
    """

    label: str
    a: Summary | None
    b: Summary | None
    difference: Summary | None
    p: float | None = None
    largest: float | None = None
    weights: tuple[str, str] = ("", "")
    failed: tuple[str, str] = ("", "")
    runs: tuple[str, ...] = ()

    @property
    def is_shown(self) -> bool:
        """Whether the corrected test says that the sides differ."""
        return self.p is not None and self.p < ALPHA


@dataclass
class Measurements:
    """Reads the sides of contrasts from the runs of an experiment."""

    collected: Collected
    values: Values
    swept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out which rows differ in their weight alone."""
        self.swept = sweeps(self.collected.plan)

    def effects(self, contrasts: Sequence[Contrast]) -> list[Effect]:
        """Return the effects of a finding's contrasts, on each dataset and pair, p corrected over all of them."""
        layout = Layout.of(self.collected.plan)
        named = [(group, contrast) for contrast in contrasts for group in layout.groups]
        raw = [self._effect(group, contrast, layout) for group, contrast in named]
        corrected = holm({number: one.p for number, one in enumerate(raw)})
        return [Effect(**{**vars(one), "p": corrected[number]}) for number, one in enumerate(raw)]

    def _effect(self, group: Group, contrast: Contrast, layout: Layout) -> Effect:
        a, b = (self.side(group, side) for side in (contrast.a, contrast.b))
        is_mean = contrast.a.row == ALL_ROWS
        rows = _rows_of_all_seeds(a, b) if is_mean else None
        by_seed_a = a.by_seed([contrast.a.row] if rows is None else rows)
        by_seed_b = b.by_seed([contrast.b.row] if rows is None else rows)
        test = compare(by_seed_a, by_seed_b)
        singles = [abs(a.percent[key] - b.percent[key]) for key in a.percent.keys() & b.percent.keys()]
        where = f"{layout.label(group)}: " if len(layout.groups) > 1 else ""
        count = "" if rows is None else f" ({len(rows)})"
        return Effect(
            label=f"{where}{contrast.label}{count}",
            a=_summary(by_seed_a.values()),
            b=_summary(by_seed_b.values()),
            difference=test.difference if test else None,
            p=test.p if test else None,
            largest=max(singles, default=None) if is_mean else None,
            weights=(", ".join(a.weights), ", ".join(b.weights)),
            failed=(self._failed(group, contrast.a), self._failed(group, contrast.b)),
            runs=tuple(dict.fromkeys((*a.runs, *b.runs))),
        )

    def side(self, group: Group, side: Side) -> Chosen:
        """Return the values of a side, after its rows are chosen."""
        rows = self._rows(side)
        chosen = {name: self._choose(group, alike, side.weight) for name, alike in rows.items()}
        percent: dict[tuple[str, int], float] = {}
        runs: list[str] = []
        for name, row in chosen.items():
            for seed, (value, digest) in self._points(group, row, side).items():
                percent[name, seed] = value
                runs.append(digest)
        weights = () if side.weight == "own" or side.row == ALL_ROWS else tuple(chosen.values())
        return Chosen(percent, tuple(runs), weights)

    def _failed(self, group: Group, side: Side) -> str:
        counts = self.values.failures(group, side.row) if side.weight == "own" else {}
        return ", ".join(f"{count} {SHORT_STATUS[status]}" for status, count in sorted(counts.items()))

    def _rows(self, side: Side) -> dict[str, tuple[str, ...]]:
        """Return the rows that stand for a side, each with those of other weights that may be chosen for it."""
        if side.row == ALL_ROWS:
            layout = Layout.of(self.collected.plan)
            return dict(self.swept) if side.weight != "own" else {row: (row,) for row in layout.methods}
        if side.weight == "own":
            return {side.row: (side.row,)}
        return {side.row: self.alike(side.row)}

    def alike(self, row: str) -> tuple[str, ...]:
        """Return the rows that differ from one in nothing but the weight, itself included, by rising weight."""
        return next((rows for rows in self.swept.values() if row in rows), (row,))

    def _choose(self, group: Group, rows: tuple[str, ...], by: str) -> str:
        """Return the row with the highest mean accuracy over seeds; of equal ones that of the smallest weight."""
        if by == "own" or len(rows) == 1:
            return rows[0]
        means = {row: self.mean(group, row, HELD_OUT if by == "held_out" else TOP1) for row in rows}
        return max(rows, key=lambda row: means[row])

    def mean(self, group: Group, row: str, measure: Measure) -> float:
        """Return a row's mean over its seeds, minus infinity without any."""
        values = [point.value for point in self.values.of_seeds(group, row, measure).values()]
        return math.fsum(values) / len(values) if values else -math.inf

    def _points(self, group: Group, row: str, side: Side) -> dict[int, tuple[float, str]]:
        points = self.values.of_seeds(group, row, Measure(TOP1.metric, side.epoch))
        if side.meter == "exact":
            return {seed: (point.value, point.digest) for seed, point in points.items()}
        read = {seed: self._released(point.digest) for seed, point in points.items()}
        return {seed: (value, points[seed].digest) for seed, value in read.items() if value is not None}

    def _released(self, digest: str) -> float | None:
        found = self.collected.evidence.predictions(digest)
        if found is None:
            return None
        return released_top1_percent(found.is_right[found.index_N.argsort()], RELEASED_BATCH_SIZE)


def _rows_of_all_seeds(a: Chosen, b: Chosen) -> list[str]:
    """Return the rows that have every seed on both sides: one that diverged once must not take a seed from all."""
    both = a.percent.keys() & b.percent.keys()
    seeds = {seed for _, seed in both}
    names = dict.fromkeys(row for row, _ in a.percent)
    return [row for row in names if seeds and all((row, seed) in both for seed in seeds)]


def _summary(values: Iterable[float]) -> Summary | None:
    known = list(values)
    return summarise(known) if known else None
