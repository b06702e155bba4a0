"""Downloading one official file: resumed where it stopped, checked before it gets its name.

Bytes go to `<name>.part`; `<name>.part.json` says which address they come from and how the server names that version.
Only http and https are spoken, also after a redirect. A killed download goes on with the next call.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import logging
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dctkd.data.fetch.official_sources import OfficialFile
from dctkd.errors import InputError
from dctkd.provenance import write_atomic

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes that are there, and that of the whole file if the server tells."""

CHUNK_BYTES = 1 << 18
GOOD_TRY_BYTES = 8 << 20
"""A try that brings this much sets the count of failed tries back: a long download may be cut often."""
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout_s: For connecting, and for each piece of data.
        num_tries: Failed tries in a row before an address is given up.
        first_pause_s: Before the second try; doubles from try to try, up to a minute.
    """

    timeout_s: float = 30.0
    num_tries: int = 4
    first_pause_s: float = 1.0


@dataclass(frozen=True)
class Attempt:
    """What one address answered."""

    url: str
    answer: str


class DownloadError(InputError):
    """No address gave the file.

    Attributes:
        attempts: One per address, in the order of trying.
    """

    def __init__(self, target: Path, attempts: list[Attempt]) -> None:
        self.attempts = tuple(attempts)
        tried = "; ".join(f"{attempt.url}: {attempt.answer}" for attempt in attempts)
        super().__init__(f"{target}: no address gave this file; tried {tried}")


class _GivenUpError(Exception):
    """This address will not do; another may."""


class _PassingError(Exception):
    """This may go better with the next try."""


def download(
    file: OfficialFile, target: Path, *, patience: Patience | None = None, progress: Progress | None = None
) -> None:
    """Get a file from the first of its addresses that gives it whole and right.

    Args:
        file: What is wanted.
        target: Path that it gets once it is checked; must not exist. Its folder is made.
        patience: Time limits and retries.
        progress: Told how far it is.

    Raises:
        DownloadError: If no address gave it. What has come of it stays in `<name>.part`, unless it is wrong.
        InputError: If another process downloads it, or the disk refuses.
    """
    attempts: list[Attempt] = []
    with _open_part(target) as part:
        for url in file.urls:
            try:
                _fetch(_Job(file, url, part, patience or Patience(), progress))
                if (flaw := find_flaw(part.path, file)) is not None:
                    part.clear()
                    raise _GivenUpError(f"{flaw}; nothing of it is kept")
                part.finish(target)
                return
            except _GivenUpError as error:
                attempts.append(Attempt(url, str(error)))
                logger.info("%s: %s", url, error)  # the caller tells what it comes to
    raise DownloadError(target, attempts)


def find_flaw(path: Path, file: OfficialFile) -> str | None:
    """Compare a file on this disk with what is known of the official one.

    Args:
        path: An existing file.
        file: What it should be.

    Returns:
        One line with the expected and the found size or checksum, or None if nothing speaks against it.
    """
    num_bytes = path.stat().st_size
    if file.is_size_exact and num_bytes != file.expected_bytes:
        return f"expected {file.expected_bytes} bytes, got {num_bytes}"
    if file.checksum is None:
        return None
    algorithm = file.checksum.algorithm
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
        opened.seek(0)
        is_page = opened.read(64).lstrip().lower().startswith((b"<!doctype html", b"<html"))
    if digest == file.checksum.digest:
        return None
    page = " (it is a web page)" if is_page else ""
    return f"expected {file.how_checked}, got {algorithm} {digest} of {num_bytes} bytes{page}"


class _Part:
    """The bytes that have come so far, and the note on where they come from; held by one process."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.note_path = path.with_name(path.name + ".json")
        self._handle = handle

    @property
    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def note(self) -> dict[str, Any]:
        try:
            note = json.loads(self.note_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def start(self, offset: int, note: Mapping[str, Any]) -> None:
        """Cut to `offset` before the note changes: old bytes must never pass for those of a new version."""
        with _disk_errors(self.path):
            os.ftruncate(self._handle, offset)
            write_atomic(self.note_path, json.dumps(note))
            os.lseek(self._handle, offset, os.SEEK_SET)

    def append(self, data: bytes) -> None:
        with _disk_errors(self.path):
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]

    def clear(self) -> None:
        with _disk_errors(self.path):
            os.ftruncate(self._handle, 0)
            self.note_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        with _disk_errors(target):
            os.fsync(self._handle)
            self.path.rename(target)
            self.note_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Job:
    file: OfficialFile
    url: str
    part: _Part
    patience: Patience
    progress: Progress | None


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}; make space or choose another") from error


