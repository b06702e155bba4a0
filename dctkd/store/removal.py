"""Removing from the store: what is damaged, and what no experiment needs. Never what a living process holds."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from dctkd.late_files import latency_of, settled
from dctkd.metrics import OVERLAP_FOLDER
from dctkd.store import RunFolder, Store
from dctkd.store.files import remove_file, remove_tree
from dctkd.store.published import experiments, planned_runs, published_edges, require_whole_edges
from dctkd.store.verify import EVAL, Damage, is_plain_folder, read_config

DAY_S = 24 * 3600
LEFTOVER = "what a killed process was writing"


@dataclass(frozen=True)
class Garbage:
    """Something that can go.

    Attributes:
        path: Where it lies.
        why: Why nothing needs it.
        num_bytes: What it takes.
        run: The run that it belongs to, whose lock must be free.
    """

    path: Path
    why: str
    num_bytes: int
    run: RunFolder | None


def mend(damages: Iterable[Damage]) -> Iterator[tuple[Damage, bool]]:
    """Remove what is damaged, and the edges that point to it, so that snakemake makes just that again.

    Yields:
        Each damage, and whether it is gone: what another process holds is left alone, and so is a run's folder that is
        a link to elsewhere.
    """
    for damage in damages:
        # A damaged run's lock stays: a job may be waiting for it.
        yield damage, _remove(damage.removed, damage.run, keep_lock=True)


def delete(garbage: Iterable[Garbage]) -> Iterator[tuple[Garbage, bool]]:
    """Remove what can go; yields as `mend`."""
    for one in garbage:
        yield one, _remove((one.path,), one.run, keep_lock=False)


def _remove(paths: Collection[Path], run: RunFolder | None, *, keep_lock: bool) -> bool:
    if run is not None and run.path.is_symlink():
        return False
    claim = nullcontext() if run is None else run.claim()
    if claim is None:
        return False
    with claim:
        for path in paths:
            if run is not None and path == run.path:
                run.remove_files()
                for former in path.glob("lock?*") if not keep_lock else ():
                    remove_file(former)
            elif is_plain_folder(path):
                remove_tree(path)
            else:
                remove_file(path)
    if run is not None and not keep_lock and run.path in paths:
        # The lock is given back by now: over NFS a file that is open cannot leave its folder.
        with suppress(OSError):  # another process may have begun the run since
            run.path.rmdir()
    return True


def find_garbage(results: Path) -> tuple[list[Garbage], list[str]]:
    """Return what no experiment needs, and what is left alone although it may be such, with the reason.

    A run is needed if an edge or a plan of any experiment names it, or if it is the teacher of one that is. Of needed
    runs, checkpoints can go once they are finished, and so can measurements of former versions and what killed
    processes were writing more than a day ago. Where results are shared, plans and edges of others get the time to be
    seen before anything is taken for garbage.

    Raises:
        InputError: If a plan or an edge is not whole: what it needs cannot be known.
    """
    return settled(lambda: _find_garbage(results), lambda found: not found[0], results, latency_of(results))


def _find_garbage(results: Path) -> tuple[list[Garbage], list[str]]:
    store = Store(results)
    needed = _needed(results, store)
    garbage: list[Garbage] = []
    left_alone: list[str] = []
    for folder in store.folders():
        if folder.path.is_symlink():
            left_alone.append(f"{folder.path}: is a link to elsewhere")
        elif folder.is_locked():
            left_alone.append(f"{folder.path}: is being trained by {folder.owner()}")
        elif folder.digest in needed:
            garbage += _garbage_in(folder)
        elif not folder.is_begun():
            garbage.append(Garbage(folder.path, "empty", size_of(folder.path), folder))
        elif _spec_of(folder) is None:
            left_alone.append(f"{folder.path}: does not tell which run it is")
        else:
            garbage.append(Garbage(folder.path, "no experiment names this run", size_of(folder.path), folder))
    return garbage + list(_leftovers(results, store)), left_alone


def _needed(results: Path, store: Store) -> set[str]:
    names = experiments(results)
    edges = published_edges(results, names)
    require_whole_edges(edges)
    specs = {run.spec for name in names for run in planned_runs(results, name)}
    needed = {edge.digest for edge in edges if edge.digest}
    needed |= {folder.digest for folder in store.folders() if _spec_of(folder) in specs}
    teachers = {(read_config(store.folder(digest)) or {}).get("teacher_digest") for digest in needed}
    return needed | {teacher for teacher in teachers if teacher}


def _spec_of(folder: RunFolder) -> str | None:
    """Return the spec of a run, finished or not; None if nothing in its folder tells."""
    for content in (folder.metrics(), folder.state(), read_config(folder)):
        if content and isinstance(content.get("spec"), str):
            return str(content["spec"])
    return None


def _garbage_in(folder: RunFolder) -> Iterator[Garbage]:
    if folder.metrics() is not None:
        for path in sorted(folder.path.glob("checkpoint*")):
            yield Garbage(path, "checkpoint of a finished run", size_of(path), folder)
    for path in sorted(folder.path.rglob(".*.part")):
        if _is_old(path):
            yield Garbage(path, LEFTOVER, size_of(path), folder)
    for path in sorted((folder.path / EVAL).iterdir()) if is_plain_folder(folder.path / EVAL) else ():
        if is_plain_folder(path) and path != folder.path / OVERLAP_FOLDER:
            yield Garbage(path, "measurements of a former version", size_of(path), folder)


def _leftovers(results: Path, store: Store) -> Iterator[Garbage]:
    """Yield what killed processes left in the store itself and beside edges."""
    for path in sorted(store.path.glob(".*")):
        if _is_old(path) and not path.name.endswith(".lock"):
            yield Garbage(path, "what a killed import left", size_of(path), None)
    for name in experiments(results):
        for path in sorted((results / name).rglob(".*.part")):
            if _is_old(path):
                yield Garbage(path, LEFTOVER, size_of(path), None)


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > DAY_S


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all plain files below a folder; links count as nothing."""
    if path.is_symlink():
        return 0
    paths = path.rglob("*") if path.is_dir() else (path,)
    return sum(one.lstat().st_size for one in paths if one.is_file() and not one.is_symlink())
