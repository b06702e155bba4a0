"""Published tables with ours beside each number: difference, prediction interval, verdict. Rendered by rendering.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dctkd.report.attainability import examine, is_attainable, is_attainable_by_released_meter
from dctkd.report.captions import common_notes, seeds_text
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.layout import SHORT_STATUS, TOP1, Group, Layout, Measure, Point, Values, numbers_of
from dctkd.report.published import (
    REPORTED,
    Published,
    PublishedValue,
    matching_row,
    own_settings,
    published_table_ids,
    read_published,
)
from dctkd.report.statistics import prediction_interval, summarise
from dctkd.report.tables.arrangement import points_cell, with_notes
from dctkd.report.tables.rendering import DASH, Cell, Column, Table, TableRow
from dctkd.report.verdicts import released_top1_percent, verdict

LABELS: Mapping[str, str] = {"top1_percent": "top-1", "top5_percent": "top-5", "mca_all_percent": "MCA, all classes"}
COUNTED = ("top1_percent", "top5_percent")
"""Metrics that are a whole number of images over the number of images."""

NOT_ATTAINABLE = "\u2020"
INCONSISTENT = "\u2021"
VERDICT_NOTE = (
    "Published against ours: the published number lies inside, above or below the 95 % prediction interval for one "
    "new run of ours, mean \u00b1 t(n - 1) s sqrt(1 + 1/n) over n seeds with standard deviation s. Inside with "
    "few seeds says little: the interval is wide. Ours: mean \u00b1 half the width of the 95 % t-interval of the mean. "
    "n: finished of planned seeds."
)


@dataclass(frozen=True)
class _Subject:
    """What one table is about."""

    collected: Collected
    values: Values
    published: Published
    group: Group
    metric: str

    def points(self, row: str | None) -> dict[int, Point]:
        """Our values by seed; empty without a row."""
        return self.values.of_seeds(self.group, row, Measure(self.metric)) if row else {}

    @property
    def num_images(self) -> int:
        """Size of the published test set."""
        return self.published.file.num_test_images[self.group.dataset]


@dataclass(frozen=True)
class _Row:
    """A row of a table: its published number and our row, of which one may be missing."""

    value: PublishedValue | None
    ours: str | None

    @property
    def name(self) -> str:
        """Our name of the row."""
        if self.ours is not None or self.value is None:
            return self.ours or ""
        weight = "" if self.value.weight is None else f", weight {self.value.weight:g}"
        return f"{self.value.row}{weight}"


@dataclass(frozen=True)
class _Quantity:
    """What a column shows; the key follows that of the metric."""

    key: str
    label: str
    cell: Callable[[_Subject, _Row], Cell]


def published_tables(collected: Collected, values: Values, *, folder: Path = REPORTED) -> dict[str, list[Table]]:
    """Return, for each published table with a dataset of the plan, one table per dataset, pair and metric.

    Args:
        collected: The experiment, whose config names the published sources under `reported`.
        values: Its numbers.
        folder: Where the published numbers lie.

    Returns:
        Tables by name of their file. Published rows come first, the teacher before all, in their published order; then
        our rows that were not published. What was not run is a dash.

    Raises:
        InputError: If a published file or a run's predictions are missing or broken.
    """
    regenerated = published_table_ids(collected.plan, folder)
    made: dict[str, list[Table]] = {}
    for name in collected.plan.config.reported:
        published = read_published(name, folder)
        for table_id in (one for one in published.values if one in regenerated):
            made[table_id] = _tables(collected, values, published, table_id)
    return made


def _tables(collected: Collected, values: Values, published: Published, table_id: str) -> list[Table]:
    layout, title = Layout.of(collected.plan), published.file.tables[table_id].title
    shown = [value for value in published.values[table_id] if value.dataset in collected.plan.config.datasets]
    tables = []
    for dataset, pair, metric in dict.fromkeys((v.dataset, v.pair, v.metric) for v in shown):
        subject = _Subject(collected, values, published, Group(dataset, pair), metric)
        own = [v for v in shown if (v.dataset, v.pair, v.metric) == (dataset, pair, metric)]
        rows = _rows(subject, own, layout)
        quantities = [q for q in QUANTITIES if q.cell is not _released_cell or _has_released_meter(subject)]
        columns = tuple(Column(f"{dataset}/{pair}/{metric}{q.key}", q.label) for q in quantities)
        body = tuple(TableRow(row.name, tuple(q.cell(subject, row) for q in quantities)) for row in rows)
        caption = f"{title}, {LABELS.get(metric, metric)} (%), {dataset}, {pair}, {seeds_text(layout)}"
        tables.append(Table(caption, columns, body))
    notes = (*_published_notes(collected, published, table_id, shown), *common_notes(collected))
    return with_notes(tables, notes)


def _rows(subject: _Subject, published: Sequence[PublishedValue], layout: Layout) -> list[_Row]:
    plan = subject.collected.plan
    has_pair = subject.group in layout.groups
    rows = [_Row(value, matching_row(plan, value, teacher=TEACHER) if has_pair else None) for value in published]
    rows.sort(key=lambda row: row.name != TEACHER)  # stable: the others stay in their published order
    if not has_pair:
        return rows
    seen = {row.ours for row in rows}
    return [*rows, *(_Row(None, name) for name in (TEACHER, *layout.methods) if name not in seen)]


def _name_cell(_: _Subject, row: _Row) -> Cell:
    return Cell(row.value.method) if row.value else Cell()


def _published_cell(subject: _Subject, row: _Row) -> Cell:
    if row.value is None:
        return Cell("not published")
    marks = "" if _is_possible(row.value, subject.num_images) else NOT_ATTAINABLE
    marks += INCONSISTENT if row.value.is_inconsistent else ""
    return Cell(f"{_as_published(row.value)}{marks}", row.value.value)


def _as_published(value: PublishedValue) -> str:
    return f"{value.value:.{value.decimals}f}"


def _is_possible(value: PublishedValue, num_images: int) -> bool:
    return value.metric not in COUNTED or is_attainable(_as_published(value), num_images)


def _ours_cell(subject: _Subject, row: _Row) -> Cell:
    points = subject.points(row.ours)
    failures = _failures(subject, row)
    if not points:
        return Cell(", ".join(failures) or DASH)
    # n has a column of its own, so the cell need not say where it is smaller than planned.
    return points_cell(points, "{:.2f}".format, len(points), failures)


def _coverage_cell(subject: _Subject, row: _Row) -> Cell:
    planned = _num_planned(subject, row)
    n = len(subject.points(row.ours))
    return Cell(f"{n}/{planned}", n, n=n) if planned else Cell()


def _difference_cell(subject: _Subject, row: _Row) -> Cell:
    points = subject.points(row.ours)
    if row.value is None or not points or _test_set_remark(subject):
        return Cell()
    difference = summarise(_numbers(points)).mean - row.value.value
    return Cell(f"{difference:+.2f}", difference, n=len(points), runs=_digests(points))


def _interval_cell(subject: _Subject, row: _Row) -> Cell:
    points = subject.points(row.ours)
    interval = prediction_interval(_numbers(points)) if points else None
    if interval is None:
        return Cell()
    text = f"[{interval[0]:.2f}, {interval[1]:.2f}]"
    return Cell(text, summarise(_numbers(points)).mean, *interval, len(points), _digests(points))


def _verdict_cell(subject: _Subject, row: _Row) -> Cell:
    if row.value is None:
        return Cell()
    points = subject.points(row.ours)
    if not points and _failures(subject, row):
        return Cell("no result")
    remark = _test_set_remark(subject) if points else None
    return Cell(remark or verdict(row.value.value, _numbers(points)), n=len(points) or None, runs=_digests(points))


def _released_cell(subject: _Subject, row: _Row) -> Cell:
    meter, evidence = subject.published.file.released_meter, subject.collected.evidence
    digests = _digests(subject.points(row.ours))
    known = {digest: found for digest in digests if (found := evidence.predictions(digest)) is not None}
    if not known or meter is None:
        return Cell()
    # In the official order, which is that of the index, whatever the order of the file.
    ordered = (found.is_right[found.index_N.argsort()] for found in known.values())
    summary = summarise([released_top1_percent(is_right_N, meter.batch_size) for is_right_N in ordered])
    return Cell(f"{summary.mean:.2f}", summary.mean, summary.ci_low, summary.ci_high, summary.n, tuple(known))


QUANTITIES = (
    _Quantity("_published_name", "published as", _name_cell),
    _Quantity("_published", "published", _published_cell),
    _Quantity("", "ours", _ours_cell),
    _Quantity("_seeds", "n", _coverage_cell),
    _Quantity("_minus_published_points", "ours minus published (points)", _difference_cell),
    _Quantity("_prediction_interval", "95 % interval of one new run of ours", _interval_cell),
    _Quantity("_verdict", "published against ours", _verdict_cell),
    _Quantity("_released_meter", "ours, released meter", _released_cell),
)


def _has_released_meter(subject: _Subject) -> bool:
    return subject.metric == TOP1.metric and subject.published.file.released_meter is not None


def _test_set_remark(subject: _Subject) -> str | None:
    """Say why our numbers and the published ones are not of the same test set; None if they may be."""
    num_ours = subject.collected.data.get(subject.group.dataset, {}).get("num_test_images")
    if num_ours is None:
        return "test set not known"
    return None if num_ours == subject.num_images else "other test set"


def _num_planned(subject: _Subject, row: _Row) -> int:
    plan, group = subject.collected.plan, subject.group
    if row.ours == TEACHER:
        names = {pair.teacher for pair in plan.config.pairs if pair.name == group.pair}
        return sum(run.dataset == group.dataset and run.teacher in names for run in plan.teachers)
    return sum((run.dataset, run.pair, run.method) == (group.dataset, group.pair, row.ours) for run in plan.runs)


def _failures(subject: _Subject, row: _Row) -> list[str]:
    failed = subject.values.failures(subject.group, row.ours) if row.ours else {}
    return [f"{count} {SHORT_STATUS[status]}" for status, count in sorted(failed.items())]


def _published_notes(
    collected: Collected, published: Published, table_id: str, shown: Sequence[PublishedValue]
) -> Iterator[str]:
    file = published.file
    yield f"Published: {file.paper}. Where: {'; '.join(dict.fromkeys(value.source for value in shown))}."
    yield from file.tables[table_id].notes
    yield from file.notes
    for dataset in dict.fromkeys(value.dataset for value in shown):
        yield from _attainability_notes(published, dataset, [value for value in shown if value.dataset == dataset])
    if doubtful := [value for value in shown if value.is_inconsistent]:
        yield f"{INCONSISTENT} contradicts another number of its source: {'; '.join(v.note for v in doubtful)}."
    yield VERDICT_NOTE
    if other := _other_test_sets(collected, published, shown):
        yield other
    if file.released_meter is not None and any(value.metric == TOP1.metric for value in shown):
        yield (
            f"Ours, released meter: top-1 as the released code computes it, the mean accuracy of batches of "
            f"{file.released_meter.batch_size} test images in the official order, of which a short last one counts as "
            "much as a full one."
        )
    if settings := _settings_text(collected, shown):
        yield f"Rows with settings of their own: {settings}."


def _attainability_notes(published: Published, dataset: str, values: Sequence[PublishedValue]) -> Iterator[str]:
    file, num_images = published.file, published.file.num_test_images[dataset]
    checked = [_as_published(value) for value in values if value.metric in COUNTED]
    if not checked:
        return
    found = examine(checked, num_images)
    if found.says_nothing:
        yield (
            f"Impossible accuracies cannot be told on {dataset}: with {num_images:,} test images every number with so "
            "few digits is possible."
        )
        return
    text = (
        f"{NOT_ATTAINABLE} no whole number of {num_images:,} test images gives this accuracy: {len(found.impossible)} "
        f"of the {len(checked)} published accuracies on {dataset}. Of as many random numbers with these digits "
        f"{len(checked) - float(found.num_possible_by_chance):.1f} would be impossible on average."
    )
    if file.released_meter is not None:
        size = file.released_meter.batch_size
        by_meter = sum(is_attainable_by_released_meter(value, num_images, size) for value in checked)
        text += (
            f" The released meter, which weights a short last batch of {num_images % size} images like a full one of "
            f"{size}, can give {by_meter} of them; it can give nearly every number with two digits, so this alone does "
            "not show that it was used."
        )
    yield text


def _other_test_sets(collected: Collected, published: Published, shown: Sequence[PublishedValue]) -> str:
    sizes = published.file.num_test_images
    ours = {v.dataset: collected.data.get(v.dataset, {}).get("num_test_images") for v in shown}
    other = [
        f"{name} has {n:,} images, the published one {sizes[name]:,}"
        for name, n in ours.items()
        if n not in (None, sizes[name])
    ]
    return f"Other test set, so there is no comparison: ours of {', '.join(other)}." if other else ""


def _settings_text(collected: Collected, shown: Sequence[PublishedValue]) -> str:
    """Return what the experiment file sets for the rows that are matched by name."""
    rows = collected.plan.config.methods
    names = dict.fromkeys(matching_row(collected.plan, value) for value in shown if value.weight is None)
    settings = {name: own_settings(rows[name]) for name in names if name in rows}
    return "; ".join(
        f"{name} ({', '.join(f'{key} {value}' for key, value in own.items())})" for name, own in settings.items() if own
    )


def _numbers(points: Mapping[int, Point]) -> list[float]:
    return list(numbers_of(points).values())


def _digests(points: Mapping[int, Point]) -> tuple[str, ...]:
    return tuple(point.digest for point in points.values())
