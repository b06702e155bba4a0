"""The table of published percentages that no number of right images gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dctkd.errors import InputError
from dctkd.report.attainability import Examination, examine
from dctkd.report.audit.findings import FINDINGS, Percentages, read_source
from dctkd.report.published import REPORTED, read_lines
from dctkd.report.tables.rendering import DASH, Cell, Column, Table, TableRow

COLUMNS = (
    Column("num_images", "test images"),
    Column("num_values", "values"),
    Column("num_impossible", "impossible as an accuracy"),
    Column("possible_by_chance", "possible by chance"),
    Column("num_impossible_by_meter", "impossible by the released meter"),
    Column("possible_by_meter_by_chance", "possible by chance by that meter"),
    Column("impossible", "which"),
)
NOTES = (
    "With N test images an accuracy is 100 k / N for a whole number k of right images. Impossible: no k gives the "
    "number, rounded to the digits that were published (half-way counts for both). Possible by chance: how many of as "
    "many random numbers with these digits would be possible; where that is nearly all, the check says little.",
    "Released meter: the mean accuracy of the test batches, a short last one counted as a full one. What it can give is"
    " not thereby shown to come from it.",
)
MAX_LISTED = 12


def attainability_table(sources: Sequence[str], *, findings: Path = FINDINGS, reported: Path = REPORTED) -> Table:
    """Return how many published percentages of each table are impossible.

    Args:
        sources: Names of files of findings, which say how many test images there were.
        findings: Their folder.
        reported: Folder of the published numbers.

    Raises:
        InputError: If a file is missing or broken, or the size of a test set is not given.
    """
    known = [one for name in sources for one in read_source(name, findings).percentages]
    rows = tuple(row for one in known for row in _rows(one, reported / one.values))
    notes = tuple(f"{one.values}: {' '.join(one.note.split())}" for one in known if one.note)
    return Table(
        "published percentages that are impossible", COLUMNS, rows, corner="file, table", notes=(*NOTES, *notes)
    )


def _rows(percentages: Percentages, path: Path) -> Iterator[TableRow]:
    texts: dict[tuple[str, str], list[str]] = {}
    for entry in read_lines(path):
        if entry["metric"] in percentages.metrics:
            texts.setdefault((entry["table"], entry["dataset"]), []).append(entry["value"])
    for (table, dataset), values in texts.items():
        if dataset not in percentages.num_test_images:
            raise InputError(f"{path}: {dataset}: num_test_images of the file of findings does not say how many images")
        num_images = percentages.num_test_images[dataset]
        found = examine(values, num_images)
        by_meter = None
        if percentages.batch_size is not None:
            by_meter = examine(values, num_images, batch_size=percentages.batch_size)
        yield TableRow(f"{path.name}: {table}, {dataset}", _cells(num_images, found, by_meter))


def _cells(num_images: int, found: Examination, by_meter: Examination | None) -> tuple[Cell, ...]:
    listed = ", ".join(found.impossible[:MAX_LISTED])
    more = len(found.impossible) - MAX_LISTED
    return (
        Cell(f"{num_images:,}", num_images),
        Cell(str(found.num_values), found.num_values),
        Cell(str(len(found.impossible)), len(found.impossible)),
        _chance_cell(found),
        Cell() if by_meter is None else Cell(str(len(by_meter.impossible)), len(by_meter.impossible)),
        Cell() if by_meter is None else _chance_cell(by_meter),
        Cell(f"{listed} and {more} more" if more > 0 else listed or DASH),
    )


def _chance_cell(found: Examination) -> Cell:
    expected = float(found.num_possible_by_chance)
    return Cell("all: says nothing" if found.says_nothing else f"{expected:.1f} of {found.num_values}", expected)
