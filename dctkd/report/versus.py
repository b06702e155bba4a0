"""`dctkd compare A B`: a paired comparison of two methods of one experiment, or of two experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dctkd.errors import InputError, did_you_mean
from dctkd.report.collect import Collected, gather
from dctkd.report.edges import refuse_mixed_versions
from dctkd.report.layout import TOP1, Group, Layout, Point, Values, numbers_of
from dctkd.report.statistics import MIN_BLOCKS, PairedTest, compare, holm, mcnemar, signed_rank, summarise
from dctkd.report.tables.arrangement import points_cell, summary_cell
from dctkd.report.tables.comparison import p_text
from dctkd.report.tables.rendering import Cell, Column, Table, TableRow

COLUMNS = (
    Column("a", "A (%)"),
    Column("b", "B (%)"),
    Column("a_minus_b_points", "A minus B (points)"),
    Column("n", "n"),
    Column("p", "p"),
    Column("mcnemar_p_max", "largest McNemar p"),
)
NOTES = (
    "Top-1 after the last epoch. Difference: paired by seed, mean \u00b1 half the width of the 95 % t-interval. "
    "p: two-sided paired t-test over seeds, Holm-corrected over the rows. McNemar: exact, on the same test images, the "
    "largest p of the seeds, Holm-corrected over them; it is about these networks, training noise is not in it.",
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: an experiment, and a method for each row."""

    collected: Collected
    values: Values

    @classmethod
    def of(cls, experiment_dir: Path) -> Side:
        """Read what is finished of an experiment."""
        collected = gather(experiment_dir, experiment_dir.parent / "store", partial=True)
        return cls(collected, Values(collected.frame))

    def points(self, group: Group, method: str) -> dict[int, Point]:
        """Return the top-1 accuracy of each seed."""
        return self.values.of_seeds(group, method, TOP1)


def find_experiment(results: Path, name: str | None) -> Path:
    """Return the folder of an experiment by its name, or of the only one there is.

    Raises:
        InputError: If there is none, or several and no name.
    """
    known = sorted(path.parent.name for path in results.glob("*/plan.json"))
    if name is None and len(known) == 1:
        return results / known[0]
    if name in known:
        return results / str(name)
    listed = ", ".join(known) or "none"
    problem = "which experiment?" if name is None else f"no experiment {name!r}{did_you_mean(name, known)};"
    raise InputError(f"{results}: {problem} Give --experiment NAME of those that were run: {listed}")


def compare_methods(experiment_dir: Path, a: str, b: str) -> Table:
    """Compare two methods of one experiment, a row per dataset and pair, and one over all of them.

    Raises:
        InputError: If the experiment has no such method, or nothing can be compared.
    """
    side = Side.of(experiment_dir)
    layout = Layout.of(side.collected.plan)
    for method in (a, b):
        if method not in layout.methods:
            name = side.collected.plan.name
            raise InputError(f"experiment {name} has no method {method!r}{did_you_mean(method, layout.methods)}")
    rows = {layout.label(group): (side.points(group, a), side.points(group, b)) for group in layout.groups}
    tests = {name: compare(numbers_of(of_a), numbers_of(of_b)) for name, (of_a, of_b) in rows.items()}
    over_blocks = _over_blocks([test.difference.mean for test in tests.values() if test])
    return _table(f"{side.collected.plan.name}: A = {a}, B = {b}", rows, side, side, over_blocks)


def compare_experiments(a: Path, b: Path) -> Table:
    """Compare two experiments, a row per dataset, pair and method that both have.

    Runs are paired by seed; the experiments may differ in anything else, which the reader must know.

    Raises:
        InputError: If they have no dataset, pair and method in common, or versions whose results differ made them.
    """
    one, two = Side.of(a), Side.of(b)
    refuse_mixed_versions(
        [(side.collected.plan, found.planned) for side in (one, two) for found in side.collected.found]
    )
    ours, theirs = (Layout.of(side.collected.plan) for side in (one, two))
    rows = {
        f"{ours.label(group)} {method}": (one.points(group, method), two.points(group, method))
        for group in ours.groups
        for method in ours.methods
        if group in theirs.groups and method in theirs.methods
    }
    title = f"A = {one.collected.plan.name}, B = {two.collected.plan.name}"
    if not rows:
        raise InputError(f"{title}: no dataset, pair and method is in both; names must be equal")
    others = [
        name for name in ours.datasets if _fingerprint(one, name) != _fingerprint(two, name) and name in theirs.datasets
    ]
    notes = [f"The two do not have the same images in {', '.join(others)}: the rows are about different tasks."]
    return _table(title, rows, one, two, notes if others else [])


def _fingerprint(side: Side, dataset: str) -> str | None:
    fingerprint: str | None = side.collected.data.get(dataset, {}).get("fingerprint")
    return fingerprint


def _table(
    title: str,
    rows: Mapping[str, tuple[Mapping[int, Point], Mapping[int, Point]]],
    one: Side,
    two: Side,
    notes: Sequence[str] = (),
) -> Table:
    tests = {name: compare(numbers_of(a), numbers_of(b)) for name, (a, b) in rows.items()}
    if not any(tests.values()):
        raise InputError(f"{title}: no finished run of A has one of B with the same seed; run snakemake first")
    corrected = holm({name: test.p if test else None for name, test in tests.items()})
    body = []
    for name, (a, b) in rows.items():
        test, p = tests[name], corrected[name]
        n = test.difference.n if test else 0
        known = dict(_mcnemar_by_seed(a, b, one, two))
        largest = max((value for value in holm(known).values() if value is not None), default=None)
        cells = (
            _mean_cell(a, "{:.2f}"),
            _mean_cell(b, "{:.2f}"),
            _difference_cell(test) if test else Cell(),
            Cell(str(n), n),
            Cell(p_text(p), p) if p is not None else Cell(f"n = {n}, no test"),
            Cell(p_text(largest), largest) if largest is not None else Cell(),
        )
        body.append(TableRow(name, cells))
    return Table(title, COLUMNS, tuple(body), corner="dataset, pair", notes=(*notes, *NOTES))


def _mcnemar_by_seed(
    a: Mapping[int, Point], b: Mapping[int, Point], one: Side, two: Side
) -> Iterator[tuple[int, float]]:
    """Yield seed and p for the seeds whose networks were tested on the same images."""
    for seed in sorted(a.keys() & b.keys()):
        mine = one.collected.evidence.predictions(a[seed].digest)
        other = two.collected.evidence.predictions(b[seed].digest)
        if mine is not None and other is not None and mine.is_about_the_images_of(other):
            yield seed, mcnemar(mine.is_right, other.is_right).p


def _over_blocks(means: Sequence[float]) -> list[str]:
    """Say what datasets and pairs show together."""
    if len(means) < MIN_BLOCKS:
        return []
    summary, test = summarise(means), signed_rank(means)
    told = test.reason if test.p is None else f"Wilcoxon p {p_text(test.p)}"
    half = "" if summary.half_width is None else f" \u00b1 {summary.half_width:.2f}"
    return [
        f"Over {summary.n} blocks (dataset and pair), seeds averaged first: {summary.mean:+.2f}{half} points; {told}."
    ]


def _difference_cell(test: PairedTest) -> Cell:
    return summary_cell(test.difference, "{:+.2f}".format, (), test.difference.n)


def _mean_cell(points: Mapping[int, Point], form: str) -> Cell:
    return points_cell(points, form.format, len(points)) if points else Cell()
