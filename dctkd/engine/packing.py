"""The job that decodes a dataset once and publishes its data.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dctkd.errors import InputError
from dctkd.late_files import latency_of
from dctkd.plan import Plan
from dctkd.store import write_json


def publish_data(
    plan: Plan, edge: Path, results: Path, *, workers: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make a dataset's pixel cache, or take the one that is there, and write its edge.

    Args:
        plan: The experiment.
        edge: results/<experiment>/<dataset>/data.json.
        results: The results folder.
        workers: Processes that decode; changes speed only.
        progress: Called with (images done, images in all).

    Raises:
        InputError: If the experiment has no such dataset, or the dataset cannot be used.
    """
    from dctkd.data.prepare import prepare

    found = re.fullmatch(rf"{re.escape(plan.name)}/([^/]+)/data\.json", edge.relative_to(results).as_posix())
    if not found or found[1] not in plan.config.datasets:
        raise InputError(
            f"{edge}: expected {results}/{plan.name}/<dataset>/data.json; choose from {', '.join(plan.config.datasets)}"
        )
    name = found[1]
    identity = plan.data_identity(name)
    folder = cache_folder(plan, name)
    cache = prepare(
        identity.format,
        identity.options,
        plan.data_root(name),
        identity.input.short_side,
        identity.on_problem,
        results / folder,
        workers,
        progress,
        latency_s=latency_of(results, plan.config.shared_results, plan.config.latency_s),
    )
    summary: dict[str, Any] = {
        "fingerprint": cache.fingerprint,
        "cache": folder.as_posix(),
        "classes": list(cache.classes),
        "num_classes": len(cache.classes),
        "num_train_images": cache.num_images("train"),
        "num_test_images": cache.num_images("test"),
    }
    write_json(edge, summary)


def cache_folder(plan: Plan, name: str) -> Path:
    """Return where the pixel cache of a dataset lies, below the results folder."""
    return Path("cache") / f"{plan.data_identity(name).format}-{plan.data_spec(name)[:16]}"
