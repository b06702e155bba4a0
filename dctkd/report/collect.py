"""From the files that runs leave behind to one tidy table: one row per run, metric, stage and split.

Columns: experiment, dataset, pair, method, seed, metric, stage, split, value, unit, status, digest. A teacher's rows
have the method `teacher` and stand once under each pair that uses it. Each run has a row `epochs_trained`, so that a
run without any other number (it diverged, or did not fit into memory) is in the table too. Rows of cost.json belong to
no seed and no run: seed is missing, status and digest are empty; a student network's own cost has the method `student`.
Stage and split are empty where they have no meaning.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dctkd.errors import InputError
from dctkd.metrics import OVERLAP_FOLDER
from dctkd.plan import Plan, Run
from dctkd.plan_file import read_plan
from dctkd.provenance import write_atomic
from dctkd.report.edges import FoundRun, find_runs, rerun_command
from dctkd.report.evidence import Evidence, read_object, read_sealed_object
from dctkd.report.layout import Layout

logger = logging.getLogger(__name__)

TEACHER = "teacher"
STUDENT = "student"
COLUMNS = (
    "experiment",
    "dataset",
    "pair",
    "method",
    "seed",
    "metric",
    "stage",
    "split",
    "value",
    "unit",
    "status",
    "digest",
)
TIMING_UNITS = {
    "train_seconds": "s",
    "train_images_per_second": "images/s",
    "peak_memory_bytes": "bytes",
    "job_energy_joules": "J",
}
MODEL_COSTS = {"gmacs": ("macs", 1e-9, "GMACs"), "parameters": ("parameters", 1, "1")}
METHOD_COSTS = {
    "extra_gmacs": ("extra_macs", 1e-9, "GMACs"),
    "extra_parameters": ("extra_parameters", 1, "1"),
    "checkpoint_bytes": ("checkpoint_bytes", 1, "bytes"),
}

_RENEW = "delete it and run snakemake again, which makes it"

Row = dict[str, Any]


@dataclass(frozen=True)
class Collected:
    """Everything the tables and figures of one experiment are made from.

    Attributes:
        plan: The experiment's plan.
        frame: The tidy table.
        found: The runs it holds.
        missing: The planned runs that it lacks.
        environments: environment.json by digest, as far as the store has it.
        timings: timing.json by digest, likewise.
        cost: cost.json; empty if there is none.
        data: data.json by dataset, as far as they are published.
        speed: speed.json; empty if there is none.
        evidence: Reader of what else the runs left behind.
        notes: What a reader of the tables should know about the collection.
    """

    plan: Plan
    frame: pd.DataFrame
    found: tuple[FoundRun, ...]
    missing: tuple[Run, ...]
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    timings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=lambda: Evidence(None))
    notes: tuple[str, ...] = ()


def collect(experiment_dir: Path, store: Path | None, *, partial: bool = False) -> pd.DataFrame:
    """Return the tidy table of an experiment.

    Args:
        experiment_dir: `results/<experiment>`, which holds plan.json and the published results.
        store: `results/store`; None leaves out timing, and finished runs that are not published.
        partial: Read what there is: runs may be missing, and finished runs need not be published.

    Raises:
        InputError: If a file is not whole or contradicts the plan, or, without `partial`, if runs are missing.
    """
    return gather(experiment_dir, store, partial=partial).frame


def gather(experiment_dir: Path, store: Path | None, *, partial: bool = False) -> Collected:
    """Return the tidy table together with the plan, environments and costs; arguments and errors as for `collect`."""
    plan = read_plan(experiment_dir / "plan.json")
    runs = find_runs(plan, experiment_dir.parent, store, partial=partial)
    digests = dict.fromkeys(one.metrics.digest for one in runs.found)
    timings = _read_from_store(store, digests, "timing.json")
    environments = _read_from_store(store, digests, "environment.json")
    overlaps = _read_from_store(store, digests, f"{OVERLAP_FOLDER}/summary.json")
    cost_file = experiment_dir / "cost.json"
    notes = list(runs.notes)
    if not cost_file.is_file():
        logger.warning("%s: no such file; the tables have no cost", cost_file)
        notes.append(f"No cost.json: GMACs and parameters are not known; run `{rerun_command(plan)}`.")
    cost = read_object(cost_file, f"delete it and run `{rerun_command(plan)}`") if cost_file.is_file() else {}
    rows = [
        *_rows_of_runs(plan, runs.found, timings),
        *_rows_of_overlap(plan, runs.found, overlaps),
        *_rows_of_cost(plan, cost, cost_file),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seed": "Int64", "value": "float64"})
    published = {name: experiment_dir / name / "data.json" for name in plan.config.datasets}
    speed_file = experiment_dir / "speed.json"
    return Collected(
        plan,
        frame,
        runs.found,
        runs.missing,
        environments,
        timings,
        cost=cost,
        data={name: read_object(path, _RENEW) for name, path in published.items() if path.is_file()},
        speed=read_object(speed_file, _RENEW) if speed_file.is_file() else {},
        evidence=Evidence(store),
        notes=tuple(notes),
    )


def write_tidy(frame: pd.DataFrame, path: Path) -> None:
    """Write the tidy table as Parquet, whole or not at all.

    Raises:
        OSError: If the folder cannot be written.
    """
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def pairs_of(plan: Plan, run: Run) -> list[str]:
    """Return the pairs under which a run is shown: a student's own, or each pair of a teacher."""
    return [run.pair] if run.pair else [pair.name for pair in plan.config.pairs if pair.teacher == run.teacher]


