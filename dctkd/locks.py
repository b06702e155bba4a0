"""Exclusive locks that say who holds them, on local and on network file systems. Imports no torch.

A lock is a file with a record of its holder. Two witnesses tell whether the holder lives:

- the kernel (flock), for processes of one machine: it frees a lock in the moment its holder dies;
- the heartbeat, for machines that share a network file system, where flock may not reach or not exist: the holder
  renews the file's modification time every BEAT_S, and who sees no renewal for STALE_S may take the lock over.

No clock is compared with another one: an observer waits, by its own monotonic clock, for the file to change. A holder
that was stopped for so long that its lock was taken over finds another's record at its next beat, and gives up.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Self

from dctkd.errors import InputError

logger = logging.getLogger(__name__)

BEAT_S = 5.0
STALE_S = 60.0
"""Without a beat for so long a holder on another machine counts as dead."""

SETTLE_S = 1.0
"""Without flock: after this wait the last of several claimants that wrote at the same time finds its own record."""

FORGOTTEN_S = 600.0
"""Who only asks (status, doctor, gc) takes a foreign lock that was renewed within this time for held."""

POLL_S = 0.5
REMIND_S = 60.0

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: Name of the machine.
        boot: Identity of its running kernel, which containers of one machine share.
        pid: Process, as its own machine or container counts.
        since: Local time at which it got the lock, for people.
        token: Random text that no other holder has.
        mount: Number of the file system that it was taken on. Of one that is mounted twice on a machine, as FUSE does
            in containers, the kernel knows nothing on one mount of the locks on the other.
    """

    host: str
    boot: str
    pid: int
    since: str
    token: str
    mount: int = 0

    @classmethod
    def myself(cls, file: int) -> Owner:
        """Return this process as a new holder of an opened lock file."""
        since, mount = time.strftime("%Y-%m-%d %H:%M:%S"), os.fstat(file).st_dev
        return cls(socket.gethostname(), _boot(), os.getpid(), since, secrets.token_hex(8), mount)

    def shares_kernel_locks(self, file: int) -> bool:
        """Tell whether the kernel's lock on a file that this process has opened is the one that this holder took."""
        return (self.boot, self.mount) == (_boot(), os.fstat(file).st_dev)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: the host's name must do
        return socket.gethostname()


