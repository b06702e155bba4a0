"""Pixel caches copied to a node's own disk, once per node, so that its jobs do not read pixels over the network.

    <stage_to>/<cache>-<fingerprint>/           a copy; whoever reads it holds a shared kernel lock on the folder
    <stage_to>/.<cache>-<fingerprint>.part/     one that is being made, or was when its job was killed
    <stage_to>/.staging.lock                    held while a copy is made or removed

A copy is the pixels, bit for bit, or it is not used: where anything is amiss the job says so and reads what is shared.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dctkd.data.cache import HEADER, INDEX, MANIFEST, MASKS, PIXELS, PixelCache
from dctkd.data.disk_space import readable_bytes
from dctkd.data.manifest import SPLITS
from dctkd.data.verify import verify_cache
from dctkd.errors import InputError
from dctkd.late_files import patiently
from dctkd.locks import Held, Patience, read_owner, try_lock

logger = logging.getLogger(__name__)

LOCK = ".staging.lock"
COPY = re.compile(r".+-[0-9a-f]{16}")
PART = re.compile(r"\..+-[0-9a-f]{16}\.part")
"""Names of what lies there; nothing else in the folder is ever touched."""
BLOCK_BYTES = 16 << 20
MARGIN_BYTES = 100 * 10**6
"""Left free beside the copies."""

Ask = Callable[[], object]


class NotStagedError(Exception):
    """Why there is no copy, for one line of the log."""


@dataclass(frozen=True)
class Staging:
    """Where copies may lie.

    Attributes:
        to: Folder on a local disk; `$VARIABLES` stand for what they are in this process.
        limit_bytes: Of all copies together; None: what the disk has.
    """

    to: str
    limit_bytes: float | None = None

    def folder(self) -> Path:
        """Return the folder.

        Raises:
            NotStagedError: If a variable is not set, or the path is not absolute.
        """
        folder = os.path.expandvars(self.to)
        if "$" in folder:
            raise NotStagedError(f"stage_to: a variable of {self.to} is not set here")
        if not Path(folder).is_absolute():
            raise NotStagedError(f"stage_to: expected the path of a folder from / on, got {folder!r}")
        return Path(folder)


@contextmanager
def near_pixels(
    shared: Path, fingerprint: str, staging: Staging | None, *, latency_s: float = 0.0, ask: Ask = lambda: None
) -> Iterator[PixelCache]:
    """Open a pixel cache for reading: a checked copy on this node's disk if there is one or can be one.

    Staging never makes a job fail: whatever hinders it is one line of the log, and pixels come from `shared`.

    Args:
        shared: The cache in the results folder.
        fingerprint: The dataset's; copies are known by it.
        staging: Where copies may lie; None: there are none.
        latency_s: For how long the shared files may be seen late.
        ask: Called now and then while this waits or copies; may raise, to stop the job.

    Yields:
        The cache; the copy it may stand for is not removed while the block runs.

    Raises:
        InputError: If there is no whole cache in `shared`.
    """
    cache = patiently(lambda: PixelCache.open(shared), shared, latency_s)
    found = None
    try:
        found = None if staging is None else _obtain(cache, fingerprint, staging, ask)
    except (OSError, InputError, NotStagedError) as error:
        logger.warning("%s: pixels are read from there, no copy is made (%s)", shared, error)
    if found is None:
        yield cache
        return
    copy, handle = found
    try:
        yield copy
    finally:
        os.close(handle)


def _obtain(cache: PixelCache, fingerprint: str, staging: Staging, ask: Ask) -> tuple[PixelCache, int]:
    """Return the copy of a cache and the handle that says it is in use; it is made if it is not there."""
    if cache.fingerprint != fingerprint:
        raise NotStagedError(f"its fingerprint is not {fingerprint[:16]}")
    folder = staging.folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise NotStagedError(f"{folder}: others may replace what lies there; run chmod o-w on it")
    target = folder / f"{cache.path.name}-{fingerprint[:16]}"
    if (found := _use(target, cache)) is not None:
        return found
    with _lock(folder / LOCK, ask):
        if (found := _use(target, cache)) is None:  # another job may have made it meanwhile
            _make(cache, target, staging, ask)
            found = _use(target, cache)
    if found is None:
        raise NotStagedError(f"{target}: was made but cannot be read")
    return found


def _lock(path: Path, ask: Ask) -> Held:
    patience = Patience(None)
    while (held := try_lock(path)) is None:
        ask()
        patience.wait(f"waiting for a copy of pixels by {read_owner(path) or 'another process'}")
    return held


def _use(target: Path, shared: PixelCache) -> tuple[PixelCache, int] | None:
    """Open a copy and note that it is used; None if there is none that is whole: header, shapes, sizes."""
    try:
        handle = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        _require_ours(target, handle)
        copy = _opened(target, shared) if _is_locked(target, handle, fcntl.LOCK_SH) else None
        if copy is not None:
            now_ns = time.time_ns()  # finer than the kernel's own clock of files
            os.utime(handle, ns=(now_ns, now_ns))  # the copy that was not used for longest goes first
            return copy, handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _opened(target: Path, shared: PixelCache) -> PixelCache | None:
    try:
        copy = PixelCache.open(target)
    except InputError:
        return None
    # Names are read from what is shared: a cleaner of temporary folders may take single files of a copy.
    return replace(copy, path=shared.path) if copy.fingerprint == shared.fingerprint else None


def _require_ours(target: Path, handle: int) -> None:
    found = os.fstat(handle)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotStagedError(f"{target}: another user may write to it")


def _is_locked(target: Path, handle: int, kind: int) -> bool:
    """Lock the folder that a handle stands for; False if others forbid that or it has just been removed."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        return target.stat().st_ino == os.fstat(handle).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _make(cache: PixelCache, target: Path, staging: Staging, ask: Ask) -> None:
    """Copy a cache: under another name, then check it, then rename it. The folder's lock is held."""
    for path in target.parent.iterdir():
        if PART.fullmatch(path.name):  # its job was killed
            shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(target) and not _remove_unused(target):
        raise NotStagedError(f"{target}: is damaged, and in use")
    num_bytes = sum((cache.path / name).stat().st_size for name in _names(cache))
    _make_room(target.parent, num_bytes, staging.limit_bytes)
    part = target.with_name(f".{target.name}.part")
    try:
        copy_s, check_s = _copy_all(cache, part, ask)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    size = readable_bytes(num_bytes)
    logger.info("%s: %s copied to %s in %.1f s, checked in %.1f s", cache.path, size, target, copy_s, check_s)


