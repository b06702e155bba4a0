"""The tables of an audit: one per finding, a summary, weights chosen without test images, impossible percentages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dctkd.report.audit.effects import HELD_OUT, Effect, Measurements
from dctkd.report.audit.findings import (
    ATTAINABILITY_TABLE,
    FINDINGS,
    SUMMARY_TABLE,
    WEIGHTS_TABLE,
    Entry,
    Finding,
    entries_of,
)
from dctkd.report.audit.sentences import verdict
from dctkd.report.captions import common_notes, seeds_text
from dctkd.report.collect import Collected
from dctkd.report.layout import TOP1, Group, Layout, Values, numbers_of
from dctkd.report.published import weight_of
from dctkd.report.statistics import Summary, paired_difference
from dctkd.report.sweeps import sweeps
from dctkd.report.tables.arrangement import points_cell, summary_cell
from dctkd.report.tables.attainability import attainability_table
from dctkd.report.tables.comparison import p_text
from dctkd.report.tables.rendering import DASH, Cell, Column, Table, TableRow

EFFECT_COLUMNS = (
    Column("a_percent", "a (%)"),
    Column("b_percent", "b (%)"),
    Column("a_minus_b_points", "a minus b (points)"),
    Column("n", "n"),
    Column("p_holm", "p (Holm)"),
)
LARGEST = Column("largest_points", "largest in one run (points)")
CHOSEN = Column("chosen_rows", "chosen: a / b")
EFFECT_NOTE = (
    "Top-1 accuracy on test images. a minus b: paired by seed, mean \u00b1 half the width of the 95 % t-interval. p: "
    "two-sided paired t-test, Holm-corrected over the rows of this table."
)
CHOSEN_NOTE = (
    "Chosen: the row whose weight has the highest mean accuracy over the seeds on held-out images, which nobody trains "
    "on; on test images where the label says so. The interval is given this choice: another one is not in it."
)


def audit_tables(collected: Collected, values: Values, *, folder: Path = FINDINGS) -> dict[str, list[Table]]:
    """Return the tables of an experiment's audit by name of their file; none without an audit.

    Args:
        collected: The experiment.
        values: Its numbers.
        folder: Where findings lie.

    Raises:
        InputError: If a file of findings, or a run's predictions, are missing or broken.
    """
    audit = collected.plan.config.audit
    if audit is None:
        return {}
    entries = entries_of(collected.plan, folder)
    measurements = Measurements(collected, values)
    effects = {key: measurements.effects(contrasts) for key, contrasts in audit.contrasts.items()}
    made = {SUMMARY_TABLE: [_summary_table(collected, entries, effects)]}
    made |= {entries[key].table: [_finding_table(collected, entries[key], found)] for key, found in effects.items()}
    made[WEIGHTS_TABLE] = _weights_tables(collected, values, measurements)
    made[ATTAINABILITY_TABLE] = [attainability_table(audit.sources, findings=folder)]
    return made


def _summary_table(
    collected: Collected, entries: Mapping[str, Entry], effects: Mapping[str, Sequence[Effect]]
) -> Table:
    columns = (
        Column("finding", "finding"),
        Column("a_minus_b_points", "main effect (points)"),
        Column("p_holm", "p (Holm)"),
        Column("num_shown", "effects shown"),
        Column("verdict", "verdict"),
    )
    rows = []
    for key, found in effects.items():
        known = [effect for effect in found if effect.difference is not None]
        main = known[0] if known else None
        num_shown = sum(effect.is_shown for effect in known)
        cells = (
            Cell(entries[key].content.title),
            _difference_cell(main) if main else Cell(),
            _p_cell(main) if main else Cell(),
            Cell(f"{num_shown} of {len(known)}", num_shown) if known else Cell(),
            Cell(verdict(found, not_measured=entries[key].not_measured)),
        )
        rows.append(TableRow(key, cells))
    notes = (
        "Main effect: that of the first comparison of the finding's own table, a minus b. Effects shown: comparisons "
        "with a corrected p below 0.05.",
        EFFECT_NOTE.replace("this table", "the finding's table"),
        *common_notes(collected),
    )
    return Table(_title(collected, "findings and effects"), columns, tuple(rows), corner="id", notes=notes)


def _finding_table(collected: Collected, entry: Entry, effects: Sequence[Effect]) -> Table:
    has_means = any(effect.largest is not None for effect in effects)
    has_choice = any(any(effect.weights) for effect in effects)
    columns = (*EFFECT_COLUMNS, *((LARGEST,) if has_means else ()), *((CHOSEN,) if has_choice else ()))
    rows = []
    for effect in effects:
        cells = {
            "a_percent": _mean_cell(effect.a, effect.failed[0]),
            "b_percent": _mean_cell(effect.b, effect.failed[1]),
            "a_minus_b_points": _difference_cell(effect),
            "n": Cell(str(effect.difference.n), effect.difference.n) if effect.difference else Cell(),
            "p_holm": _p_cell(effect),
            LARGEST.key: Cell() if effect.largest is None else Cell(f"{effect.largest:.2f}", effect.largest),
            CHOSEN.key: Cell(" / ".join(effect.weights)) if any(effect.weights) else Cell(),
        }
        rows.append(TableRow(effect.label, tuple(cells[column.key] for column in columns)))
    if not rows:
        rows.append(TableRow("not measured", tuple(Cell() for _ in columns)))
    notes = (*_notes_of(entry, effects), EFFECT_NOTE, *((CHOSEN_NOTE,) if has_choice else ()), *common_notes(collected))
    return Table(_title(collected, entry.content.title), columns, tuple(rows), corner="a minus b", notes=notes)


def _notes_of(entry: Entry, effects: Sequence[Effect]) -> Iterator[str]:
    content, source = entry.content, entry.source
    yield f"Verdict: {verdict(effects, not_measured=entry.not_measured)}"
    if not isinstance(content, Finding):
        yield f"Question: {content.text}"
        return
    yield f"Claim ({source.title}): {content.claim}"
    for evidence in content.evidence:
        yield f"Evidence: {source.cite(evidence)}: {evidence.shows}"
    yield f"On tensors and lists ({', '.join(content.shown_by)}): {content.consequence}"
    yield f"Not known: {content.unknown}"


def _weights_tables(collected: Collected, values: Values, measurements: Measurements) -> list[Table]:
    """Return, per dataset and pair, what each method's weight is worth when held-out images choose it."""
    layout = Layout.of(collected.plan)
    columns = (
        Column("weights", "weights tried"),
        Column("own_weight", "default weight"),
        Column("own_percent", "test, default weight (%)"),
        Column("held_out_weight", "weight chosen on held-out images"),
        Column("held_out_percent", "test, chosen weight (%)"),
        Column("gain_points", "chosen minus default (points)"),
        Column("test_weight", "weight best on test images"),
    )
    notes = (
        "Default weight: that of the method, mostly the published one. Chosen: highest mean accuracy over the seeds on "
        "held-out images. Mean \u00b1 half the width of the 95 % t-interval; differences are paired by seed.",
        *common_notes(collected),
    )
    tables = []
    for group in layout.groups:
        rows = tuple(
            TableRow(name, _weight_cells(collected, values, measurements, group, alike))
            for name, alike in sweeps(collected.plan).items()
        )
        where = f", {layout.label(group)}" if len(layout.groups) > 1 else ""
        title = _title(collected, f"weights chosen without test images{where}")
        tables.append(Table(title, columns, rows, corner="method", notes=notes))
    return tables


