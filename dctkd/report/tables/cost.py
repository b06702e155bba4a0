"""The tables of cost: networks, what each method adds, and the whole experiment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from dctkd.report.captions import common_notes, cost_notes, hardware_text
from dctkd.report.collect import STUDENT, TEACHER, Collected, cost_record
from dctkd.report.layout import Group, Layout, Measure, Point, Values
from dctkd.report.tables.arrangement import MEAN_AND_INTERVAL, Quantity, arrange, points_cell, with_notes
from dctkd.report.tables.rendering import Cell, Column, Table, TableRow

MEBIBYTE = 2**20
KILO = 1000


def cost_tables(collected: Collected, values: Values) -> list[Table]:
    """Return the networks' sizes and latency, what each method adds in training, and the cost of the experiment."""
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
        *_speed_notes(collected),
        f"Speed, time and memory: of runs trained alone in their process. {MEAN_AND_INTERVAL} over seeds.",
    ]
    if values.measures("job_energy_joules"):
        cell = timed("job_energy_joules", "{:,.3g}".format, KILO)
        quantities.append(Quantity("job_energy_kilojoules", "energy (kJ)", cell))
        own.append(
            "Energy: of the whole processor or GPU while the run was trained alone, other processes there included."
        )
    if packed := values.measures("train_images_per_second_packed"):
        cell = timed("train_images_per_second_packed", "{:,.1f}".format)
        quantities.append(Quantity(packed[0].metric, "images/s in a pack", cell))
        own.append(
            "In a pack: images/s of the student's own steps with one teacher pass, while others were trained in turns; "
            "not comparable with those alone."
        )
    methods = arrange("training cost", layout, (TEACHER, *layout.methods), quantities)
    notes = (*own, *cost_notes(collected), *common_notes(collected))
    return with_notes([_network_table(collected, layout), *methods, _whole_table(collected)], notes)


def _speed_notes(collected: Collected) -> list[str]:
    """Say how latency and estimate were measured; nothing if there is no speed.json."""
    if not collected.speed:
        return ["Latency and estimate: not measured (no speed.json)."]
    where = hardware_text(collected.speed)
    return [
        f"Latency: median of one batch, the CSV file also has the 10th and 90th percentile; {where}. Estimate: a few "
        "training steps timed there, methods' own time left out. Job-hours: of one job, that is of one GPU or of the "
        "recipe's CPU threads; what runs took is counted on the machines that trained them.",
    ]


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
    columns = (
        Column("gmacs", "GMACs"),
        Column("gflops", "GFLOPs"),
        Column("parameters", "parameters"),
        Column("latency_1_ms", "latency, 1 image (ms)"),
        Column("latency_64_ms", "latency, 64 images (ms)"),
    )
    return Table("networks", columns, tuple(dict.fromkeys(rows)), corner="network")


def _network_cells(collected: Collected, dataset: str, model: str) -> tuple[Cell, ...]:
    record = cost_record(collected.cost, "models", dataset, model)
    macs = record.get("macs")
    gmacs, gflops = (None, None) if macs is None else (macs / 1e9, 2 * macs / 1e9)
    sizes = (_cost_cell(gmacs, "{:.4g}".format), _cost_cell(gflops, "{:.4g}".format))
    latency = collected.speed.get("latency", {}).get(f"{dataset}/{model}", {})
    return (
        *sizes,
        _cost_cell(record.get("parameters"), "{:,.0f}".format),
        *(_latency_cell(latency.get(batch_size, {})) for batch_size in ("1", "64")),
    )


def _latency_cell(record: Mapping[str, float]) -> Cell:
    """Return the median; the interval of the cell holds the 10th and 90th percentile of the repeats."""
    if not record:
        return Cell()
    median, low, high = (1000 * record[f"{name}_seconds"] for name in ("median", "p10", "p90"))
    return Cell(f"{median:.3g}", median, low, high)


def _whole_table(collected: Collected) -> Table:
    """Return the hours and the energy of the whole experiment: estimated before, and as its runs took them."""
    timings = [
        collected.timings[one.metrics.digest] for one in collected.found if one.metrics.digest in collected.timings
    ]
    estimate = collected.speed.get("estimate", {})
    # A pack shares the teacher's pass and the clock of its job; so does each student count its part of them.
    steps = [t["own_step_seconds"] + t["teacher_pass_seconds"] / t["students_in_pack"] for t in timings]
    walls = [t["wall_seconds"] / t["students_in_pack"] for t in timings]
    joules = [t["job_energy_joules"] / t["students_in_pack"] for t in timings if t.get("job_energy_joules") is not None]
    is_measured = len(joules) == len(timings) > 0
    hours = "{:.3g}".format
    rows = (
        TableRow("estimated: training steps", (_cost_cell(_hours([estimate.get("core_seconds")]), hours), Cell())),
        TableRow("took: training steps", (_cost_cell(_hours(steps), hours), Cell())),
        TableRow(
            "took: jobs, with loading and testing",
            (
                _cost_cell(_hours(walls), hours),
                _cost_cell(math.fsum(joules) / KILO if is_measured else None, "{:,.3g}".format),
            ),
        ),
    )
    columns = (Column("job_hours", "job-hours"), Column("energy_kilojoules", "energy (kJ)"))
    num_runs = f"{len(timings)} of {len(collected.plan.teachers) + len(collected.plan.runs)} runs"
    return Table(f"the whole experiment, {num_runs}", columns, rows, corner="cost")


def _hours(seconds: Sequence[float | None]) -> float | None:
    known = [value for value in seconds if value is not None]
    return math.fsum(known) / 3600 if known else None


def _timed_cell(
    values: Values, group: Group, method: str, metric: str, format_text: Callable[[float], str], unit: float
) -> Cell:
    points = values.of_seeds(group, method, Measure(metric, "", "train"))
    in_unit = {seed: Point(point.value / unit, point.digest) for seed, point in points.items()}
    return points_cell(in_unit, format_text, len(points)) if points else Cell()


def _cost_cell(value: float | None, format_text: Callable[[float], str]) -> Cell:
    return Cell() if value is None else Cell(format_text(value), float(value))