def _copy_all(cache: PixelCache, part: Path, ask: Ask) -> tuple[float, float]:
    """Copy a cache and compare the copy with its fingerprint; return the seconds that each took."""

    def progress(*_: int) -> None:
        ask()

    started_s = time.monotonic()
    for split in SPLITS:
        (part / split).mkdir(mode=0o700, parents=True)
    part.chmod(0o700)
    for name in _names(cache):
        _copy(cache.path / name, part / name, ask)
    copied_s = time.monotonic()
    if verify_cache(part, progress=progress).fingerprint != cache.fingerprint:
        raise NotStagedError("the shared cache changed while it was copied")
    return copied_s - started_s, time.monotonic() - copied_s


def _names(cache: PixelCache) -> list[str]:
    files = (PIXELS, INDEX, MASKS) if cache.mask_names else (PIXELS, INDEX)
    return [*(f"{split}/{name}" for split in SPLITS for name in files), MANIFEST, HEADER]


def _copy(source: Path, target: Path, ask: Ask) -> None:
    """Copy a file in large blocks, down to the disk: a later job looks at no more than its size."""
    block = memoryview(bytearray(BLOCK_BYTES))
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        while num_bytes := reader.readinto(block):
            ask()
            done = 0
            while done < num_bytes:
                done += writer.write(block[done:num_bytes])
        os.fsync(writer.fileno())


def _make_room(folder: Path, num_bytes: int, limit_bytes: float | None) -> None:
    """Remove the copies that were not used for longest and are not in use, if that makes the room that is needed.

    Raises:
        NotStagedError: If there is not enough room; nothing is removed then.
    """
    copies = sorted(
        (path for path in folder.iterdir() if COPY.fullmatch(path.name) and (path / HEADER).is_file()),
        key=lambda path: path.stat().st_mtime_ns,
    )
    sizes = {path: sum(one.stat().st_size for one in path.rglob("*") if one.is_file()) for path in copies}
    unused = [path for path in copies if _is_unused(path)]
    total_bytes, free_bytes = sum(sizes.values()), shutil.disk_usage(folder).free - MARGIN_BYTES
    removed: list[Path] = []

    def is_enough() -> bool:
        freed = sum(sizes[path] for path in removed)
        fits_limit = limit_bytes is None or total_bytes - freed + num_bytes <= limit_bytes
        return fits_limit and num_bytes <= free_bytes + freed

    while not is_enough():
        if len(removed) == len(unused):
            limit = "" if limit_bytes is None else f", stage_limit_gb is {limit_bytes / 1e9:g}"
            needed, free = readable_bytes(num_bytes), readable_bytes(max(free_bytes, 0))
            raise NotStagedError(f"{folder}: {needed} needed, {free} free{limit}")
        removed.append(unused[len(removed)])
    for path in removed:
        if _remove_unused(path):
            logger.info("%s: removed, to make room for another copy", path)


def _is_unused(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.fstat(handle).st_uid == os.geteuid() and _is_locked(path, handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _remove_unused(path: Path) -> bool:
    """Remove a copy that nobody reads; whoever opens it meanwhile finds it locked, or gone."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _is_locked(path, handle, fcntl.LOCK_EX):
            return False
        gone = path.with_name(f".{path.name}.part")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    finally:
        os.close(handle)
    return True
