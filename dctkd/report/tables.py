"""The tables of an experiment: accuracy, cost, overlap, attention. What they say; how they look is in rendering.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dctkd.provenance import write_atomic
from dctkd.report.captions import commits_text, common_notes, cost_notes, seeds_text
from dctkd.report.collect import STUDENT, TEACHER, Collected, cost_record
from dctkd.report.layout import MCA, TOP1, Group, Layout, Measure, Point, Values
from dctkd.report.rendering import Cell, Column, Table, TableRow, to_csv, to_latex, to_markdown
from dctkd.report.statistics import Summary, paired_difference, summarise

BASELINE = "baseline"
MAX_GROUPS_SIDE_BY_SIDE = 2
"""Up to so many groups one table holds all quantities; beyond, each quantity has a table with a column per group."""

SHORT_STATUS = {"diverged": "div.", "oom": "oom"}
MEBIBYTE = 2**20
MEAN_AND_INTERVAL = "Mean \u00b1 half the width of the 95 % t-interval"


@dataclass(frozen=True)
class Quantity:
    """What a column shows: key in the CSV file, heading, and its cell for a group and method."""

    key: str
    label: str
    cell: Callable[[Group, str], Cell]


def make_tables(collected: Collected) -> dict[str, list[Table]]:
    """Return the tables of each file: accuracy, cost and overlap."""
    values = Values(collected.frame)
    made = {
        "accuracy": accuracy_tables(collected, values),
        "cost": cost_tables(collected, values),
        "overlap": overlap_tables(collected, values),
        "attention": attention_tables(collected, values),
    }
    experiment, commits = collected.plan.name, commits_text(collected)
    return {
        name: [replace(t, title=f"{experiment}: {t.title}", experiment=experiment, commits=commits) for t in tables]
        for name, tables in made.items()
    }


def write_tables(collected: Collected, target: Path) -> list[Path]:
    """Write every table as .md, .csv and .tex into a folder, each whole or not at all, and return the paths."""
    paths: list[Path] = []
    for name, tables in make_tables(collected).items():
        texts = {
            "md": to_markdown(tables),
            "csv": to_csv(tables),
            "tex": to_latex(tables, f"{collected.plan.name}-{name}"),
        }
        for suffix, text in texts.items():
            write_atomic(target / f"{name}.{suffix}", text)
            paths.append(target / f"{name}.{suffix}")
    return paths


def accuracy_tables(collected: Collected, values: Values) -> list[Table]:
    """Return top-1 accuracy, difference to the baseline and mean class accuracy, with 95 % intervals over seeds."""
    layout = Layout.of(collected.plan)
    num_seeds = len(layout.seeds)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        return lambda group, method: _accuracy_cell(values, group, method, measure, num_seeds)

    def difference(group: Group, method: str) -> Cell:
        return _difference_cell(values, group, method, num_seeds)

    def count(group: Group, method: str) -> Cell:
        n = len(values.of_seeds(group, method, TOP1))
        return Cell(str(n), n, n=n) if n else Cell()

    quantities = [Quantity("top1_percent", "top-1 (%)", measured(TOP1))]
    if BASELINE in layout.methods:
        quantities.append(Quantity("top1_minus_baseline_points", f"top-1 minus {BASELINE} (points)", difference))
    quantities.append(Quantity("mca_present_percent", "MCA (%)", measured(MCA)))
    if len(layout.groups) <= MAX_GROUPS_SIDE_BY_SIDE:
        quantities.append(Quantity("n", "n", count))
    tables = _arrange("accuracy", layout, (TEACHER, *layout.methods), quantities)
    own = [
        f"{MEAN_AND_INTERVAL} over seeds; without interval where there is one seed. "
        "MCA: mean of the classes' accuracies, over the classes that the test set has.",
    ]
    if BASELINE in layout.methods:
        own.append(
            f"Differences to {BASELINE} are paired by seed (same batches); an interval that excludes 0 is a paired "
            "t-test with p < 0.05, not corrected for the number of rows."
        )
    return _with_notes(tables, (*own, *common_notes(collected)))


def cost_tables(collected: Collected, values: Values) -> list[Table]:
    """Return the networks' sizes, and per method what it adds in training, speed and memory."""
    layout = Layout.of(collected.plan)

    def known(metric: str, format_text: Callable[[float], str]) -> Callable[[Group, str], Cell]:
        return lambda group, method: _cost_cell(values.cost(group, method, metric), format_text)

    def timed(metric: str, format_text: Callable[[float], str], unit: float = 1) -> Callable[[Group, str], Cell]:
        return lambda group, method: _timed_cell(values, group, method, metric, format_text, unit)

    quantities = [
        Quantity("extra_parameters", "extra parameters", known("extra_parameters", "{:,.0f}".format)),
        Quantity("extra_gmacs", "extra GMACs per image", known("extra_gmacs", "{:.3g}".format)),
        Quantity("train_images_per_second", "training images/s", timed("train_images_per_second", "{:,.1f}".format)),
        Quantity("train_seconds", "training time (s)", timed("train_seconds", "{:,.1f}".format)),
        Quantity("peak_memory_mebibytes", "peak memory (MiB)", timed("peak_memory_bytes", "{:,.0f}".format, MEBIBYTE)),
    ]
    own = [
        "GMACs: 10^9 multiply-accumulate operations for one image, counted by fvcore; GFLOPs = 2 x GMACs. "
        "A method's extra parameters and GMACs exist in training only.",
        f"Speed, time and memory: of runs trained alone in their process. {MEAN_AND_INTERVAL} over seeds.",
    ]
    if packed := values.measures("train_images_per_second_packed"):
        cell = timed("train_images_per_second_packed", "{:,.1f}".format)
        quantities.append(Quantity(packed[0].metric, "images/s in a pack", cell))
        own.append(
            "In a pack: images/s of the student's own steps with one teacher pass, while others were trained in turns; "
            "not comparable with those alone."
        )
    methods = _arrange("training cost", layout, (TEACHER, *layout.methods), quantities)
    notes = (*own, *cost_notes(collected), *common_notes(collected))
    return _with_notes([_network_table(collected, layout), *methods], notes)


