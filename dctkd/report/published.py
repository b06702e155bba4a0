"""Published numbers: read from paper_tables/reported, under the names that our experiments use.

Imports neither pandas nor NumPy: a Snakefile, which every cluster job parses again, asks which tables there will be.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from dctkd.config import KD_SUFFIX, MethodRow
from dctkd.errors import InputError, did_you_mean
from dctkd.names import Name
from dctkd.plan import Plan
from dctkd.strict import Strict
from dctkd.validation import explain
from dctkd.yaml_text import read_yaml

REPORTED = Path("paper_tables/reported")
"""Where published numbers lie, relative to the folder of the Snakefile."""

COLUMNS = ("source", "table", "dataset", "teacher", "student", "method", "metric", "value", "note")
NO_TEACHER = "none"
"""Published teacher of a row that belongs to every pair with its student, such as a baseline."""

INCONSISTENT = "INCONSISTENT"
"""Word in the note of a number that contradicts another of the same source."""

Entry = dict[str, str]


class Rows(Strict):
    """Which lines of the CSV file: all that agree with what is given here."""

    table: str
    dataset: str | None = None
    methods: tuple[str, ...] | None = None

    def selects(self, entry: Entry) -> bool:
        """Return whether a line is among them."""
        return (
            entry["table"] == self.table
            and self.dataset in (None, entry["dataset"])
            and (self.methods is None or entry["method"] in self.methods)
        )


class PublishedTable(Strict):
    """A published table that is regenerated."""

    title: str
    rows: tuple[Rows, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()


class LeftOut(Strict):
    """Lines that are in no table, and why."""

    rows: tuple[Rows, ...] = Field(min_length=1)
    reason: str


class ReleasedMeter(Strict):
    """The meter that released code computes top-1 accuracy with."""

    batch_size: int = Field(ge=1, description="images per test batch")


class PublishedFile(Strict):
    """What paper_tables/reported/<name>.yaml says; mappings lead from published names to ours."""

    title: str
    paper: str
    values: str = Field(pattern=r"^[\w.-]+\.csv$", description="file with the numbers, in the same folder")
    datasets: dict[str, Name]
    networks: dict[str, Name]
    methods: dict[str, Name]
    weighted_methods: dict[str, Name] = Field(
        default_factory=dict, description="start of a published name that ends in the weight of the terms: method"
    )
    metrics: dict[str, str]
    num_test_images: dict[Name, int] = Field(description="by our name of the dataset")
    released_meter: ReleasedMeter | None = None
    tables: dict[Name, PublishedTable] = Field(min_length=1)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _every_dataset_has_a_test_set(self) -> Self:
        ours = set(self.datasets.values())
        if different := sorted(ours ^ set(self.num_test_images)):
            raise ValueError(
                f"num_test_images must name the datasets {', '.join(sorted(ours))}, each once; "
                f"{', '.join(different)} is missing or unknown"
            )
        return self


@dataclass(frozen=True)
class PublishedValue:
    """One published number under our names.

    Attributes:
        dataset: Our name of the dataset.
        teacher: Our name of the teacher network.
        student: Our name of the student network.
        method: Published name of the method.
        row: Our name of its row, such as "at+kd"; with a weight, our name of its method.
        weight: Outer weight that the row must have, no unit; None: the row is known by its name.
        metric: Our name of the metric.
        value: The number, in the metric's unit.
        decimals: Digits after its point.
        source: Where it stands, with the commit.
        note: What is known of it.
    """

    dataset: str
    teacher: str
    student: str
    method: str
    row: str
    weight: float | None
    metric: str
    value: float
    decimals: int
    source: str
    note: str

    @property
    def pair(self) -> str:
        """Our name of the pair."""
        return f"{self.teacher}__{self.student}"

    @property
    def is_inconsistent(self) -> bool:
        """Whether its source contradicts it."""
        return INCONSISTENT in self.note


@dataclass(frozen=True)
class Published:
    """The numbers of one source, by table; lines that are left out are in none."""

    name: str
    file: PublishedFile
    values: Mapping[str, tuple[PublishedValue, ...]]


def read_published(name: str, folder: Path = REPORTED) -> Published:
    """Read `<name>.yaml` and the CSV file it names.

    Args:
        name: Entry of an experiment's `reported`.
        folder: Where both files lie.

    Raises:
        InputError: If a file is missing or broken, or a name is not mapped; one line with the file and the place.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.yaml")]
        raise InputError(f"reported: {path}: no such file{did_you_mean(name, known)}")
    try:
        file = PublishedFile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from error
    for table in file.tables:
        if not table.startswith(f"{name}_"):
            # The name of a table is that of its files, which other sources and tables must not overwrite.
            raise InputError(f"{path}: tables.{table}: must start with {name}_; call it {name}_{table}")
    lines = read_lines(folder / file.values)
    chosen = _lines_of_tables(file, lines, path)
    values = {table: _values(file, lines, numbers, folder / file.values) for table, numbers in chosen.items()}
    return Published(name, file, values)