def _rows_of_runs(plan: Plan, found: tuple[FoundRun, ...], timings: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    for one in found:
        run, metrics = one.planned, one.metrics
        epochs = run.names()["epochs"] if metrics.status == "ok" else metrics.detail.get("epoch")
        numbers: list[Row] = [
            {"metric": "epochs_trained", "stage": "", "split": "train", "value": epochs, "unit": "epochs"},
            *(result.to_dict() for result in metrics.results),
            *_timing_rows(run, timings.get(metrics.digest, {})),
        ]
        for pair in pairs_of(plan, run):
            known = {"experiment": plan.name, "dataset": run.dataset, "pair": pair, "method": run.method or TEACHER}
            for number in numbers:
                yield {**known, "seed": run.seed, **number, "status": metrics.status, "digest": metrics.digest}


def _rows_of_overlap(
    plan: Plan, found: tuple[FoundRun, ...], overlaps: Mapping[str, Mapping[str, Any]]
) -> Iterator[Row]:
    """Yield where students look, and once per pair and teacher seed where the teacher does."""
    seen: set[tuple[str, str | None, int]] = set()
    for one in found:
        run, overlap = one.planned, overlaps.get(one.metrics.digest)
        if run.student is None or overlap is None:
            continue
        known = {"experiment": plan.name, "dataset": run.dataset, "pair": run.pair, "status": one.metrics.status}
        for number in overlap["results"]:
            yield {**known, "method": run.method, "seed": run.seed, **number, "digest": one.metrics.digest}
        teacher = (run.dataset, run.pair, plan.teacher_seed(run.seed))
        if teacher not in seen:
            seen.add(teacher)
            for number in overlap["teacher_results"]:
                yield {**known, "method": TEACHER, "seed": teacher[2], **number, "digest": one.metrics.digest}


def _timing_rows(run: Run, timing: Mapping[str, Any]) -> Iterator[Row]:
    """Yield speed and memory; measured beside other students they are about the pack, so their names say so."""
    if not timing:
        return
    is_solo = timing.get("students_in_pack", 1 if run.student is None else None) == 1
    for name, unit in TIMING_UNITS.items():
        if timing.get(name) is not None:
            metric = name if is_solo else f"{name}_packed"
            yield {"metric": metric, "stage": "", "split": "train", "value": timing[name], "unit": unit}


def _rows_of_cost(plan: Plan, cost: Mapping[str, Any], path: Path) -> Iterator[Row]:
    if not cost:
        return
    layout = Layout.of(plan)
    for dataset in layout.datasets:
        for pair in plan.config.pairs:
            known = {"experiment": plan.name, "dataset": dataset, "pair": pair.name, "stage": "", "split": ""}
            for role, model in ((TEACHER, pair.teacher), (STUDENT, pair.student)):
                record = cost_record(cost, "models", dataset, model)
                yield from ({**known, "method": role, **row} for row in _cost_values(record, MODEL_COSTS, path))
            for method in layout.methods:
                record = cost_record(cost, "methods", dataset, f"{pair.name}/{method}")
                yield from ({**known, "method": method, **row} for row in _cost_values(record, METHOD_COSTS, path))


def cost_record(cost: Mapping[str, Any], section: str, dataset: str, key: str) -> Mapping[str, Any]:
    """Return an entry of cost.json, `<model>` or `<pair>/<method>` on one dataset; empty if there is none."""
    entries: Mapping[str, Mapping[str, Any]] = cost.get(section, {})
    return entries.get(f"{dataset}/{key}", {})


def _cost_values(record: Mapping[str, Any], costs: Mapping[str, tuple[str, float, str]], path: Path) -> Iterator[Row]:
    for metric, (key, factor, unit) in costs.items():
        value = record.get(key)
        if value is None:
            continue
        if not isinstance(value, (int, float)):
            raise InputError(
                f"{path}: {key} must be a number, got {value!r}; delete the file and run `snakemake` again"
            )
        yield {"metric": metric, "value": value * factor, "unit": unit, "status": "", "digest": ""}


def _read_from_store(store: Path | None, digests: Mapping[str, None], name: str) -> dict[str, Mapping[str, Any]]:
    if store is None:
        return {}
    objects = ((digest, read_sealed_object(store / digest, name)) for digest in digests)
    return {digest: content for digest, content in objects if content is not None}
