"""Unpacking archives that nobody vouches for: tar, tar.gz and zip.

Every member is looked at before anything of it is written, and what is written is counted as it is written, because
headers can lie. The archive is unpacked beside its target and renamed at the end: there is all of it or nothing.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from dctkd.errors import InputError

MAX_RATIO = 20
"""An archive may unpack to this many times its own size."""
MAX_UNPACKED_BYTES = 200 * 10**9
MAX_MEMBERS = 1_000_000
MAX_PATH_BYTES, MAX_NAME_BYTES, MAX_DEPTH = 1024, 255, 32
HEADER_BYTES = 1 << 20
"""The most that lies between two members of a tar file: headers, long names, padding."""
CHUNK_BYTES = 1 << 16
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
}


class UnsafeArchiveError(InputError):
    """An archive with a member that must not be unpacked; the message names it."""


@dataclass(frozen=True)
class _Member:
    """One entry; `kind` is "file", "folder" or what it is instead."""

    name: str
    kind: str
    num_bytes: int
    open: Callable[[], BinaryIO]


class _BrokenError(Exception):
    """The archive is cut off or damaged."""


def unpack(
    archive: Path, target: Path, *, max_unpacked_bytes: int | None = None, max_members: int = MAX_MEMBERS
) -> int:
    """Unpack an archive into a new folder.

    If all of the archive lies in one folder that has the target's name, that folder becomes the target. Files get the
    permissions of any new file; owners, times and special bits of the archive are not taken over.

    Args:
        archive: A tar, tar.gz or zip file; its content decides, not its name.
        target: Folder to make; must not exist. Its parent is made.
        max_unpacked_bytes: The most that all files may have together; None: MAX_RATIO times the archive's size, and
            never above MAX_UNPACKED_BYTES.
        max_members: The most members that there may be.

    Returns:
        Number of files written.

    Raises:
        UnsafeArchiveError: If a member could do harm: a path that leaves the target, a link or device, a name that
            comes twice or is too long, too many members or bytes. Nothing is kept.
        InputError: If the archive is damaged, the target exists or the disk refuses. Nothing is kept.
    """
    if os.path.lexists(target):
        raise InputError(f"{target}: exists already; move it away, and {archive.name} can be unpacked")
    if max_unpacked_bytes is None:
        max_unpacked_bytes = min(MAX_RATIO * _size(archive), MAX_UNPACKED_BYTES)
    folder = target.with_name(f".{target.name}.unpacking")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(folder):
            shutil.rmtree(folder)  # what a killed process left
        folder.mkdir()
        num_files = _Unpacking(archive, folder, max_unpacked_bytes, max_members).run()
        _rename(folder, target)
    except (_BrokenError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{archive}: is damaged: {error}; delete it and get it again") from error
    except OSError as error:
        raise InputError(f"{target}: cannot be unpacked: {error.strerror}; make space or choose another") from error
    finally:
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
    return num_files


def _size(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError as error:
        raise InputError(f"{archive}: cannot be read: {error.strerror}") from error


def _rename(folder: Path, target: Path) -> None:
    inner = folder / target.name
    is_doubled = [child.name for child in folder.iterdir()] == [target.name] and inner.is_dir()
    (inner if is_doubled else folder).rename(target)


class _Unpacking:
    """One run over an archive; remembers names and counts bytes."""

    def __init__(self, archive: Path, folder: Path, max_bytes: int, max_members: int) -> None:
        self._archive, self._folder = archive, folder
        self._max_bytes, self._max_members = max_bytes, max_members
        self._num_bytes = 0
        self._names: set[str] = set()
        self._is_folder: dict[str, bool] = {}

    def run(self) -> int:
        """Unpack all members and return how many were files."""
        num_members = num_files = 0
        with _open_members(self._archive, self._max_bytes) as members:
            for member in members:
                num_members += 1
                if num_members > self._max_members:
                    raise self._refusal(member.name, f"is beyond the {self._max_members} members that are allowed")
                num_files += self._unpack(member)
        return num_files

    def _unpack(self, member: _Member) -> bool:
        parts = self._plain_parts(member)
        if member.kind not in ("file", "folder"):
            raise self._refusal(member.name, f"is {member.kind}")
        if self._num_bytes + member.num_bytes > self._max_bytes:
            raise self._too_much(member)
        if not parts:
            if member.kind == "file":
                raise self._refusal(member.name, "has no name")
            return False
        self._claim(member, parts)
        path = self._folder.joinpath(*parts)
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write(member, path)
        return True

    def _plain_parts(self, member: _Member) -> tuple[str, ...]:
        """Return the parts of a member's path, or refuse it."""
        name = member.name
        if (flaw := _flaw_of_name(name)) is not None:
            raise self._refusal(name, flaw)
        return tuple(part for part in name.split("/") if part not in ("", "."))

    def _claim(self, member: _Member, parts: tuple[str, ...]) -> None:
        """Note the path and the folders above it; refuse one that is taken."""
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            is_folder = depth < len(parts) or member.kind == "folder"
            # Upper and lower case are one on some disks: there a file would take the place of a folder.
            key = path.casefold()
            if self._is_folder.setdefault(key, is_folder) != is_folder:
                raise self._refusal(member.name, f"needs {path!r} as file and as folder")
            if not is_folder and path in self._names:
                raise self._refusal(member.name, "comes twice")
            if not is_folder:
                self._names.add(path)

    def _write(self, member: _Member, path: Path) -> None:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:  # the disk takes two names for one
            raise self._refusal(member.name, "has the name of another member on this disk") from None
        num_bytes = 0
        with os.fdopen(handle, "wb") as file, member.open() as source:
            while data := source.read(CHUNK_BYTES):
                num_bytes += len(data)
                self._num_bytes += len(data)
                if num_bytes > member.num_bytes or self._num_bytes > self._max_bytes:
                    raise self._too_much(member)
                file.write(data)
        if num_bytes != member.num_bytes:
            raise _BrokenError(f"{member.name!r} has {num_bytes} bytes instead of {member.num_bytes}")

    def _too_much(self, member: _Member) -> UnsafeArchiveError:
        return self._refusal(member.name, f"unpacks to more than the {self._max_bytes} bytes that are allowed")

    def _refusal(self, name: str, flaw: str) -> UnsafeArchiveError:
        return UnsafeArchiveError(
            f"{self._archive}: member {name[:200]!a} {flaw}; nothing is unpacked. Get the official archive"
        )