def published_table_ids(plan: Plan, folder: Path = REPORTED) -> tuple[str, ...]:
    """Return the published tables that are regenerated for a plan: those with a dataset of the plan.

    Raises:
        InputError: As in `read_published`.
    """
    datasets = plan.config.datasets
    return tuple(
        table
        for name in plan.config.reported
        for table, values in read_published(name, folder).values.items()
        if any(value.dataset in datasets for value in values)
    )


def published_files(plan: Plan, folder: Path = REPORTED) -> list[str]:
    """Return the files that a plan's published tables are read from.

    Raises:
        InputError: As in `read_published`.
    """
    files = {name: read_published(name, folder).file.values for name in plan.config.reported}
    return [str(folder / file) for name, values in files.items() for file in (f"{name}.yaml", values)]


def matching_row(plan: Plan, value: PublishedValue, *, teacher: str = "teacher") -> str | None:
    """Return the row of an experiment that a published number is compared with, or None if it has none.

    A row is known by its name, as long as it has the method of that name. Where the published row is known by a weight,
    it is the one of that method with that weight and without +kd; of several, the one with the fewest other settings.
    """
    rows = plan.config.methods
    if value.row == teacher:
        return teacher
    if value.weight is None:
        row = rows.get(value.row)
        is_itself = row is not None and row.method in (None, value.row.removesuffix(KD_SUFFIX)) and row.file is None
        return value.row if is_itself else None
    found = [
        name
        for name, row in rows.items()
        if (row.method or name) == value.row and not name.endswith(KD_SUFFIX) and weight_of(plan, name) == value.weight
    ]
    return min(found, key=lambda name: len(own_settings(rows[name]))) if found else None


def weight_of(plan: Plan, row: str) -> float | None:
    """Return the outer weight of a row's terms, no unit: what its runs have, else what the experiment file says."""
    identity = next((run.identity for run in plan.runs if run.method == row), {})
    weight = identity.get("method", {}).get("weight", plan.config.methods[row].weight)
    return None if weight is None else float(weight)


def own_settings(row: MethodRow) -> dict[str, object]:
    """Return what an experiment file sets for a row, apart from its method.

    Example:
        >>> own_settings(MethodRow(method="at", weight=100))
        {'weight': 100.0}
    """
    return row.model_dump(exclude_defaults=True, exclude={"method", "file"})


def read_lines(path: Path) -> list[Entry]:
    """Read a CSV file of published numbers: every line has all columns, and a finite number with its source.

    Raises:
        InputError: If that is not so; one line with the file and the line.
    """
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a CSV file in UTF-8") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {', '.join(reader.fieldnames or ())}")
    for number, entry in enumerate(lines):
        if None in entry or None in entry.values():
            raise InputError(
                f"{_place(path, number)}: expected {len(COLUMNS)} cells; put quotes round a cell with commas"
            )
        if not entry["source"]:
            raise InputError(f"{_place(path, number)}: source is empty; say where the number stands")
        _number(entry["value"], f"{_place(path, number)}: value")
    return lines


