"""Checking what lies in the store and what was published from it, file by file."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dctkd.data.cache import read_header
from dctkd.errors import InputError
from dctkd.late_files import latency_of, settled
from dctkd.metrics import OVERLAP_FOLDER, OVERLAP_VERSION
from dctkd.provenance import sha256_of
from dctkd.store import RunFolder, Store, digest_of
from dctkd.store.published import (
    Edge,
    PlannedRun,
    experiments,
    planned_runs,
    published_edges,
    require_experiment,
    to_be_made_again,
)
from dctkd.store.seal import CONFIG, METRICS, SEAL, BrokenSealError, read_seal, run_files, whole_object

EVAL = "eval"
UNSEALED = ("state.json",)
UNSEALED_STARTS = ("lock", "checkpoint", ".")
"""Files that a seal does not cover: locks, checkpoints, and what is being written."""


@dataclass(frozen=True)
class Damage:
    """One damaged thing.

    Attributes:
        path: Where it lies.
        what: What is wrong with it.
        run: The run that it belongs to, whose lock must be free for mending; None for what was published.
        removed: What mending removes; edges that would point to nothing come first.
    """

    path: Path
    what: str
    run: RunFolder | None
    removed: tuple[Path, ...]


@dataclass(frozen=True)
class Verified:
    """What was looked at, what is damaged, and what was left out because it is being trained."""

    num_runs: int
    num_measurements: int
    num_edges: int
    damages: tuple[Damage, ...]
    in_training: tuple[RunFolder, ...]


def verify(results: Path, digests: Sequence[str] = (), experiment: str | None = None) -> Verified:
    """Check runs, what was measured of them, and what was published from them. Nothing is changed.

    Where results are shared, damage is looked at again until late files had their time to be seen.

    Args:
        results: The results folder.
        digests: Only these runs; empty: all.
        experiment: Only the runs that this experiment published or plans, and its edges.

    Raises:
        InputError: If there is no such run.
    """
    return settled(
        lambda: _verify(Store(results, 0.0), digests, experiment),
        lambda verified: not verified.damages,
        results,
        latency_of(results),
    )


def _verify(store: Store, digests: Sequence[str], experiment: str | None) -> Verified:
    results = store.results
    names = experiments(results)
    all_edges = published_edges(results, names)
    folders = chosen_folders(results, digests, experiment, all_edges)
    in_training = tuple(folder for folder in folders if folder.is_locked())
    free = [folder for folder in folders if folder not in in_training]
    by_digest: dict[str, list[Edge]] = {}
    for edge in all_edges:
        by_digest.setdefault(edge.digest or "", []).append(edge)
    damages = [damage for folder in free for damage in _check_run(results, folder, by_digest.get(folder.digest, ()))]
    removed = {path for damage in damages for path in damage.removed}
    chosen = {folder.digest for folder in folders} if digests or experiment else None
    edges = [edge for edge in all_edges if _is_chosen(edge, chosen, experiment)]
    plans = {name: _plan_by_path(results, name) for name in names}
    busy = {folder.digest for folder in in_training}
    for edge in edges:
        if edge.path in removed or edge.digest in busy:
            continue
        if (what := _flaw_of_edge(edge, store, plans[edge.experiment])) is not None:
            damages.append(Damage(edge.path, what, None, tuple(to_be_made_again(results, [edge], all_edges))))
    num_measured = sum((folder.path / OVERLAP_FOLDER).is_dir() for folder in free)
    return Verified(len(free), num_measured, len(edges), tuple(damages), in_training)


def chosen_folders(
    results: Path, digests: Sequence[str], experiment: str | None, edges: Iterable[Edge]
) -> list[RunFolder]:
    """Return the folders of the runs that are asked for, by the starts of their digests or by an experiment.

    Raises:
        InputError: If there is no such experiment, or the start of a digest fits no run, or several.
    """
    if experiment is not None:
        require_experiment(results, experiment)
    folders = list(Store(results).folders())
    if not digests and experiment is None:
        return folders
    wanted = {_only(digest, folders).digest for digest in digests}
    if experiment is not None:
        wanted |= {edge.digest for edge in edges if edge.experiment == experiment and edge.digest}
        specs = {run.spec for run in planned_runs(results, experiment)}
        wanted |= {folder.digest for folder in folders if (folder.metrics() or {}).get("spec") in specs}
    return [folder for folder in folders if folder.digest in wanted]


def _only(start: str, folders: Sequence[RunFolder]) -> RunFolder:
    found = [folder for folder in folders if folder.digest.startswith(start)]
    if len(found) != 1 or not start:
        raise InputError(
            f"run {start!r}: {len(found) or 'no'} runs of the store start so; `dctkd store list` shows them"
        )
    return found[0]


def _is_chosen(edge: Edge, chosen: set[str] | None, experiment: str | None) -> bool:
    return chosen is None or edge.digest in chosen or edge.experiment == experiment


def _plan_by_path(results: Path, experiment: str) -> dict[str, PlannedRun]:
    try:
        return {run.path: run for run in planned_runs(results, experiment)}
    except InputError:  # snakemake renews the plan whenever it starts
        return {}


def _check_run(results: Path, folder: RunFolder, edges: Sequence[Edge]) -> Iterator[Damage]:
    flaws = flaws_of_finished_run(folder)
    if flaws:
        removed = (*to_be_made_again(results, edges, ()), folder.path)
        yield Damage(folder.path, "; ".join(flaws), folder, removed)
        return
    for path, what in stray_files(folder):
        yield Damage(path, what, folder, (path,))
    for path in sorted((folder.path / EVAL).iterdir()) if is_plain_folder(folder.path / EVAL) else ():
        if is_plain_folder(path) and (flaws := folder.damage_of_measurements(path)):
            measured = [edge for edge in edges if edge.path.name == "overlap.json"]
            removed = (*to_be_made_again(results, measured, ()), path)
            yield Damage(path, "; ".join(flaws), folder, removed)


def flaws_of_finished_run(folder: RunFolder) -> list[str]:
    """Say what is wrong with a run that was finished: its files, and whether its name follows from its config."""
    if not os.path.lexists(folder.path / METRICS):
        has_ended = (folder.path / SEAL).exists() and not list(folder.path.glob("checkpoint*"))
        return [f"{METRICS} is gone"] if has_ended else []
    return folder.damage() or _flaws_of_name(folder)


def _flaws_of_name(folder: RunFolder) -> list[str]:
    """Compare the folder's name with what config.yaml says, as far as it says all that goes into a digest."""
    metrics = folder.metrics() or {}
    config = read_config(folder)
    if config is None:
        return [f"{CONFIG} is not a config"]
    spec = config.get("spec")
    flaws = [] if spec == metrics.get("spec") else [f"{CONFIG} has another spec than {METRICS}"]
    if sha256_of(config.get("identity")) != spec:
        flaws.append(f"{CONFIG}: the identity does not give the spec")
    is_known = "pretrained_sha256" in config or not config["identity"]["model"]["pretrained"]
    known = {
        "fingerprint": config.get("dataset_fingerprint"),
        "teacher": config.get("teacher_digest"),
        "precision": config.get("precision"),
        "weights": config.get("pretrained_sha256"),
    }
    if is_known and digest_of(str(spec), **known) != folder.digest:
        flaws.append(f"{CONFIG} does not give the folder's name")
    return flaws


