"""Disk and memory: space, who may write where, what kind of file system, how much memory is free."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from dctkd.cgroups import free_memory_bytes
from dctkd.data.disk_space import readable_bytes
from dctkd.doctor.finding import Finding, Surroundings, existing
from dctkd.file_systems import is_network, kind_of_file_system

LITTLE_DISK_BYTES = 2 * 10**9
LITTLE_TEMPORARY_BYTES = 200 * 10**6
NO_DISK_BYTES = 50 * 10**6
FEW_INODES = 10_000
MEMORY_PER_JOB_BYTES = 10**9
"""About what a job of the demo takes; libraries alone take half of it."""

WRITTEN = ("results", "results/store", "results/cache", "paper_tables", ".snakemake", ".snakemake/locks")


def free_space(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell the free space and file entries where results go and where temporary files go."""
    places = {"results disk": (surroundings.results, LITTLE_DISK_BYTES)}
    temporary = temporary_folder()
    if temporary is not None:
        places["temporary disk"] = (temporary, LITTLE_TEMPORARY_BYTES)
    for check, (folder, little_bytes) in places.items():
        place = existing(folder)
        free_bytes, free_inodes = shutil.disk_usage(place).free, _free_inodes(place)
        text = f"{readable_bytes(free_bytes)} free in {folder}"
        remedy = f"du -xh --max-depth=2 {shlex.quote(str(place))} | sort -h | tail"
        if free_bytes < NO_DISK_BYTES:
            yield Finding(check, "problem", f"{text}: nothing can be written; make space", remedy)
        elif free_inodes is not None and free_inodes < FEW_INODES:
            text = f"{free_inodes} files can still be made in {folder}; delete what is not needed"
            yield Finding(
                check, "problem" if free_inodes < 100 else "warning", text, f"{remedy.replace('-xh', '-x --inodes')}"
            )
        elif free_bytes < little_bytes:
            yield Finding(check, "warning", f"{text}, which is little; make space", remedy)
        else:
            yield Finding(check, "ok", text)


def writability(surroundings: Surroundings) -> Iterator[Finding]:
    """Look whether this user may write where the workflow writes; nothing is written to find out."""
    refused: dict[Path, str] = {}
    for name in WRITTEN:
        place = existing(surroundings.folder / name)
        if place not in refused and (why := _why_not_writable(place)) is not None:
            refused[place] = why
    for place, why in refused.items():
        text = f"{surroundings.shown(place)} cannot be written: {why}"
        yield Finding("writability", "problem", text, _remedy_of(place))
    if not refused:
        yield Finding("writability", "ok", "results, paper_tables and .snakemake can be written")


def temporary_files(_: Surroundings) -> Iterator[Finding]:
    """Look whether TMPDIR and its like can be used."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        value = os.environ.get(name)
        if value and (not Path(value).is_dir() or not os.access(value, os.W_OK | os.X_OK)):
            text = f"{name} is {value}, which is no folder that can be written; Python takes another"
            yield Finding("temporary files", "warning", text, f"mkdir -p {shlex.quote(value)}  # or: unset {name}")
    if temporary_folder() is None:
        text = "neither TMPDIR nor /tmp nor /var/tmp can be written"
        yield Finding("temporary files", "problem", text, 'mkdir -p "$HOME/tmp" && export TMPDIR="$HOME/tmp"')


def caches(_: Surroundings) -> Iterator[Finding]:
    """Look whether libraries can keep what they fetch or compute once."""
    home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    hub = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    plots = Path(os.environ.get("MPLCONFIGDIR") or cache / "matplotlib")
    for folder, variable, text in (
        (plots, "MPLCONFIGDIR", "matplotlib looks for fonts anew in every job"),
        (hub, "HF_HOME", "pretrained weights cannot be kept"),
    ):
        if (why := _why_not_writable(existing(folder))) is not None:
            message = f"{folder} cannot be written ({why}): {text}"
            yield Finding("caches", "warning", message, f'export {variable}="$PWD/.cache/{folder.name}"')


def file_system(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell where results lie on another machine's disk."""
    kind, source = kind_of_file_system(existing(surroundings.results))
    if is_network(kind):
        text = (
            f"results lie on {kind} ({source}): locks rely on heartbeats there, so a dead run is free only later, and "
            "what seems damaged or missing is looked at again for a minute (shared_results, latency_s)"
        )
        yield Finding("file system", "note", text)


def memory(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell how much memory is free, for this process's groups too."""
    available, granted = psutil.virtual_memory().available, free_memory_bytes(surroundings.root)
    is_limited = granted is not None and granted < available
    free_bytes = granted if granted is not None and is_limited else available
    text = f"{readable_bytes(free_bytes)} free" + (" within the limit of a cgroup" if is_limited else "")
    num_jobs = max(int(free_bytes / MEMORY_PER_JOB_BYTES), 1)
    if num_jobs < (os.cpu_count() or 1):
        text = f"{text}: little for {os.cpu_count()} jobs at a time"
        yield Finding("memory", "warning", text, f"snakemake --cores {num_jobs}")
    else:
        yield Finding("memory", "ok", text)


def shared_memory(surroundings: Surroundings) -> Iterator[Finding]:
    """Look at /dev/shm: processes that decode photographs side by side keep their semaphores there."""
    folder = surroundings.root / "dev/shm"
    if not folder.is_dir():
        text = f"{folder} is missing: photographs cannot be decoded by several processes"
        yield Finding("shared memory", "problem", text, f"sudo mount -t tmpfs -o mode=1777 tmpfs {folder}")
    elif not os.access(folder, os.W_OK | os.X_OK):
        text = f"{folder} cannot be written: photographs cannot be decoded by several processes"
        yield Finding("shared memory", "problem", text, f"sudo chmod 1777 {folder}")
    elif shutil.disk_usage(folder).free < 1 << 20:
        text = f"{folder} is full: photographs cannot be decoded by several processes; delete what is not needed"
        yield Finding("shared memory", "problem", text, f"ls -lhS {folder}")


CHECKS = (free_space, writability, temporary_files, caches, file_system, memory, shared_memory)


def temporary_folder() -> Path | None:
    """Return where Python puts temporary files; `tempfile.gettempdir` would write one to find out."""
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    folders = [Path(name) for name in (*named, "/tmp", "/var/tmp", "/usr/tmp") if name]
    return next((folder for folder in folders if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)), None)


def _free_inodes(place: Path) -> int | None:
    """None where the file system has no fixed number of them."""
    status = os.statvfs(place)
    return status.f_favail if status.f_files else None


def _why_not_writable(place: Path) -> str | None:
    if not place.is_dir():
        return "it is no folder"
    if os.access(place, os.W_OK | os.X_OK):
        return None
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    owner = place.stat().st_uid
    return "it is not writable" if owner == os.getuid() else f"it belongs to user {owner}"


def _remedy_of(place: Path) -> str | None:
    if not place.is_dir():
        return f"mv {shlex.quote(str(place))} {shlex.quote(str(place) + '.moved')}"
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        return None
    name = shlex.quote(str(place))
    if place.stat().st_uid == os.getuid():
        return f"chmod -R u+rwX {name}"
    return f'sudo chown -R "$(id -un)" {name}'