def _lines_of_tables(file: PublishedFile, lines: Sequence[Entry], path: Path) -> dict[str, list[int]]:
    """Return the numbers of the lines of each table; every line is in one table or left out, so that none is lost."""
    chosen: dict[str, list[int]] = {table: [] for table in file.tables}
    selections = [
        *((f"tables.{name}.rows.{i}", rows, name) for name, t in file.tables.items() for i, rows in enumerate(t.rows)),
        *((f"left_out.{i}", rows, None) for i, left in enumerate(file.left_out) for rows in left.rows),
    ]
    taken: dict[int, str] = {}
    for where, rows, table in selections:
        found = [number for number, entry in enumerate(lines) if rows.selects(entry)]
        if not found:
            raise InputError(f"{path}: {where}: selects no line of {file.values}; check table, dataset and methods")
        for number in found:
            if number in taken:
                raise InputError(f"{path}: {where}: takes line {number + 2} of {file.values}, as {taken[number]} does")
            taken[number] = where
        if table is not None:
            chosen[table] += found
    if missed := [number for number in range(len(lines)) if number not in taken]:
        raise InputError(
            f"{path}: line {missed[0] + 2} of {file.values} ({lines[missed[0]]['table']}) is in no table; "
            "add it to one, or to left_out with a reason"
        )
    return chosen


def _values(
    file: PublishedFile, lines: Sequence[Entry], numbers: Iterable[int], path: Path
) -> tuple[PublishedValue, ...]:
    """Return the values of one table; those without a teacher once for each teacher of their student."""
    read = {number: _value(file, lines[number], _place(path, number)) for number in numbers}
    teachers = dict.fromkeys((v.dataset, v.student, v.teacher) for v in read.values() if v.teacher != NO_TEACHER)
    values: list[PublishedValue] = []
    for number, value in read.items():
        if value.teacher != NO_TEACHER:
            values.append(value)
            continue
        own = [t for dataset, student, t in teachers if (dataset, student) == (value.dataset, value.student)]
        if not own:
            raise InputError(
                f"{_place(path, number)}: teacher is {NO_TEACHER}, and its table has no pair with its student"
            )
        values += [replace(value, teacher=teacher) for teacher in own]
    return tuple(values)


def _value(file: PublishedFile, entry: Entry, where: str) -> PublishedValue:
    networks = {**file.networks, NO_TEACHER: NO_TEACHER}
    row, weight = _row_and_weight(file, entry["method"], where)
    return PublishedValue(
        dataset=_ours(entry["dataset"], file.datasets, f"{where}: dataset"),
        teacher=_ours(entry["teacher"], networks, f"{where}: teacher"),
        student=_ours(entry["student"], file.networks, f"{where}: student"),
        method=entry["method"],
        row=row,
        weight=weight,
        metric=_ours(entry["metric"], file.metrics, f"{where}: metric"),
        value=_number(entry["value"], f"{where}: value"),
        decimals=len(entry["value"].partition(".")[2]),
        source=entry["source"],
        note=entry["note"],
    )


def _row_and_weight(file: PublishedFile, method: str, where: str) -> tuple[str, float | None]:
    for start, ours in file.weighted_methods.items():
        if method.startswith(start):
            return ours, _number(method.removeprefix(start), f"{where}: weight of method {method!r}")
    return _ours(method, file.methods, f"{where}: method"), None


def _ours(published: str, names: Mapping[str, str], where: str) -> str:
    if published not in names:
        raise InputError(f"{where}: {published!r} has no name of ours in the YAML file{did_you_mean(published, names)}")
    return names[published]


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: expected a finite number, got {text!r}")
    return number


def _place(path: Path, number: int) -> str:
    return f"{path}: line {number + 2}"  # counted from 1, after the line of headings