def overlap_tables(collected: Collected, values: Values) -> list[Table]:
    """Return the similarity of student's and teacher's activation maps: a row per method, a column per stage."""
    layout = Layout.of(collected.plan)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        return lambda group, method: _overlap_cell(values, group, method, measure, len(layout.seeds))

    measured_stages = tuple(measure for measure in values.measures("overlap_ssim") if measure.split == "test")
    stages = measured_stages or (Measure("overlap_ssim", "mean"),)
    quantities = [Quantity(f"overlap_ssim_{stage.stage}", f"SSIM {stage.stage}", measured(stage)) for stage in stages]
    tables = [
        _side_by_side("overlap with the teacher", layout, (group,), layout.methods, quantities)
        for group in layout.groups
    ]
    own = f"SSIM of student's and teacher's activation maps on the test set; 1: equal. {MEAN_AND_INTERVAL} over seeds."
    return _with_notes(tables, (own, *common_notes(collected)))


ATTENTION: Mapping[str, tuple[Measure, str]] = {
    "overlap_pearson": (Measure("overlap_pearson", "mean"), "Pearson"),
    "overlap_cosine": (Measure("overlap_cosine", "mean"), "cosine"),
    "overlap_js_divergence": (Measure("overlap_js_divergence", "mean"), "JS divergence"),
    "overlap_iou_top20": (Measure("overlap_iou_top20", "mean"), "IoU of top 20 %"),
    "overlap_ssim_release": (
        Measure("overlap_ssim_release", "mean", "test_teacher_correct"),
        "SSIM as P1 (teacher right)",
    ),
    "gradcam_ssim": (Measure("gradcam_ssim", "mean"), "Grad-CAM SSIM"),
    "attention_mass_on_relevant": (Measure("attention_mass_on_relevant", "mean"), "mass on deciding objects"),
    "attention_mass_on_objects": (Measure("attention_mass_on_objects", "mean"), "mass on objects"),
    "attention_objects_held": (Measure("attention_objects_held", "mean"), "objects held"),
    "attention_pointing_game": (Measure("attention_pointing_game", "mean"), "pointing game"),
    "gradcam_pointing_game": (Measure("gradcam_pointing_game", "mean"), "Grad-CAM pointing game"),
}
"""Columns of the attention table: key, measure, heading. Those that no run has are left out."""


