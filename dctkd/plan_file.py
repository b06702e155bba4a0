"""plan.json read back, by the jobs and the report. Imports neither torch nor timm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dctkd.config import Experiment
from dctkd.errors import InputError, shown
from dctkd.identity import is_identity
from dctkd.late_files import latency_of, patiently
from dctkd.packs import Pack
from dctkd.plan import Plan, Run


def read_plan(path: Path) -> Plan:
    """Read plan.json back: its config is checked again, and that each run is one of it, under its own name.

    Raises:
        InputError: If the file is missing or is not a plan of this version.
    """
    try:
        raw = json.loads(path.read_bytes())
        config = Experiment.model_validate(raw["config"])
        runs = {key: tuple(_run_of(record, config, key) for record in raw[key]) for key in ("teachers", "runs")}
        packs = tuple(Pack(record["index"], tuple(record["methods"])) for record in raw["packs"])
        where, is_for_cluster = str(raw["config_file"]), bool(raw.get("is_for_cluster", False))
        return Plan(config, where, runs["teachers"], runs["runs"], packs, is_for_cluster)
    except FileNotFoundError:
        raise InputError(f"{path}: no such plan; it is written when snakemake starts") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the plan.json of an experiment") from error
    except _NO_PLAN as error:
        raise _refusal(path, error) from error


def read_plan_of_jobs(path: Path) -> Plan:
    """Read plan.json as a job needs it: each run's identity must be whole and fit its spec.

    Raises:
        InputError: As in `read_plan`, and for an identity that was changed.
    """
    plan = patiently(lambda: read_plan(path), path.parent, latency_of(path))
    teachers = {(teacher.dataset, teacher.teacher, teacher.spec) for teacher in plan.teachers}
    alike: dict[tuple[str | None, ...], Mapping[str, Any]] = {}
    try:
        for run in (*plan.teachers, *plan.runs):
            row = (run.dataset, run.teacher, run.student, run.method)
            if not is_identity(run.identity, spec=run.spec, seed=run.seed, alike=alike.setdefault(row, run.identity)):
                raise ValueError(f"run {run.path} is not what its spec says")
            if (run.dataset, run.teacher, run.identity["teacher_spec"]) not in teachers and run.student is not None:
                raise ValueError(f"run {run.path} has no teacher")
    except _NO_PLAN as error:
        raise _refusal(path, error) from error
    return plan


_NO_PLAN = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)


def _refusal(path: Path, error: Exception) -> InputError:
    problem = f"{type(error).__name__}: {shown(str(error), quote='')}"
    return InputError(f"{path}: not a plan of this version ({problem}); run snakemake again, which rewrites it")


def _run_of(record: Mapping[str, Any], config: Experiment, key: str) -> Run:
    run = Run(**{name: value for name, value in record.items() if name != "pair"})
    names = {run.teacher, run.student or run.teacher}
    is_known = run.dataset in config.datasets and names <= set(config.models)
    is_student = run.student is not None and run.method in config.methods
    if not is_known or is_student != (key == "runs") or run.path != _path_of(config, run):
        raise ValueError(f"run {run.path} is not of the experiment")
    if type(run.seed) is not int or type(run.names()["epochs"]) is not int or not isinstance(run.spec, str):
        raise TypeError(f"run {run.path} has a seed, a spec or epochs of another type")
    return run


def _path_of(config: Experiment, run: Run) -> str:
    """Return where a run is published, below the results folder."""
    if run.student is None:
        return f"{config.experiment}/{run.dataset}/teachers/{run.teacher}/seed{run.seed}/teacher.json"
    return f"{config.experiment}/{run.dataset}/{run.pair}/{run.method}/seed{run.seed}/metrics.json"
