"""Where the runs of an experiment stand, read from the store. Imports no torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dctkd.plan import Plan, Run
from dctkd.store import RunFolder, Store
from dctkd.store.seal import METRICS


def read_status(plan: Plan, results: Path) -> list[dict[str, Any]]:
    """Return one row per run: path, status and what belongs to it.

    Status is ok, diverged or oom for finished runs; running (with `done_fraction` and `eta_s`), saved (stopped, will
    resume), failed (with `reason`) or waiting for the others.
    """
    folders = _folders_by_spec(Store(results))
    return [_row(run, folders.get(run.spec)) for run in (*plan.teachers, *plan.runs)]


def _folders_by_spec(store: Store) -> dict[str, RunFolder]:
    """Map each spec to its most recently changed folder: photographs or precision may have changed in between."""
    newest: dict[str, tuple[float, RunFolder]] = {}
    for folder in store.folders():
        spec, updated_s = _spec_and_time(folder)
        if spec and (spec not in newest or newest[spec][0] < updated_s):
            newest[spec] = (updated_s, folder)
    return {spec: folder for spec, (_, folder) in newest.items()}


def _spec_and_time(folder: RunFolder) -> tuple[str | None, float]:
    """Return whose folder it is and when it last changed, in seconds: a finished run has metrics and no state."""
    metrics = folder.metrics()
    if metrics is not None:
        return metrics.get("spec"), (folder.path / METRICS).stat().st_mtime
    state = folder.state()
    return state.get("spec"), float(state.get("updated_s", 0.0))


def _row(run: Run, folder: RunFolder | None) -> dict[str, Any]:
    row: dict[str, Any] = {"path": run.path, "status": "waiting"}
    if folder is None:
        return row
    row["digest"] = folder.digest
    if (metrics := folder.metrics()) is not None:
        return {
            **row,
            "status": metrics["status"],
            **({"reason": _reason(metrics["detail"])} if "detail" in metrics else {}),
        }
    state = folder.state()
    if folder.is_locked():
        done = state.get("step", 0) / max(state.get("total_steps", 1), 1)
        eta_s = state.get("wall_s", 0.0) * (1 - done) / done if done else None
        age_s = time.time() - float(state.get("updated_s", time.time()))
        return {**row, "status": "running", "done_fraction": done, "eta_s": eta_s, "last_epoch_s_ago": age_s}
    if state.get("status") == "failed":
        return {**row, "status": "failed", "reason": state.get("reason", "unknown")}
    return {**row, "status": "saved", "done_fraction": state.get("step", 0) / max(state.get("total_steps", 1), 1)}


def _reason(detail: Mapping[str, Any]) -> str:
    return "; ".join(str(detail[key]) for key in ("reason", "remedy") if key in detail)


def print_status(rows: list[dict[str, Any]]) -> None:
    """Print a summary line, then every run that is not simply done or waiting."""
    from rich.console import Console
    from rich.table import Table

    counts = Counter(row["status"] for row in rows)
    console = Console()
    console.print(f"{len(rows)} runs: " + ", ".join(f"{number} {status}" for status, number in counts.most_common()))
    table = Table("run", "status", "done", "time left", "reason")
    for row in rows:
        if row["status"] in ("ok", "waiting"):
            continue
        done = f"{100 * row['done_fraction']:.0f} %" if "done_fraction" in row else ""
        eta = f"{row['eta_s'] / 60:.1f} min" if row.get("eta_s") is not None else ""
        table.add_row(row["path"], row["status"], done, eta, row.get("reason", ""))
    if table.row_count:
        console.print(table)