def attention_tables(collected: Collected, values: Values) -> list[Table]:
    """Return where networks look, against the teacher and against annotated objects: means over images and stages."""
    layout = Layout.of(collected.plan)

    def measured(measure: Measure) -> Callable[[Group, str], Cell]:
        return lambda group, method: _overlap_cell(values, group, method, measure, len(layout.seeds))

    known = {key: column for key, column in ATTENTION.items() if column[0] in values.measures(column[0].metric)}
    shown = known or {key: ATTENTION[key] for key in ("overlap_pearson",)}
    quantities = [Quantity(key, label, measured(measure)) for key, (measure, label) in shown.items()]
    tables = [
        _side_by_side("where the networks look", layout, (group,), (TEACHER, *layout.methods), quantities)
        for group in layout.groups
    ]
    own = (
        "Means over test images and stages. Pearson to SSIM: of the student's activation maps with the teacher's "
        "(JS divergence: 0 for equal maps, the others 1). Grad-CAM: of the label.",
        "Mass on objects: share of the map's mass over share of the area, 1 by chance; deciding objects are those that "
        "define the class, where the dataset says so. Objects held: number with at least 10 % of the mass. Pointing "
        "game: share of the brightest cell that such objects cover. " + _annotated_text(values, layout),
        f"{MEAN_AND_INTERVAL} over seeds.",
    )
    return _with_notes(tables, (*own, *common_notes(collected)))


def _annotated_text(values: Values, layout: Layout) -> str:
    """Say how many test images the object columns rest on."""
    counts = {
        group.dataset: int(point.value)
        for group in layout.groups
        for point in values.of_seeds(group, TEACHER, Measure("attention_annotated_images", "")).values()
    }
    known = ", ".join(f"{count:,} of {dataset}" for dataset, count in counts.items())
    return f"On annotated test images only: {known or 'there are none'}."


def _arrange(subject: str, layout: Layout, rows: Sequence[str], quantities: Sequence[Quantity]) -> list[Table]:
    """Return one table where the groups fit side by side, else one per quantity."""
    if len(layout.groups) <= MAX_GROUPS_SIDE_BY_SIDE:
        return [_side_by_side(subject, layout, layout.groups, rows, quantities)]
    return [_one_quantity(subject, layout, rows, quantity) for quantity in quantities]


def _side_by_side(
    subject: str, layout: Layout, groups: Sequence[Group], rows: Sequence[str], quantities: Sequence[Quantity]
) -> Table:
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


def _with_notes(tables: Sequence[Table], notes: tuple[str, ...]) -> list[Table]:
    """Put the notes, which are about all tables of a file, under the last one."""
    return [*tables[:-1], replace(tables[-1], notes=notes)]


