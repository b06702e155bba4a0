"""The table of comparisons: methods against the baseline and against the best, within and over datasets and pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dctkd.report.captions import common_notes, seeds_text
from dctkd.report.collect import Collected
from dctkd.report.evidence import Evidence
from dctkd.report.layout import BASELINE, TOP1, Group, Layout, Measure, Point, Values, numbers_of
from dctkd.report.statistics import (
    ALPHA,
    MIN_BLOCKS,
    MIN_METHODS,
    PairedTest,
    SignedRank,
    Summary,
    against_best,
    compare,
    complete_blocks,
    holm,
    mcnemar,
    rank,
    signed_rank,
    summarise,
)
from dctkd.report.tables.arrangement import summary_cell
from dctkd.report.tables.rendering import Cell, Column, Table, TableRow

LEAST_SHOWN_P = 0.001

NOTES = (
    "Differences are paired by seed (same batches, same start): mean \u00b1 half the width of the 95 % t-interval, not "
    "corrected. p: two-sided paired t-test over seeds, Holm-corrected over the methods of the table. n = 1: no test.",
    "McNemar: exact test of each network against the baseline's network of the same seed on the same test images, Holm-"
    "corrected over methods; shown is the largest p of the seeds, so that below 0.05 the two differ in every seed. It "
    "is about these networks: training noise is not in it.",
    "Best: the highest mean of the table. Because the best is chosen by looking, its p is Holm-corrected over all "
    "pairs of methods. Not distinguished is not equal: with few seeds, methods may still differ by much",
)


@dataclass(frozen=True)
class Versus:
    """A method against a reference within one dataset and pair.

    Attributes:
        test: Paired t-test over seeds; None if no seed is common.
        p: Its p-value after correction; None where there is no test.
        mcnemar_p: Corrected p-value of McNemar's test by seed, for the seeds whose predictions are known.
        digests: Runs behind the comparison.
    """

    test: PairedTest | None
    p: float | None
    mcnemar_p: Mapping[int, float]
    digests: tuple[str, ...]


def p_text(p: float) -> str:
    """Return a p-value as tables show it.

    Example:
        >>> p_text(0.0341), p_text(0.00004)
        ('0.034', '< 0.001')
    """
    return f"{p:.3f}" if p >= LEAST_SHOWN_P else f"< {LEAST_SHOWN_P}"


def bold_methods(values: Values, group: Group, methods: Sequence[str], measure: Measure) -> frozenset[str]:
    """Return the methods that are not distinguishable from the best at 5 %; empty where there is no test."""
    found = {method: numbers_of(values.of_seeds(group, method, measure)) for method in methods}
    known = {method: points for method, points in found.items() if points}
    return (against_best(known).indistinguishable or frozenset()) if len(known) > 1 else frozenset()


def against(
    values: Values, evidence: Evidence, group: Group, methods: Sequence[str], reference: str
) -> dict[str, Versus]:
    """Compare the top-1 accuracy of methods with that of a reference, within one dataset and pair.

    Args:
        values: Numbers of the experiment.
        evidence: Reader of the predictions.
        group: Dataset and pair.
        methods: Compared methods; the reference itself is left out.
        reference: What they are compared with.

    Returns:
        By method: the paired test with its p Holm-corrected over the methods; McNemar's p by seed, corrected so too.
    """
    base = values.of_seeds(group, reference, TOP1)
    own = {method: values.of_seeds(group, method, TOP1) for method in methods if method != reference}
    tests = {method: compare(numbers_of(points), numbers_of(base)) for method, points in own.items()}
    corrected = holm({method: test.p if test else None for method, test in tests.items()})
    by_seed = {seed: _mcnemar_of_seed(evidence, own, base[seed], seed) for seed in base}
    compared = {}
    for method, points in own.items():
        common = [seed for seed in points if seed in base]
        digests = (*(points[seed].digest for seed in common), *(base[seed].digest for seed in common))
        p_values = {seed: by_seed[seed].get(method) for seed in common}
        known = {seed: p for seed, p in p_values.items() if p is not None}
        compared[method] = Versus(tests[method], corrected[method], known, digests)
    return compared


def comparison_tables(collected: Collected, values: Values) -> list[Table]:
    """Return a table per dataset and pair, and one over all of them where there are several."""
    layout = Layout.of(collected.plan)
    tables = [_group_table(collected, values, layout, group) for group in layout.groups]
    notes = [*NOTES[:-1], f"{NOTES[-1]}{_strictness(layout)}."]
    if len(layout.groups) >= MIN_BLOCKS:
        table, words = _block_table(values, layout)
        tables.insert(0, table)
        notes += words
    last = tables[-1]
    notes += common_notes(collected)
    return [*tables[:-1], Table(last.title, last.columns, last.rows, last.corner, tuple(notes))]


def _strictness(layout: Layout) -> str:
    """Say how large a difference must be before it counts against the best."""
    num_seeds, num_pairs = len(layout.seeds), math.comb(len(layout.methods), 2)
    if num_seeds < 2 or num_pairs == 0:
        return ""
    from scipy.special import stdtrit

    t = float(stdtrit(num_seeds - 1, 1 - ALPHA / num_pairs / 2))
    return f"; with n = {num_seeds} and {num_pairs} pairs the first p falls below {ALPHA} at {t:.0f} standard errors"


def _mcnemar_of_seed(
    evidence: Evidence, own: Mapping[str, Mapping[int, Point]], base: Point, seed: int
) -> dict[str, float | None]:
    """Return the corrected p-value of each method's network of one seed against the reference's."""
    reference = evidence.predictions(base.digest)
    p_values: dict[str, float | None] = {}
    for method, points in own.items():
        mine = evidence.predictions(points[seed].digest) if seed in points else None
        if mine is not None and reference is not None and mine.is_about_the_images_of(reference):
            p_values[method] = mcnemar(mine.is_right, reference.is_right).p
    return holm(p_values)


def _group_table(collected: Collected, values: Values, layout: Layout, group: Group) -> Table:
    found = {method: numbers_of(values.of_seeds(group, method, TOP1)) for method in layout.methods}
    known = {method: points for method, points in found.items() if points}
    best = against_best(known) if len(known) > 1 else None
    versus_baseline = (
        against(values, collected.evidence, group, layout.methods, BASELINE) if BASELINE in layout.methods else {}
    )
    rows = []
    for method in layout.methods:
        base = versus_baseline.get(method)
        to_best = compare(known[method], known[best.best]) if best and method in known and method != best.best else None
        p = best.p.get(method) if best else None
        digests = tuple(point.digest for point in values.of_seeds(group, method, TOP1).values())
        cells = (
            _difference_cell(base.test, base.digests) if base else Cell(),
            _p_cell(base.p, base.test) if base else Cell(),
            _mcnemar_cell(base) if base else Cell(),
            Cell("best", None, runs=digests) if best and method == best.best else _difference_cell(to_best, digests),
            _p_cell(p, to_best),
        )
        rows.append(TableRow(method, cells))
    name = f"{group.dataset}/{group.pair}"
    columns = (
        Column(f"{name}/minus_baseline_points", f"minus {BASELINE} (points)"),
        Column(f"{name}/minus_baseline_p_holm", "p (Holm)"),
        Column(f"{name}/minus_baseline_mcnemar_p_holm_max", "largest McNemar p (Holm)"),
        Column(f"{name}/minus_best_points", "minus the best (points)"),
        Column(f"{name}/minus_best_p_holm", "p (Holm, all pairs)"),
    )
    return Table(f"top-1 compared, {group.dataset}, {group.pair}, {seeds_text(layout)}", columns, tuple(rows))


def block_means(values: Values, layout: Layout) -> pd.DataFrame:
    """Return top-1 of each method (columns) in each dataset and pair (rows), seeds averaged; NaN where missing."""
    means = {
        layout.label(group): {
            method: summarise(numbers).mean
            for method in layout.methods
            if (numbers := numbers_of(values.of_seeds(group, method, TOP1)).values())
        }
        for group in layout.groups
    }
    return pd.DataFrame.from_dict(means, orient="index", columns=list(layout.methods), dtype="float64")


def _block_table(values: Values, layout: Layout) -> tuple[Table, list[str]]:
    """Return the comparison over blocks, and what its note says."""
    frame, dropped = complete_blocks(block_means(values, layout))
    can_rank = frame.shape[0] >= MIN_BLOCKS and frame.shape[1] >= MIN_METHODS
    ranking = rank(frame) if can_rank else None
    differences = (
        {method: (frame[method] - frame[BASELINE]).tolist() for method in frame if method != BASELINE}
        if BASELINE in frame and len(frame)
        else {}
    )
    tests = {method: signed_rank(numbers) for method, numbers in differences.items()}
    corrected = holm({method: test.p for method, test in tests.items()})
    num_blocks = len(frame)
    rows = []
    for method in layout.methods:
        has_values = method in frame and num_blocks > 0
        mean = summarise(frame[method]) if has_values else None
        difference = summarise(differences[method]) if method in differences else None
        mean_rank = ranking.mean_rank[method] if ranking and has_values else None
        cells = (
            _cell_of(mean, "{:.2f}"),
            Cell() if mean_rank is None else Cell(f"{mean_rank:.2f}", mean_rank, n=num_blocks),
            _cell_of(difference, "{:+.2f}"),
            _signed_rank_cell(tests.get(method), corrected.get(method)),
        )
        rows.append(TableRow(method, cells))
    columns = (
        Column("blocks/top1_percent", "top-1 (%)"),
        Column("blocks/mean_rank", "mean rank"),
        Column("blocks/minus_baseline_points", f"minus {BASELINE} (points)"),
        Column("blocks/minus_baseline_wilcoxon_p_holm", "Wilcoxon p (Holm)"),
    )
    words = [
        f"Over blocks: {num_blocks} blocks (dataset and pair), seeds averaged first; means and intervals over blocks, "
        "which share datasets and teachers and so are less than independent.",
        *_wilcoxon_words(num_blocks, sum(test.p is not None for test in tests.values())),
        *dropped,
    ]
    if ranking:
        able = "" if ranking.is_able_to_separate else "; so few blocks cannot separate any two methods"
        words.append(
            f"Ranks: 1 is best. Friedman p {p_text(ranking.friedman_p)}; mean ranks that differ by less than the "
            f"critical difference {ranking.critical_difference:.2f} (Nemenyi, 5 %) are not distinguishable{able}."
        )
    return Table(f"top-1 compared over {num_blocks} blocks", columns, tuple(rows)), words


def _wilcoxon_words(num_blocks: int, num_tests: int) -> list[str]:
    if num_blocks == 0:
        return []
    least = 2.0 ** (1 - num_blocks)
    if least > ALPHA:
        return [f"Wilcoxon: {num_blocks} blocks give no p below {least:.3g}, so there is no test."]
    text = f"Wilcoxon: the least p that {num_blocks} blocks can give is {least:.2g}"
    if num_tests and least * num_tests > ALPHA:
        text += (
            f"; after Holm's correction for {num_tests} methods {least * num_tests:.2g}, so none can fall below 0.05"
        )
    return [f"{text}."]


def _difference_cell(test: PairedTest | None, digests: tuple[str, ...]) -> Cell:
    return Cell() if test is None else _cell_of(test.difference, "{:+.2f}", digests)


def _cell_of(summary: Summary | None, form: str, digests: tuple[str, ...] = ()) -> Cell:
    return Cell() if summary is None else summary_cell(summary, form.format, digests, summary.n)


def _p_cell(p: float | None, test: PairedTest | None) -> Cell:
    if test is None:
        return Cell()
    return Cell(f"n = {test.difference.n}, no test") if p is None else Cell(p_text(p), p, n=test.difference.n)


def _mcnemar_cell(versus: Versus) -> Cell:
    if not versus.mcnemar_p:
        return Cell()
    largest = max(versus.mcnemar_p.values())
    return Cell(p_text(largest), largest, n=len(versus.mcnemar_p), runs=versus.digests)


def _signed_rank_cell(test: SignedRank | None, p: float | None) -> Cell:
    if test is None:
        return Cell()
    return Cell("no test") if p is None else Cell(p_text(p), p, n=test.num_blocks)