class Held:
    """A lock that this process holds, renewed in the background until it is released or lost."""

    def __init__(self, path: Path, file: int, owner: Owner) -> None:
        self.path, self.owner, self.is_lost = path, owner, False
        self._file: int | None = file
        self._num_blanks = 0
        self._guard = threading.Lock()

    def beat(self) -> None:
        """Renew the lock, or find that another process has taken it over."""
        with self._guard:  # a file that is given back meanwhile may already be another one's number
            if self._file is not None and not self.is_lost:
                self._renew(self._file)

    def _renew(self, file: int) -> None:
        try:
            owner = _read(self.path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                return  # a file system that is not reachable for a while says nothing about the lock
            owner = None
        with suppress(OSError):  # over NFS the file may be gone though it is open: the record at its place tells
            os.utime(file)
        # Blank once: somebody is just writing a record. Blank twice: taken over and given back.
        self._num_blanks = 0 if owner else self._num_blanks + 1
        if self._num_blanks > 1 or (owner is not None and owner.token != self.owner.token):
            logger.warning(
                "%s: silent for too long, this process lost its lock to %s", self.path, owner or "one that is done"
            )
            self.is_lost = True

    def release(self) -> None:
        """Give the lock back; releasing twice does no harm."""
        _HEART.forget(self)
        with self._guard:
            file, self._file = self._file, None
            if file is None:
                return
            if not self.is_lost:
                with suppress(OSError):
                    self.path.unlink()  # while it is held: whoever has just opened it finds it gone and starts over
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class _Heart:
    """One background thread per process that renews all locks it holds."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._pid = 0
        self._guard = threading.Lock()

    def remember(self, held: Held) -> None:
        with self._guard:
            self._held.append(held)
            self._start()

    def forget(self, held: Held) -> None:
        with self._guard:
            if held in self._held:
                self._held.remove(held)

    def _start(self) -> None:
        if self._pid != os.getpid():  # threads do not survive a fork
            self._pid = os.getpid()
            threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_S)
            for held in list(self._held):
                held.beat()


_HEART = _Heart()


class _Watch:
    """What this process has seen of foreign locks: since when each has not changed, by the monotonic clock."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[str, int, float]] = {}

    def is_silent(self, path: Path, token: str, modified_ns: int) -> bool:
        """Whether a lock has not been renewed for STALE_S since it was first looked at."""
        now = time.monotonic()
        seen = self._seen.get(path)
        if seen is None or seen[:2] != (token, modified_ns):
            self._seen[path] = (token, modified_ns, now)
            return False
        return now - seen[2] >= STALE_S


_WATCH = _Watch()


def try_lock(path: Path) -> Held | None:
    """Take a lock, or return None if another process holds it.

    A holder on another machine is believed dead only after its lock was seen unchanged for STALE_S, so a dead one is
    taken over by calling again, as `waiting` does.

    Args:
        path: The lock file; made if missing, its folder too. A symbolic link is refused.

    Raises:
        OSError: If the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        owner = _take(path, file)
    except BaseException as error:
        os.close(file)
        if isinstance(error, OSError) and error.errno == errno.ESTALE:
            return None  # given back on another machine since it was opened: the next try finds another file
        raise
    if owner is None:
        os.close(file)
        return None
    held = Held(path, file, owner)
    _HEART.remember(held)
    return held


def _take(path: Path, file: int) -> Owner | None:
    """Write this process's record into an opened lock file, if nobody holds it."""
    is_mine = _lock_in_kernel(file)
    if is_mine is False or not _is_at(path, file):
        return None
    former = _parse(os.pread(file, 4096, 0))
    if former is not None:
        if not _is_dead(path, file, former, kernel_knows=is_mine is True):
            return None
        logger.warning("%s: taken over from %s, which ended without giving it back", path, former)
    owner = Owner.myself(file)
    os.truncate(file, 0)
    os.pwrite(file, json.dumps(asdict(owner)).encode(), 0)
    os.fsync(file)
    if is_mine is None:
        time.sleep(SETTLE_S)
    # Looked up by name once more: what a network file system remembers of the name may be a file that is gone.
    return owner if read_owner(path) == owner else None


def _is_at(path: Path, file: int) -> bool:
    """Whether an opened file is still the one at the path: its holder may just have given it back."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(file).st_ino
    return False


def _lock_in_kernel(file: int, kind: int = fcntl.LOCK_EX) -> bool | None:
    """Take the kernel's lock: True if it is ours now, False if another process has it, None where there is none."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is_dead(path: Path, file: int, former: Owner, *, kernel_knows: bool) -> bool:
    if kernel_knows and former.shares_kernel_locks(file):
        return True
    return _WATCH.is_silent(path, former.token, os.fstat(file).st_mtime_ns)


def _parse(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None


def read_owner(path: Path) -> Owner | None:
    """Return who holds a lock, or held it and died; None if it was given back or nobody ever had it."""
    try:
        return _read(path)
    except OSError:
        return None


def _read(path: Path) -> Owner | None:
    # Opened anew each time: a network file system looks for changes when a file is opened.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _parse(os.read(file, 4096))
    finally:
        os.close(file)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds a lock, without taking it.

    Of a holder on another machine nothing but its last beat is known: one within FORGOTTEN_S counts as alive, by this
    machine's clock. Whoever means to write takes the lock itself.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        is_mine = _lock_in_kernel(file, fcntl.LOCK_SH)  # shared: two who ask do not take each other for holders
        owner = _parse(os.pread(file, 4096, 0))
        if is_mine is False:
            return True
        if owner is None or (is_mine and owner.shares_kernel_locks(file)):
            return False
        return abs(time.time() - os.fstat(file).st_mtime) < FORGOTTEN_S
    finally:
        os.close(file)


@contextmanager
def waiting(path: Path, what: str) -> Iterator[Held]:
    """Wait until a lock is free, then hold it; says now and then for whom it waits.

    Args:
        path: The lock file.
        what: What is waited for, for the message.

    Raises:
        InputError: If the lock file cannot be made.
    """
    patience = Patience(None)
    try:
        while (held := try_lock(path)) is None:
            patience.wait(f"{what}: waiting for {read_owner(path) or 'another process'}")
    except OSError as error:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another folder"
        raise InputError(f"{what}: cannot be written: {error.strerror}; {remedy}") from error
    with held:
        yield held


class Patience:
    """Waits step by step, with a line in the log at the start and every REMIND_S, and an end if there is a limit."""

    def __init__(self, limit_s: float | None) -> None:
        """Wait at most `limit_s` seconds in all; None: for ever."""
        self._limit_s = limit_s
        self._waited_s = 0.0
        self._reminded_s = -REMIND_S

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self._limit_s is not None and self._waited_s >= self._limit_s

    def wait(self, message: str) -> None:
        """Sleep for one step."""
        if self._waited_s - self._reminded_s >= REMIND_S:
            logger.info("%s", message)
            self._reminded_s = self._waited_s
        time.sleep(POLL_S)
        self._waited_s += POLL_S