def _network_table(collected: Collected, layout: Layout) -> Table:
    """Return GMACs, GFLOPs and parameters of each network; per dataset where they differ."""
    rows: list[TableRow] = []
    for pair in collected.plan.config.pairs:
        for role, model in ((TEACHER, pair.teacher), (STUDENT, pair.student)):
            of_datasets = {dataset: _network_cells(collected, dataset, model) for dataset in layout.datasets}
            if len(set(of_datasets.values())) == 1:
                rows.append(TableRow(f"{model} ({role})", of_datasets[layout.datasets[0]]))
            else:
                rows += [TableRow(f"{model} ({role}, {dataset})", cells) for dataset, cells in of_datasets.items()]
    columns = (Column("gmacs", "GMACs"), Column("gflops", "GFLOPs"), Column("parameters", "parameters"))
    return Table("networks", columns, tuple(dict.fromkeys(rows)), corner="network")


def _network_cells(collected: Collected, dataset: str, model: str) -> tuple[Cell, ...]:
    record = cost_record(collected.cost, "models", dataset, model)
    macs = record.get("macs")
    gmacs, gflops = (None, None) if macs is None else (macs / 1e9, 2 * macs / 1e9)
    sizes = (_cost_cell(gmacs, "{:.4g}".format), _cost_cell(gflops, "{:.4g}".format))
    return (*sizes, _cost_cell(record.get("parameters"), "{:,.0f}".format))


def _accuracy_cell(values: Values, group: Group, method: str, measure: Measure, num_seeds: int) -> Cell:
    points = values.of_seeds(group, method, measure)
    failures = [f"{count} {SHORT_STATUS[status]}" for status, count in sorted(values.failures(group, method).items())]
    if not points:
        return Cell(", ".join(failures)) if failures else Cell()
    return _cell(points, "{:.2f}".format, num_seeds, failures)


def _difference_cell(values: Values, group: Group, method: str, num_seeds: int) -> Cell:
    if method in (TEACHER, BASELINE):
        return Cell()
    a, b = values.of_seeds(group, method, TOP1), values.of_seeds(group, BASELINE, TOP1)
    summary = paired_difference(_numbers(a), _numbers(b))
    if summary is None:
        return Cell()
    common = [seed for seed in a if seed in b]
    runs = (*(a[seed].digest for seed in common), *(b[seed].digest for seed in common))
    return _cell_of(summary, "{:+.2f}".format, runs, num_seeds)


def _overlap_cell(values: Values, group: Group, method: str, measure: Measure, num_seeds: int) -> Cell:
    points = values.of_seeds(group, method, measure)
    return _cell(points, "{:.3f}".format, num_seeds) if points else Cell()


def _timed_cell(
    values: Values, group: Group, method: str, metric: str, format_text: Callable[[float], str], unit: float
) -> Cell:
    points = values.of_seeds(group, method, Measure(metric, "", "train"))
    in_unit = {seed: Point(point.value / unit, point.digest) for seed, point in points.items()}
    return _cell(in_unit, format_text, len(points)) if points else Cell()


def _cost_cell(value: float | None, format_text: Callable[[float], str]) -> Cell:
    return Cell() if value is None else Cell(format_text(value), float(value))


def _cell(
    points: Mapping[int, Point], format_text: Callable[[float], str], num_seeds: int, remarks: Sequence[str] = ()
) -> Cell:
    runs = tuple(point.digest for point in points.values())
    return _cell_of(summarise(_numbers(points).values()), format_text, runs, num_seeds, remarks)


def _cell_of(
    summary: Summary,
    format_text: Callable[[float], str],
    runs: tuple[str, ...],
    num_seeds: int,
    remarks: Sequence[str] = (),
) -> Cell:
    """Return a cell that shows mean, interval, and n where it is not the one of the title."""
    text = format_text(summary.mean)
    if summary.half_width is not None:
        text += f" \u00b1 {format_text(summary.half_width).lstrip('+')}"
    marks = [f"n = {summary.n}"] if summary.n != num_seeds else []
    marks += remarks
    if marks:
        text += f" ({', '.join(marks)})"
    return Cell(text, summary.mean, summary.ci_low, summary.ci_high, summary.n, runs)


def _numbers(points: Mapping[int, Point]) -> dict[int, float]:
    return {seed: point.value for seed, point in points.items()}