def _weight_cells(
    collected: Collected, values: Values, measurements: Measurements, group: Group, rows: tuple[str, ...]
) -> tuple[Cell, ...]:
    plan = collected.plan
    num_seeds = len(Layout.of(plan).seeds)
    own = next((row for row in rows if plan.config.methods[row].weight is None), None)
    held_out, test = (max(rows, key=lambda row: measurements.mean(group, row, measure)) for measure in (HELD_OUT, TOP1))
    points = {row: values.of_seeds(group, row, TOP1) for row in rows}
    gain = paired_difference(numbers_of(points[held_out]), numbers_of(points[own])) if own else None
    is_known = bool(values.of_seeds(group, held_out, HELD_OUT))
    return (
        Cell(", ".join(_weight_text(collected, row) for row in rows)),
        _weight_cell(collected, own),
        points_cell(points[own], "{:.2f}".format, num_seeds) if own and points[own] else Cell(),
        _weight_cell(collected, held_out if is_known else None),
        points_cell(points[held_out], "{:.2f}".format, num_seeds) if is_known and points[held_out] else Cell(),
        summary_cell(gain, "{:+.2f}".format, (), num_seeds) if is_known and gain else Cell(),
        _weight_cell(collected, test if points[test] else None),
    )


def _weight_text(collected: Collected, row: str) -> str:
    weight = weight_of(collected.plan, row)
    return "?" if weight is None else f"{weight:g}"


def _weight_cell(collected: Collected, row: str | None) -> Cell:
    if row is None:
        return Cell()
    return Cell(_weight_text(collected, row), weight_of(collected.plan, row))


def _title(collected: Collected, subject: str) -> str:
    layout = Layout.of(collected.plan)
    where = f", {layout.groups[0].dataset}, {layout.groups[0].pair}" if len(layout.groups) == 1 else ""
    return f"{subject}{where}, {seeds_text(layout)}"


def _mean_cell(summary: Summary | None, failed: str) -> Cell:
    if summary is None:
        return Cell(failed or DASH)
    return summary_cell(summary, "{:.2f}".format, (), summary.n, [failed] if failed else [])


def _difference_cell(effect: Effect) -> Cell:
    if effect.difference is None:
        return Cell()
    return summary_cell(effect.difference, "{:+.2f}".format, effect.runs, effect.difference.n)


def _p_cell(effect: Effect) -> Cell:
    return Cell() if effect.p is None else Cell(p_text(effect.p), effect.p)
