"""What lies in the store, a row per run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dctkd.store import RunFolder, Store
from dctkd.store.published import experiments, published_edges
from dctkd.store.removal import size_of
from dctkd.store.seal import METRICS, whole_object
from dctkd.store.verify import read_config


def inventory(results: Path) -> list[dict[str, Any]]:
    """Return a row per run, in order of digest.

    Returns:
        digest, status (ok, diverged, oom; running, unfinished or damaged for others), dataset, pair (a teacher's name
        for a teacher), method, seed, experiments (names of those whose edges point to it), bytes, age_s (since it was
        finished or last changed), platform (short text), names that are not known are empty.
    """
    users: dict[str, set[str]] = {}
    for edge in published_edges(results, experiments(results)):
        users.setdefault(edge.digest or "", set()).add(edge.experiment)
    return [_row(folder, sorted(users.get(folder.digest, ()))) for folder in Store(results).folders()]


def _row(folder: RunFolder, users: list[str]) -> dict[str, Any]:
    metrics = folder.metrics()
    names = (metrics or read_config(folder) or {}).get("run", {})
    newest = folder.path / METRICS if metrics else folder.path
    pair = f"{names['teacher']}__{names['student']}" if names.get("student") else names.get("teacher", "")
    return {
        "digest": folder.digest,
        "status": _status(folder, metrics),
        "dataset": names.get("dataset", ""),
        "pair": pair,
        "method": (names.get("method") or "teacher") if names else "",
        "seed": names.get("seed"),
        "experiments": users,
        "bytes": size_of(folder.path.resolve()),
        "age_s": max(time.time() - newest.stat().st_mtime, 0.0),
        "platform": _platform(folder),
    }


def _status(folder: RunFolder, metrics: dict[str, Any] | None) -> str:
    if metrics is not None:
        return str(metrics["status"])
    if folder.is_locked():
        return "running"
    return "damaged" if (folder.path / METRICS).exists() else str(folder.state().get("status", "unfinished"))


def _platform(folder: RunFolder) -> str:
    try:
        environment = whole_object((folder.path / "environment.json").read_bytes()) or {}
    except OSError:
        environment = {}
    platform = environment.get("platform", {})
    parts = [platform.get("gpu") or platform.get("cpu_model"), platform.get("precision")]
    return ", ".join(str(part) for part in parts if part) + (" (mixed)" if environment.get("mixed_platform") else "")
