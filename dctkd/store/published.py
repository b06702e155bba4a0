"""What experiments need of the store: the edges that they publish below `results/`, the runs that their plans name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dctkd.errors import InputError, did_you_mean
from dctkd.store.seal import whole_object

EDGE_NAMES = ("metrics.json", "teacher.json", "overlap.json", "data.json")
PLAN = "plan.json"
TABLES, RUNS_FILE = "paper_tables", "runs.json"
"""Beside results/: the folder of all tables, and the file of each experiment's that describes the runs in them."""
NO_EXPERIMENTS = ("store", "cache")
"""Folders below results/ that belong to no experiment."""
DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Edge:
    """One published file.

    Attributes:
        path: The file.
        experiment: Name of the experiment's folder.
        content: What it says; None if it is not whole.
    """

    path: Path
    experiment: str
    content: Mapping[str, Any] | None

    @property
    def digest(self) -> str | None:
        """Digest of the run that it is about; None if it names none."""
        digest = None if self.content is None else self.content.get("digest")
        return digest if isinstance(digest, str) and DIGEST.fullmatch(digest) else None

    @property
    def is_about_a_run(self) -> bool:
        """Whether it should name a run."""
        return self.path.name != "data.json"


def experiments(results: Path) -> list[str]:
    """Return the names of all experiments that have a folder below results/."""
    folders = (path for path in results.iterdir() if path.is_dir()) if results.is_dir() else ()
    return sorted(path.name for path in folders if path.name not in NO_EXPERIMENTS and not path.name.startswith("."))


def published_edges(results: Path, names: Iterable[str]) -> list[Edge]:
    """Return all edges of experiments, in order of path; links are not followed."""
    edges = []
    for name in names:
        for folder, _, files in os.walk(results / name):
            paths = (Path(folder) / file for file in files if file in EDGE_NAMES)
            edges += [Edge(path, name, _content(path)) for path in paths]
    return sorted(edges, key=lambda edge: edge.path)


def _content(path: Path) -> dict[str, Any] | None:
    try:
        return None if path.is_symlink() else whole_object(path.read_bytes())
    except OSError:
        return None


@dataclass(frozen=True)
class PlannedRun:
    """A run as a plan names it; `names` is the `run` block of its edge."""

    spec: str
    path: str
    names: Mapping[str, Any]


def to_be_made_again(results: Path, removed: Iterable[Edge], edges: Iterable[Edge]) -> list[Path]:
    """Return what must go, so that snakemake makes some edges again.

    Snakemake does not miss a file whose descendants are all there, so one file of the tables goes with each edge, and
    the teachers' edges, which are only published again, with a data.json.

    Args:
        results: The results folder.
        removed: The edges that are not to stay.
        edges: All edges.
    """
    paths: dict[Path, None] = {}
    for edge in removed:
        paths[edge.path] = None
        paths[results.parent / TABLES / edge.experiment / RUNS_FILE] = None
        if not edge.is_about_a_run:
            teachers = (one.path for one in edges if one.path.name == "teacher.json")
            paths |= dict.fromkeys(path for path in teachers if path.is_relative_to(edge.path.parent))
    return list(paths)


def planned_runs(results: Path, experiment: str) -> list[PlannedRun]:
    """Return the runs that an experiment's plan names; none if it has no plan. Plans of other versions are read too.

    Raises:
        InputError: If plan.json is not whole.
    """
    path = results / experiment / PLAN
    try:
        raw = json.loads(path.read_bytes())
        return [_planned(record) for key in ("teachers", "runs") for record in raw[key]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a whole plan ({error}); run snakemake for {experiment}, which renews it"
        ) from error


def _planned(record: Mapping[str, Any]) -> PlannedRun:
    names = {key: record[key] for key in ("dataset", "teacher", "student", "method", "seed")}
    return PlannedRun(record["spec"], record["path"], {**names, "epochs": record["identity"]["recipe"]["epochs"]})


def require_experiment(results: Path, name: str) -> str:
    """Return the name of an experiment that is there.

    Raises:
        InputError: If there is none of that name.
    """
    known = experiments(results)
    if name not in known:
        raise InputError(
            f"{results}: no experiment {name!r}{did_you_mean(name, known)}; there are {', '.join(known) or 'none'}"
        )
    return name


def require_whole_edges(edges: Iterable[Edge]) -> None:
    """Refuse to go on where an edge does not tell which run it needs.

    Raises:
        InputError: If one is not whole.
    """
    for edge in edges:
        if edge.content is None or (edge.is_about_a_run and edge.digest is None):
            raise InputError(
                f"{edge.path}: not whole, so what it needs is not known; run `dctkd store verify --mend` first"
            )
