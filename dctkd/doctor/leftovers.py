"""What is locked, failed or left behind in the working folder."""

from __future__ import annotations

import os
import shlex
import time
from base64 import urlsafe_b64decode
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dctkd.data.disk_space import readable_bytes
from dctkd.data.unfinished import JOURNAL
from dctkd.doctor.finding import Finding, Surroundings, counted
from dctkd.doctor.processes import Process, processes_in
from dctkd.errors import InputError
from dctkd.file_systems import is_network, kind_of_file_system
from dctkd.plan_file import read_plan
from dctkd.snakemake_locks import is_ours
from dctkd.store import RunFolder, Store

LEFT_AFTER_S = 600.0
"""A temporary file this old is left over: a write takes seconds."""
PACKS_WITHIN_S = 120.0
"""A packing commits its journal every few seconds."""
LOOK_AT_MOST_S = 3.0
NUM_SHOWN = 3
PART = ".part"
UNLOCK = "snakemake --unlock --cores 1"
"""With cores: the rules are read before anything is unlocked, and one asks for all of them."""


def running(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell which processes work in this folder, and which of them nothing watches any more."""
    found = processes_in(surroundings.folder)
    watched = [process for process in found if not process.is_orphan]
    if watched:
        yield Finding("processes", "note", f"at work in this folder: {_described(watched)}")
    orphans = [process for process in found if process.is_orphan]
    if orphans:
        numbers = " ".join(str(process.pid) for process in orphans)
        text = (
            f"{_described(orphans)} go on in this folder though what started them is gone; let them end, or stop them: "
            "they save, and the same command goes on"
        )
        yield Finding("processes", "warning", text, f"kill -TERM {numbers}")


def snakemake_locks(surroundings: Surroundings) -> Iterator[Finding]:
    """Look for a lock of a Snakemake that is no more: the next one would refuse to start."""
    folder = surroundings.folder / ".snakemake" / "locks"
    if not _files_in(folder):
        return
    snakemakes = [process for process in processes_in(surroundings.folder) if process.program == "snakemake"]
    if snakemakes:
        yield Finding("Snakemake's lock", "note", f"held by process {snakemakes[0].pid}")
    elif all(is_ours(path) for path in _files_in(folder)):
        yield Finding("Snakemake's lock", "note", "left by a Snakemake that is no more; the next one removes it")
    elif is_network(kind_of_file_system(folder)[0]):
        text = "the folder is locked, by no process of yours on this host; if none runs on another host either:"
        yield Finding("Snakemake's lock", "warning", text, UNLOCK)
    else:
        text = "the folder is locked by a Snakemake that is no more; the next one would not start"
        yield Finding("Snakemake's lock", "problem", text, UNLOCK)


def incomplete_outputs(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell of jobs that were cut off; Snakemake makes their files again."""
    folder = surroundings.folder / ".snakemake" / "incomplete"
    markers = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not markers or any(process.program == "snakemake" for process in processes_in(surroundings.folder)):
        return
    names = [_decoded(path, folder) for path in markers]
    text = f"{counted(len(names), 'output')} left incomplete ({_some(names)}); the next snakemake makes them again"
    yield Finding("cut-off jobs", "note", text)


def runs(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell which runs are in work, were stopped, or failed and why."""
    locked: list[RunFolder] = []
    stopped = 0
    failed: dict[str, list[RunFolder]] = defaultdict(list)
    unfinished = (folder for folder in Store(surroundings.results).folders() if folder.metrics() is None)
    for folder in unfinished:
        state = folder.state()
        if folder.is_locked():
            locked.append(folder)
        elif state.get("status") == "failed":
            failed[str(state.get("reason", "unknown"))].append(folder)
        else:
            stopped += "step" in state
    if locked:
        owners = sorted({folder.owner() for folder in locked})
        yield Finding("runs in work", "note", f"{counted(len(locked), 'run')} by {_some(owners)}")
    if stopped:
        yield Finding("stopped runs", "note", f"{counted(stopped, 'run')} to go on when snakemake runs again")
    yield from _failed(failed, surroundings)


def packings(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell of pixel caches that are not finished."""
    for folder in sorted((surroundings.results / "cache").glob(f".*{PART}")):
        if not folder.is_dir():
            continue
        size = readable_bytes(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        target = folder.name.removeprefix(".").split(".")[0]
        journal = folder / JOURNAL
        if time.time() - (journal if journal.exists() else folder).stat().st_mtime < PACKS_WITHIN_S:
            yield Finding("packing", "note", f"{target} is being packed, {size} so far")
        else:
            text = f"{target} is not finished ({size}); the same experiment goes on there; if it is not wanted:"
            yield Finding("packing", "note", text, f"rm -r {shlex.quote(surroundings.shown(folder))}")


def temporary_files(surroundings: Surroundings) -> Iterator[Finding]:
    """Look for temporary files of writes that were killed; nothing reads them."""
    until_s, oldest_s = time.monotonic() + LOOK_AT_MOST_S, time.time() - LEFT_AFTER_S
    number, size, is_cut = 0, 0, False
    folders = [folder for name in ("results", "paper_tables") if (folder := surroundings.folder / name).is_dir()]
    for path in _temporary_files(folders):
        status = path.lstat()
        if status.st_mtime < oldest_s:
            number, size = number + 1, size + status.st_size
        if time.monotonic() > until_s:
            is_cut = True
            break
    if number:
        names = " ".join(folder.name for folder in folders)
        more = ", and maybe more" if is_cut else ""
        text = f"{counted(number, 'file')} of writes that were killed, {readable_bytes(size)}{more}"
        chosen = f"-name '.*{PART}' -type f -mmin +{LEFT_AFTER_S / 60:.0f} -not -path '*/.*{PART}/*'"
        remedy = f"find {names} {chosen} -delete"
        yield Finding("temporary files", "note", text, remedy)


def plans(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether the plans that jobs read can be read."""
    for path in sorted(surroundings.results.glob("*/plan.json")):
        try:
            read_plan(path)
        except (InputError, OSError) as error:
            is_this = surroundings.plan is not None and surroundings.plan.name == path.parent.name
            config = shlex.quote(str(surroundings.config)) if is_this else "FILE"
            text = " ".join(str(error).split()).replace(f"{surroundings.folder}/", "")[:300]
            yield Finding("plan", "warning", text, f"snakemake --cores all --configfile {config}")


CHECKS = (running, snakemake_locks, incomplete_outputs, runs, packings, temporary_files, plans)


def _failed(failed: dict[str, list[RunFolder]], surroundings: Surroundings) -> Iterator[Finding]:
    for reason, folders in list(failed.items())[:NUM_SHOWN]:
        log = shlex.quote(surroundings.shown(folders[0].path / "log.txt"))
        text = f"{counted(len(folders), 'run')}: {' '.join(reason.split())[:200]}; the next snakemake tries again"
        yield Finding("failed runs", "warning", text, f"tail -n 30 {log}")
    if len(failed) > NUM_SHOWN:
        text = f"{len(failed) - NUM_SHOWN} other reasons; `dctkd status --config FILE` lists all"
        yield Finding("failed runs", "warning", text)


def _described(processes: list[Process]) -> str:
    return _some([f"{process.program} {process.command} ({process.pid})" for process in processes])


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NUM_SHOWN} more" if len(texts) > NUM_SHOWN else ""
    return f"{', '.join(texts[:NUM_SHOWN])}{more}"


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _temporary_files(folders: list[Path]) -> Iterator[Path]:
    for top in folders:
        for folder, inner, names in os.walk(top):
            inner[:] = [name for name in inner if not name.endswith(PART)]  # unfinished packings: told elsewhere
            yield from (Path(folder, name) for name in names if name.startswith(".") and name.endswith(PART))


def _decoded(marker: Path, folder: Path) -> str:
    """Output that a marker of Snakemake's stands for: its path in base64, cut where file names get too long."""
    code = "".join(part.removeprefix("@") for part in marker.relative_to(folder).parts)
    try:
        return urlsafe_b64decode(code).decode()
    except ValueError:
        return marker.name
