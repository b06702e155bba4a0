"""How numbers become cells, and cells tables: what all tables of an experiment have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from dctkd.report.captions import seeds_text
from dctkd.report.layout import Group, Layout, Point, numbers_of
from dctkd.report.statistics import Summary, summarise
from dctkd.report.tables.rendering import Cell, Column, Table, TableRow

MAX_GROUPS_SIDE_BY_SIDE = 2
"""Up to so many groups one table holds all quantities; beyond, each quantity has a table with a column per group."""

MEAN_AND_INTERVAL = "Mean \u00b1 half the width of the 95 % t-interval"


@dataclass(frozen=True)
class Quantity:
    """What a column shows: key in the CSV file, heading, and its cell for a group and method."""

    key: str
    label: str
    cell: Callable[[Group, str], Cell]


def arrange(subject: str, layout: Layout, rows: Sequence[str], quantities: Sequence[Quantity]) -> list[Table]:
    """Return one table where the groups fit side by side, else one per quantity."""
    if len(layout.groups) <= MAX_GROUPS_SIDE_BY_SIDE:
        return [side_by_side(subject, layout, layout.groups, rows, quantities)]
    return [_one_quantity(subject, layout, rows, quantity) for quantity in quantities]


def side_by_side(
    subject: str, layout: Layout, groups: Sequence[Group], rows: Sequence[str], quantities: Sequence[Quantity]
) -> Table:
    """Return one table with a column for each group and quantity.

    Args:
        subject: What the table is about; the title names the group too where there is one only.
        layout: Names of the experiment.
        groups: Datasets and pairs.
        rows: Methods.
        quantities: What is shown of each.
    """
    what = f"{subject}, {groups[0].dataset}, {groups[0].pair}" if len(groups) == 1 else subject
    columns = tuple(
        Column(_key(group, q), q.label if len(groups) == 1 else f"{layout.label(group)}: {q.label}")
        for group in groups
        for q in quantities
    )
    body = tuple(TableRow(row, tuple(q.cell(group, row) for group in groups for q in quantities)) for row in rows)
    return Table(f"{what}, {seeds_text(layout)}", columns, body)


def _one_quantity(subject: str, layout: Layout, rows: Sequence[str], quantity: Quantity) -> Table:
    columns = tuple(Column(_key(group, quantity), layout.label(group)) for group in layout.groups)
    body = tuple(TableRow(row, tuple(quantity.cell(group, row) for group in layout.groups)) for row in rows)
    return Table(f"{subject}, {quantity.label}, {seeds_text(layout)}", columns, body)


def _key(group: Group, quantity: Quantity) -> str:
    return f"{group.dataset}/{group.pair}/{quantity.key}"


def with_notes(tables: Sequence[Table], notes: tuple[str, ...]) -> list[Table]:
    """Put the notes, which are about all tables of a file, under the last one."""
    return [*tables[:-1], replace(tables[-1], notes=notes)]


def points_cell(
    points: Mapping[int, Point], format_text: Callable[[float], str], num_seeds: int, remarks: Sequence[str] = ()
) -> Cell:
    """Return a cell with mean and t-interval over seeds; arguments as for `summary_cell`."""
    runs = tuple(point.digest for point in points.values())
    return summary_cell(summarise(numbers_of(points).values()), format_text, runs, num_seeds, remarks)


def summary_cell(
    summary: Summary,
    format_text: Callable[[float], str],
    runs: tuple[str, ...],
    num_seeds: int,
    remarks: Sequence[str] = (),
) -> Cell:
    """Return a cell that shows mean, interval, and n where it is not the one of the title.

    Args:
        summary: The number.
        format_text: Gives the text of a number.
        runs: Digests of the runs behind it.
        num_seeds: n of the title.
        remarks: What else stands in the parentheses.
    """
    text = format_text(summary.mean)
    if summary.half_width is not None:
        text += f" \u00b1 {format_text(summary.half_width).lstrip('+')}"
    marks = [f"n = {summary.n}"] if summary.n != num_seeds else []
    marks += remarks
    if marks:
        text += f" ({', '.join(marks)})"
    return Cell(text, summary.mean, summary.ci_low, summary.ci_high, summary.n, runs)
