"""The job that measures where finished students look: per image, against their teacher and against annotated objects.

What has been measured already is only published. Imports no torch until something must be measured.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dctkd.errors import InputError, did_you_mean
from dctkd.large_imports import import_large
from dctkd.late_files import latency_of, settled
from dctkd.metrics import OVERLAP_FOLDER, OVERLAP_VERSION
from dctkd.plan import Plan, Run
from dctkd.store import RunFolder, Store, read_edge, write_json
from dctkd.store.seal import WEIGHTS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A student's run whose overlap is asked for, and what its training left behind."""

    run: Run
    folder: RunFolder
    status: str
    edge: Path

    @property
    def target(self) -> Path:
        """Folder of the measurements."""
        return self.folder.path / OVERLAP_FOLDER

    @property
    def reason_for_none(self) -> str | None:
        """Why there is nothing to measure, or None.

        Raises:
            InputError: If the weights are gone although they were kept.
        """
        if self.status != "ok":
            return f"the run's status is {self.status}"
        if not (self.folder.path / WEIGHTS).is_file():
            self.folder.require_whole()  # where results are shared, the weights may be seen only after a while
        if not (self.folder.path / WEIGHTS).is_file():
            return "its weights were not kept (keep_weights)"
        return None

    def summary(self, sources: Sequence[str]) -> dict[str, Any] | None:
        """Return what was measured before, or None if any of it is not whole or it lacks a map source."""
        folder = self.folder
        if flaws := settled(
            lambda: folder.damage_of_measurements(self.target), lambda flaws: not flaws, folder.path, folder.latency_s
        ):
            logger.warning("%s is damaged (%s); it is measured again", self.target, "; ".join(flaws))
            return None
        try:
            content: dict[str, Any] = json.loads((self.target / "summary.json").read_bytes())
        except (OSError, ValueError):
            return None
        fits = content.get("version") == OVERLAP_VERSION and set(sources) <= set(content.get("sources", ()))
        return content if fits else None


def measure_overlap(plan: Plan, edges: Sequence[Path], results: Path, *, device: str = "auto") -> None:
    """Measure what is missing, in one pass over the test set, and publish every edge.

    Args:
        plan: The experiment.
        edges: results/<experiment>/<dataset>/<pair>/<row>/seed<k>/overlap.json, of one dataset, pair and seed.
        results: The results folder.
        device: auto, cpu or cuda.

    Raises:
        InputError: If a path names no student's run, a run has not been trained, or they do not belong together.
    """
    latency_s = latency_of(results, plan.config.shared_results, plan.config.latency_s)
    wanted = [_wanted(plan, edge, Store(results, latency_s)) for edge in edges]
    sources = plan.config.map_sources
    missing = [one for one in wanted if one.reason_for_none is None and one.summary(sources) is None]
    if missing:
        import_large("timm", "dctkd.engine.attention")
        from dctkd.engine.attention import measure

        measure(plan, missing, results, sources=sources, device=device)
    for one in wanted:
        reason = one.reason_for_none
        content = {"version": OVERLAP_VERSION, "results": [], "reason": reason} if reason else one.summary(sources)
        assert content is not None
        write_json(one.edge, {**content, "digest": one.folder.digest, "spec": one.run.spec})


def _wanted(plan: Plan, edge: Path, store: Store) -> Wanted:
    by_path = {run.overlap_path: run for run in plan.runs}
    path = edge.relative_to(store.results).as_posix()
    if path not in by_path:
        raise InputError(f"{edge}: no student of experiment {plan.name} is measured there{did_you_mean(path, by_path)}")
    run = by_path[path]
    metrics = read_edge(edge.with_name("metrics.json"), store.latency_s)
    return Wanted(run, store.folder(metrics["digest"]), metrics["status"], edge)