@contextmanager
def _open_part(target: Path) -> Iterator[_Part]:
    path = target.with_name(target.name + ".part")
    with _disk_errors(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    part = _Part(path, handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{path}: another process downloads this file; wait until it is done") from None
        try:
            yield part
        finally:
            if path.exists() and part.size == 0:
                path.unlink()
                part.note_path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _fetch(job: _Job) -> None:
    """Bring the part to its full size, in as many tries as it takes."""
    num_failed = 0
    while True:
        before = job.part.size
        try:
            _transfer(job)
            return
        except _PassingError as error:
            num_failed = 1 if job.part.size - before >= GOOD_TRY_BYTES else num_failed + 1
            if num_failed >= job.patience.num_tries:
                raise _GivenUpError(f"{error}; gave up after {num_failed} tries") from error
            pause_s = min(job.patience.first_pause_s * 2 ** (num_failed - 1), 60.0)
            logger.info("%s: %s; trying again in %g s", job.url, error, pause_s)
            time.sleep(pause_s)


def _transfer(job: _Job) -> None:
    note = job.part.note()
    offset = _resumable_bytes(job, note)
    if offset and note.get("total") == offset:
        return  # whole, but not yet checked when the process was killed
    headers = {"User-Agent": "dctkd", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if note.get("validator"):
            headers["If-Range"] = note["validator"]
    with _network_errors(job, offset), _open(job.url, headers, job.patience.timeout_s) as response:
        start, total = _agree_on_range(job, response, offset, note)
        _require_size(job.file, total)
        if start < offset:
            logger.warning("%s: cannot go on at byte %d: the server sends all of it; starting anew", job.url, offset)
        elif offset:
            logger.info("%s: going on at byte %d", job.url, offset)
        job.part.start(start, {"url": job.url, "validator": _validator(response), "total": total})
        _copy(job, response, start, total)


def _resumable_bytes(job: _Job, note: Mapping[str, Any]) -> int:
    """Return how many bytes can be kept: those of this address, if a change of the file would be noticed."""
    can_notice = bool(note.get("validator")) or job.file.checksum is not None
    return job.part.size if note.get("url") == job.url and can_notice else 0


def _open(url: str, headers: Mapping[str, str], timeout_s: float) -> Any:
    _require_http(url)
    opener = urllib.request.OpenerDirector()  # the default one would also open file: and ftp:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpOnlyRedirects(),
    ):
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=timeout_s)


class _HttpOnlyRedirects(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        location = headers.get("Location") or headers.get("URI") or ""
        if urlsplit(location).scheme:
            _require_http(location)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _require_http(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _GivenUpError(f"leads to {url!r}; only http and https are followed")


@contextmanager
def _network_errors(job: _Job, offset: int) -> Iterator[None]:
    """Sort what can go wrong into what may pass and what will not."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"HTTP {error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            job.part.clear()
            raise _PassingError(f"{answer}: the file is no longer the one begun; starting anew") from error
        raise (_PassingError if error.code in _PASSING_STATUSES else _GivenUpError)(answer) from error
    except urllib.error.URLError as error:
        raise _sorted_error(error.reason, job) from error
    except (OSError, http.client.HTTPException) as error:
        raise _sorted_error(error, job) from error


def _sorted_error(reason: object, job: _Job) -> Exception:
    if isinstance(reason, TimeoutError):
        return _PassingError(f"no answer within {job.patience.timeout_s:g} s")
    if isinstance(reason, socket.gaierror):
        kind = _PassingError if reason.errno == socket.EAI_AGAIN else _GivenUpError
        return kind(f"host {urlsplit(job.url).hostname} not found: {reason.strerror}")
    if isinstance(reason, ConnectionRefusedError | ssl.SSLCertVerificationError | http.client.InvalidURL):
        return _GivenUpError(str(reason))
    return _PassingError(f"connection failed: {reason or type(reason).__name__}")


def _agree_on_range(job: _Job, response: Any, offset: int, note: Mapping[str, Any]) -> tuple[int, int | None]:
    """Return the offset of the first byte that comes, and the size of the whole file if it is known."""
    length = response.headers.get("Content-Length")
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0, int(length) if length and length.isdigit() else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    total = int(match[2]) if match and match[2] != "*" else None
    begun, now = note.get("validator"), _validator(response)
    is_same = (not begun or not now or begun == now) and note.get("total") in (None, total)
    if not match or int(match[1]) != offset or not is_same:
        job.part.clear()
        raise _PassingError("the file has changed since it was begun; starting anew")
    return offset, total


def _validator(response: Any) -> str | None:
    """Return what If-Range takes: a strong ETag, else the time of the last change."""
    etag: str = response.headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified") or None


def _require_size(file: OfficialFile, total: int | None) -> None:
    if total is None:
        return
    if file.is_size_exact and total != file.expected_bytes:
        raise _GivenUpError(f"expected {file.expected_bytes} bytes, the server has {total}")
    if total > 2 * file.expected_bytes:
        raise _GivenUpError(f"has {total} bytes, more than the {2 * file.expected_bytes} that are allowed")


def _copy(job: _Job, response: Any, done: int, total: int | None) -> None:
    while data := response.read1(CHUNK_BYTES):
        done += len(data)
        if done > 2 * job.file.expected_bytes or (total is not None and done > total):
            job.part.clear()
            raise _GivenUpError(f"sends more than the {total or 2 * job.file.expected_bytes} bytes that are allowed")
        job.part.append(data)
        if job.progress is not None:
            job.progress(done, total)
    if total is not None and done < total:
        raise _PassingError(f"connection cut at byte {done} of {total}")