def read_config(folder: RunFolder) -> dict[str, Any] | None:
    """Return the content of a run's config.yaml; None if it is missing or is not what a run writes."""
    try:
        content = yaml.load((folder.path / CONFIG).read_bytes(), Loader=_loader())
        return content if isinstance(content["identity"]["model"]["pretrained"], bool) else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, RecursionError):
        return None


def _loader() -> type[Any]:
    """Return the fast loader of plain YAML where libyaml is there; both refuse objects."""
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def stray_files(folder: RunFolder, *, is_foreign: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield what does not belong into a run's folder, and why; links are not followed.

    Args:
        folder: The run.
        is_foreign: It came from elsewhere, as a finished run: locks and checkpoints do not belong to it either.
    """
    known = _sealed_names(folder, folder.path) or set(run_files(folder.path))
    known |= {METRICS, SEAL} if is_foreign else {METRICS, SEAL, *UNSEALED}
    starts = () if is_foreign else UNSEALED_STARTS
    for path in sorted(folder.path.iterdir()):
        if path.name == EVAL and is_plain_folder(path):
            yield from _strays_in_measurements(folder)
        elif (what := _oddity(path, known, starts)) is not None:
            yield path, what


def _strays_in_measurements(folder: RunFolder) -> Iterator[tuple[Path, str]]:
    for measured in sorted((folder.path / EVAL).iterdir()):
        if not is_plain_folder(measured):
            yield measured, "is no folder of measurements"
            continue
        names = sorted(path.name for path in measured.iterdir())
        known = {*(_sealed_names(folder, measured) or names), SEAL}
        odd = ((measured / name, _oddity(measured / name, known, UNSEALED_STARTS)) for name in names)
        yield from ((path, what) for path, what in odd if what is not None)


def _oddity(path: Path, known: Collection[str], starts: tuple[str, ...]) -> str | None:
    """Say why a file does not belong where it lies, or None."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if not stat.S_ISREG(mode):
        return "is no plain file"
    is_known = path.name in known or path.name.startswith(starts)
    return None if is_known else "does not belong to the run"


def _sealed_names(folder: RunFolder, path: Path) -> set[str]:
    try:
        seal = read_seal(path, folder.digest)
    except BrokenSealError:
        return set()
    return set() if seal is None else set(seal.files)


def is_plain_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def _flaw_of_edge(edge: Edge, store: Store, plan: Mapping[str, PlannedRun]) -> str | None:
    """Say what is wrong with a published file, or None."""
    if edge.content is None or (edge.is_about_a_run and edge.digest is None):
        return "is not whole"
    if edge.path.name == "data.json":
        return _flaw_of_data(edge.content, store.results)
    if edge.path.name == "overlap.json":
        return _flaw_of_overlap(edge.content, store.folder(str(edge.digest)))
    folder = store.folder(str(edge.digest))
    metrics = folder.metrics()
    if metrics is None:
        return f"its run {folder.digest[:12]} is not finished in the store"
    planned = plan.get(edge.path.relative_to(store.results).as_posix())
    is_current = planned is not None and planned.spec == edge.content.get("spec")
    names = planned.names if planned is not None and is_current else edge.content.get("run")
    return None if edge.content == {**metrics, "run": names} else "is not what the store has"


def _flaw_of_overlap(content: Mapping[str, Any], folder: RunFolder) -> str | None:
    if content.get("version") != OVERLAP_VERSION or "reason" in content:
        return None
    try:
        measured = whole_object((folder.path / OVERLAP_FOLDER / "summary.json").read_bytes())
    except OSError:
        measured = None
    if measured is None:
        return "its measurements are not in the store"
    if content.get("sources") == measured["sources"]:
        rest = {key: value for key, value in content.items() if key not in ("digest", "spec")}
        is_same = rest == measured and content.get("spec") == (folder.metrics() or {}).get("spec")
        return None if is_same else "is not what the store has"
    # Another experiment has measured more map sources of the same run since.
    is_part = all(row in measured["results"] for row in content["results"])
    return None if is_part else "is not what the store has"


def _flaw_of_data(content: Mapping[str, Any], results: Path) -> str | None:
    header = read_header(results / str(content.get("cache")))
    if header is None:  # a cache may be removed when it is not needed; packing makes it again
        return None
    try:
        names = list(header["classes"])
        splits = {f"num_{split}_images": header["splits"][split]["num_images"] for split in ("train", "test")}
        expected = {"fingerprint": header["fingerprint"], "classes": names, "num_classes": len(names), **splits}
    except (KeyError, TypeError):
        return f"its pixel cache is damaged: delete {results / str(content['cache'])}"
    expected["cache"] = content["cache"]
    # Former versions wrote less into it.
    is_same = "fingerprint" in content and all(expected.get(key) == value for key, value in content.items())
    return None if is_same else "is not what the pixel cache says"
