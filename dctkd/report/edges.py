"""Finished runs of an experiment: found where the plan says they are published, read, and checked against the plan."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dctkd.errors import InputError
from dctkd.metrics import Result
from dctkd.plan import Plan, Run
from dctkd.store import SCHEMA, RunFolder, Store

logger = logging.getLogger(__name__)

NUM_NAMED = 3
"""How many runs a message names before it counts the rest."""


class Metrics(BaseModel):
    """The part of metrics.json that the report reads."""

    model_config = ConfigDict(frozen=True)
    schema_version: int = Field(alias="schema")
    status: Literal["ok", "diverged", "oom"]
    digest: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    spec: str
    kind: Literal["student", "teacher"]
    run: dict[str, Any]
    results: tuple[Result, ...]
    detail: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class FoundRun:
    """A planned run and what it left behind."""

    planned: Run
    metrics: Metrics


@dataclass(frozen=True)
class FoundRuns:
    """All runs of a plan: found ones, missing ones, and what a reader of the tables should know about the search."""

    found: tuple[FoundRun, ...]
    missing: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())


def rerun_command(plan: Plan, target: str = "") -> str:
    """Return the command that makes or renews an experiment's results.

    Args:
        plan: The experiment.
        target: File to make; empty: all tables. It stands first, because `--configfile` takes all words that follow.

    Returns:
        One line for a shell; `PATH` stands for the folder of the user's photographs.
    """
    settings = ["data_root=PATH"] if plan.config.data_root is not None else []
    settings += [f"variant={plan.config.variant}"] if plan.config.variant else []
    words = ["snakemake", target, "--cores all --configfile", shlex.quote(plan.config_file)]
    return " ".join(filter(None, [*words, *(["--config", *settings] if settings else [])]))


def find_runs(plan: Plan, results: Path, store: Path | None, *, partial: bool = False) -> FoundRuns:
    """Read the published metrics of every planned run, teachers first.

    Args:
        plan: The experiment's plan.
        results: Folder that published edges are relative to.
        store: `results/store`; with `partial`, runs that are finished but not published are taken from there.
        partial: Whether runs may be missing.

    Raises:
        InputError: If a file is not whole or contradicts the plan, if versions are mixed, or, without `partial`, if
            runs are missing.
    """
    found: list[FoundRun] = []
    pending: list[Run] = []
    num_outdated = 0
    for run in (*plan.teachers, *plan.runs):
        path = results / run.path
        metrics = read_metrics(path, plan) if path.is_file() else None
        if metrics is not None and partial and metrics.spec != run.spec:
            num_outdated, metrics = num_outdated + 1, None
        if metrics is None:
            pending.append(run)
        else:
            _check_against_plan(metrics, run, path, plan)
            found.append(FoundRun(run, metrics))
    if not partial:
        _refuse_missing(pending, plan)
    notes = (
        [f"{num_outdated} published results belong to another version of the config and are left out."]
        if num_outdated
        else []
    )
    runs = _with_unpublished(plan, found, pending, store, notes)
    refuse_mixed_versions([(plan, one.planned) for one in runs.found])
    return runs


def refuse_mixed_versions(runs: Sequence[tuple[Plan, Run]]) -> None:
    """Refuse runs that must not stand in one table: versions of this project made them whose results differ.

    Args:
        runs: Each with the plan that it belongs to.

    Raises:
        InputError: If two runs differ in the results version of the engine, of the data, or of the method of both.
    """
    first: dict[str, tuple[Any, Plan, Run]] = {}
    for plan, run in runs:
        for part, version in _versions(run):
            known, known_plan, other = first.setdefault(part, (version, plan, run))
            if known != version:
                older = known_plan if (known or 0) < (version or 0) else plan
                raise InputError(
                    f"{other.path} and {run.path} were made by versions of {part} whose results differ ({known} and "
                    f"{version}): one table must not mix them; run `{rerun_command(older)}`, which renews the older"
                )


def _versions(run: Run) -> Iterator[tuple[str, Any]]:
    identity = run.identity
    yield "the engine", identity.get("engine_results_version")
    yield "the data", identity.get("data", {}).get("results_version")
    if method := identity.get("method"):
        yield f"the method {method['method']}", method["results_version"]


def read_metrics(path: Path, plan: Plan) -> Metrics:
    """Read one metrics.json or teacher.json.

    Raises:
        InputError: If it is not whole: not JSON, a key missing, a value that is no finite number, another schema.
    """
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: not whole ({where or 'file'}: {first['msg']}); {_renew(plan)}") from error
    if metrics.schema_version != SCHEMA:
        raise InputError(f"{path}: schema {metrics.schema_version}, this version reads {SCHEMA}; {_renew(plan)}")
    if metrics.status == "ok" and not metrics.results:
        raise InputError(f"{path}: not whole (status ok, but no results); {_renew(plan)}")
    return metrics


def list_runs(runs: list[Run]) -> str:
    """Return the paths of the first runs and the number of others.

    Example:
        >>> list_runs([])
        ''
    """
    named = ", ".join(run.path for run in runs[:NUM_NAMED])
    return f"{named} and {len(runs) - NUM_NAMED} more" if len(runs) > NUM_NAMED else named


def _renew(plan: Plan) -> str:
    return f"delete it and run `{rerun_command(plan)}`"


def _check_against_plan(metrics: Metrics, run: Run, path: Path, plan: Plan) -> None:
    if metrics.spec != run.spec:
        raise InputError(
            f"{path}: made for another version of the config (spec {metrics.spec[:12]}, the plan: {run.spec[:12]}); "
            f"run `{rerun_command(plan)}`, which renews it, or ask for a partial report"
        )
    expected_kind = "student" if run.student else "teacher"
    if metrics.kind != expected_kind:
        raise InputError(f"{path}: kind is {metrics.kind}, the plan says {expected_kind}; {_renew(plan)}")
    for key, expected in run.names().items():
        if metrics.run.get(key) != expected:
            raise InputError(
                f"{path}: run.{key} is {metrics.run.get(key)!r}, the plan says {expected!r}; {_renew(plan)}"
            )


def _refuse_missing(pending: list[Run], plan: Plan) -> None:
    if pending:
        total = len(plan.teachers) + len(plan.runs)
        raise InputError(
            f"experiment {plan.name}: {len(pending)} of {total} runs have no published result ({list_runs(pending)}); "
            f"run `{rerun_command(plan)}`, or ask for a partial report"
        )


def _with_unpublished(
    plan: Plan, found: list[FoundRun], pending: list[Run], store: Path | None, notes: list[str]
) -> FoundRuns:
    """Add the pending runs that are finished in the store, and put all in the order of the plan."""
    by_spec = _finished_by_spec(store) if pending and store is not None else {}
    ambiguous = 0
    for run in pending:
        folders = by_spec.get(run.spec, [])
        if folders:
            newest = max(folders, key=lambda folder: ((folder.path / "metrics.json").stat().st_mtime_ns, folder.digest))
            found.append(FoundRun(run, read_metrics(newest.path / "metrics.json", plan)))
            ambiguous += len(folders) > 1
    if ambiguous:
        notes.append(
            f"{ambiguous} runs have more than one finished folder (other photographs or teacher); the newest is shown."
        )
    by_path = {one.planned.path: one for one in found}
    ordered = (*plan.teachers, *plan.runs)
    return FoundRuns(
        tuple(by_path[run.path] for run in ordered if run.path in by_path),
        tuple(run for run in ordered if run.path not in by_path),
        tuple(notes),
    )


def _finished_by_spec(store: Path) -> dict[str, list[RunFolder]]:
    index: dict[str, list[RunFolder]] = {}
    for folder in Store(store.parent).folders():
        metrics = folder.metrics()
        if metrics is not None:
            index.setdefault(str(metrics.get("spec")), []).append(folder)
        elif (folder.path / "metrics.json").exists():
            logger.warning("%s: metrics.json is not whole; the run counts as missing", folder.path)
    return index
