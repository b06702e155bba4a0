"""Packings that are not finished: where they lie, how the next process goes on with them, how a target appears whole.

    .<target>.<key>.part/cache/           files of the cache, as far as they are written
    .<target>.<key>.part/journal.jsonl    one line per image that is done, in order

The key is a hash of the request, so what another request left is never taken up. A line enters the journal only after
the pixels that it describes are on the disk, so a kill or a power cut costs what came after the last commit, no more.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from dctkd.data.cache import SCHEMA
from dctkd.data.manifest import Entry, Problem
from dctkd.errors import InputError
from dctkd.provenance import sha256_of

logger = logging.getLogger(__name__)

CONTENTS, JOURNAL, FORMER = "cache", "journal.jsonl", "former"
COMMIT_IMAGES = 256
COMMIT_S = 5.0
"""The journal is committed after so many images or seconds, whichever comes first: the most that a kill can cost."""


class UnusableDatasetError(InputError):
    """The dataset as it is cannot be packed. Mending it makes another request of it, so nothing is kept to resume."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an image lies in its split's pixels.

    Attributes:
        offset: First byte.
        height: Pixels.
        width: Pixels.
        digest: `decode.digest_of_pixels` of pixels and mask.
    """

    offset: int
    height: int
    width: int
    digest: str

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.height * self.width * 3


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one image.

    Attributes:
        entry: Which image.
        problems: What there is to say about it.
        stored: Where its pixels are; None if it was left out.
    """

    entry: Entry
    problems: tuple[Problem, ...]
    stored: Stored | None


class Journal:
    """The images that are done, one JSON line each; opened for appending."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._waiting: list[bytes] = []
        self._committed_s = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Note an image, to be written with the next commit."""
        self._waiting.append(_line(record))

    @property
    def is_due(self) -> bool:
        """Whether it is time to commit."""
        return len(self._waiting) >= COMMIT_IMAGES or time.monotonic() - self._committed_s >= COMMIT_S

    def commit(self) -> None:
        """Write what was noted; the pixels must be on the disk by now."""
        self._file.write(b"".join(self._waiting))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._waiting.clear()
        self._committed_s = time.monotonic()


def read_journal(path: Path) -> list[Record]:
    """Return the images of a journal up to the first line that is not whole; none if there is no journal."""
    records: list[Record] = []
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return records
    for line in lines:
        try:
            entry, problems, stored = json.loads(line)
            record = Record(
                Entry(*entry), tuple(Problem(*problem) for problem in problems), Stored(*stored) if stored else None
            )
        except (ValueError, TypeError):
            break
        if line != _line(record):  # among others a last line without its end
            break
        records.append(record)
    return records


def cut_journal(path: Path, records: list[Record]) -> None:
    """Shorten a journal to its first images, which it must hold."""
    with path.open("ab") as file:
        file.truncate(sum(len(_line(record)) for record in records))


def part_folder(target: Path, request: Mapping[str, Any]) -> Path:
    """Return where a request is packed; another version of what makes pixels is another request."""
    key = sha256_of([SCHEMA, PIL.__version__, np.__version__, request])[:16]
    return target.parent / f".{target.name}.{key}.part"


def unfinished_folders(target: Path) -> list[Path]:
    """Return what stopped processes have left beside a target, and what a living one is writing there."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[^.]+\.part")
    return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


@contextmanager
def folder_that_becomes(target: Path, request: Mapping[str, Any] | None) -> Iterator[Path]:
    """Give a folder beside the target whose CONTENTS take the target's place when all went well.

    Otherwise it is kept if the same request could go on with it, and deleted if not: for lack of a request, of a
    journalled image or of a usable dataset.
    """
    if request is None:
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    else:
        folder = part_folder(target, request)
    try:
        (folder / CONTENTS).mkdir(parents=True, exist_ok=True)
        (folder / CONTENTS).chmod(0o755)
        yield folder
        _publish(folder, target)
    except BaseException as error:
        if request is None or isinstance(error, UnusableDatasetError) or not _has_lines(folder / JOURNAL):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            logger.info("stopped; what is packed is kept in %s: the same command goes on from there", folder)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, target: Path) -> None:
    former = folder / FORMER
    if target.exists():
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    try:
        (folder / CONTENTS).rename(target)
    except OSError:
        if former.exists():
            former.rename(target)
        raise


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _line(record: Record) -> bytes:
    entry, stored = record.entry, record.stored  # spelled out: dataclasses.astuple copies deeply and takes longer
    image = None if stored is None else (stored.offset, stored.height, stored.width, stored.digest)
    problems = [(problem.kind, problem.where, problem.message) for problem in record.problems]
    return json.dumps([(entry.id, entry.path, entry.label, entry.split), problems, image]).encode() + b"\n"