def _flaw_of_name(name: str) -> str | None:
    """Say why a member's name is refused, or None.

    Example:
        >>> _flaw_of_name("images/../../x"), _flaw_of_name("./images/a b+c.jpg")
        ("steps upwards with '..'", None)
    """
    parts = name.split("/")
    checks = (
        (name.startswith("/"), "has an absolute path"),
        (".." in parts, "steps upwards with '..'"),
        ("\\" in name, "holds a backslash"),
        (any(re.match(r"[A-Za-z]:", part) for part in parts), "holds a drive letter"),
        (any(ord(letter) < 32 or ord(letter) == 127 for letter in name), "holds a control character"),
        (
            len(parts) > MAX_DEPTH
            or len(os.fsencode(name)) > MAX_PATH_BYTES
            or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in parts),
            "has too long a name",
        ),
    )
    return next((flaw for is_flawed, flaw in checks if is_flawed), None)


@contextmanager
def _open_members(archive: Path, max_bytes: int) -> Iterator[Iterator[_Member]]:
    """Open an archive as what its first bytes say it is."""
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"PK"):
            with zipfile.ZipFile(file) as opened:
                yield _zip_members(opened)
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as plain:
                yield _tar_members(_Metered(cast(BinaryIO, plain)))
        else:
            yield _tar_members(_Metered(file))


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        # zipfile cuts a name at its first NUL; the name in the file decides.
        name = info.orig_filename
        kind = "folder" if info.is_dir() else "file"
        kind = _KINDS.get(stat.S_IFMT(info.external_attr >> 16), kind)
        if info.flag_bits & 0x1:
            kind = "encrypted"
        yield _Member(name, kind, info.file_size, partial(_open_in_zip, archive, info))


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    try:
        return cast(BinaryIO, archive.open(info))
    except (NotImplementedError, RuntimeError) as error:
        raise _BrokenError(f"{info.filename!r}: {error}") from error


class _Metered:
    """A stream that hands out no more bytes than were allowed: headers can be bombs too."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._allowed = 0
        self._position = 0
        self._recent = b""

    def allow(self, num_bytes: int) -> None:
        """Let so many further bytes pass, whatever was left."""
        self._allowed = num_bytes

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._allowed -= len(data)
        if self._allowed < 0:
            raise _BrokenError("a header is longer than any that belongs there")
        self._position += len(data)
        self._recent = self._recent[-CHUNK_BYTES:] + data
        return data

    def recent(self, position: int, size: int) -> bytes:
        """Return bytes that have just been read; `position` counts from the start of the stream."""
        start = position - (self._position - len(self._recent))
        return self._recent[max(start, 0) : max(start, 0) + size]


def _tar_members(stream: _Metered) -> Iterator[_Member]:
    stream.allow(HEADER_BYTES)
    with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", bufsize=CHUNK_BYTES) as archive:
        while (info := archive.next()) is not None:
            kind = "folder" if info.isdir() else "file" if info.type in tarfile.REGULAR_TYPES else "a special file"
            if info.issparse():
                kind = "a sparse file"
            if info.size < 0:
                raise _BrokenError(f"{info.name!r} has {info.size} bytes")
            kind = _TAR_KINDS.get(info.type, kind)
            # Whatever of the member is not read is skipped with the next header.
            stream.allow(info.size + HEADER_BYTES)
            yield _Member(info.name, kind, info.size, partial(_open_in_tar, archive, info))
            archive.members = []  # type: ignore[attr-defined]  # it keeps every header otherwise
            stream.allow(HEADER_BYTES)
        # tarfile takes a damaged header, and a file that is cut off, for the end; the end is a block of zeros.
        if stream.recent(archive.offset, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _BrokenError(f"neither a member nor the end at byte {archive.offset}")
    while stream.read(CHUNK_BYTES):  # the checksum of a gzip file stands at its very end
        pass


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> BinaryIO:
    source = archive.extractfile(info)
    if source is None:
        raise _BrokenError(f"{info.name!r} cannot be read")
    return cast(BinaryIO, source)
