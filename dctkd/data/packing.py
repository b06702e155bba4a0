"""Packing: write the pixel cache of a dataset.

The cache is whole or absent. Its bytes depend neither on the number of workers nor on where the photographs lie, and
memory is bounded by what the workers have in flight.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dctkd.data.cache import HEADER, INDEX, MANIFEST, MASKS, PIXELS, SCHEMA, PixelCache, fingerprint_of
from dctkd.data.manifest import (
    BLOCKING_KINDS,
    SPLITS,
    Entry,
    Manifest,
    OnProblem,
    Problem,
    Rendered,
    Split,
    check_problems,
    class_problems,
)
from dctkd.data.sources import Item, Source, source_of
from dctkd.errors import InputError
from dctkd.provenance import write_atomic

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all images."""

DISK_MARGIN = 1.1
"""Free space asked for before packing, as a multiple of the expected size."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def pack(
    dataset: Manifest | Mapping[Split, Rendered],
    target: Path,
    *,
    short_side: int | None,
    workers: int = 1,
    on_problem: OnProblem = "fail",
    request: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> PixelCache:
    """Write the pixel cache of a dataset, replacing the one that may be there.

    Args:
        dataset: Photographs, or both splits of a rendered dataset.
        target: Folder of the cache; its parent is made if missing.
        short_side: Pixels that short sides are resized to; None keeps sizes.
        workers: Processes that decode; changes speed only.
        on_problem: What to do about images that turn out to be unreadable, and about the manifest's problems.
        request: JSON values recorded in the cache, so that the caller can tell what it was made from.
        progress: Called after each image.

    Raises:
        InputError: If an image is unreadable (on_problem: fail), no image of a split is left, the disk is or runs full,
            or the target is something else than a pixel cache. Nothing half-written remains.
    """
    if isinstance(dataset, Manifest):
        check_problems(dataset, on_problem)
    source = source_of(dataset, short_side=short_side, workers=workers)
    _require_replaceable(target)
    with _disk_errors(target, source.num_bytes):
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_free_space(target, source.num_bytes)
        with _folder_that_becomes(target) as folder:
            contents = _write_images(folder, source, on_problem, progress)
            _write_metadata(folder, source, contents, short_side, request or {})
    return PixelCache.open(target)


def unfinished_folders(target: Path) -> list[Path]:
    """Return what killed processes have left beside a target, and what a living one is writing there."""
    prefix = f".{target.name}."
    return [path for path in target.parent.iterdir() if path.name.startswith(prefix) and path.suffix == ".part"]


@dataclass
class _SplitWriter:
    """Appends to the files of one split."""

    folder: Path
    pixels: IO[bytes]
    masks: IO[bytes] | None
    entries: list[Entry] = field(default_factory=list)
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, item: Item) -> None:
        height, width = item.pixels_HWC.shape[:2]
        self.entries.append(item.entry)
        self.rows.append((self.num_bytes, height, width, item.entry.label))
        self.num_bytes += _write(self.pixels, item.pixels_HWC)
        if self.masks is not None and item.mask_HW is not None:
            _write(self.masks, item.mask_HW)

    def finish(self) -> None:
        for file in (self.pixels, self.masks):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())  # the header, written later, must never describe pixels that a power cut took

    def header(self) -> dict[str, Any]:
        return {"num_images": len(self.rows), "pixels_bytes": self.num_bytes, "has_masks": self.masks is not None}


@dataclass
class _Contents:
    """What was written, for the files that describe it."""

    writers: dict[Split, _SplitWriter]
    digests: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(entry for split in SPLITS for entry in self.writers[split].entries)


def _write_images(folder: Path, source: Source, on_problem: OnProblem, progress: Progress | None) -> _Contents:
    """Write pixels and masks, in one pass over the source."""
    first_with: dict[str, str] = {}
    done = 0
    with ExitStack() as stack:
        contents = _Contents(
            {split: _open_writer(stack, folder / split, has_masks=bool(source.mask_names)) for split in SPLITS}
        )
        contents.problems.extend(source.problems)
        for item in stack.enter_context(closing(source.items())):
            if isinstance(item, Problem):
                contents.problems.append(item)
                if item.kind not in BLOCKING_KINDS:
                    continue
                if on_problem == "fail":
                    raise InputError(
                        f"{source.name}: {item}; mend the file, or set on_problem: drop to go on without such images"
                    )
            else:
                contents.writers[item.entry.split].add(item)
                contents.digests.append(item.digest)
                if (first := first_with.setdefault(item.digest, item.entry.id)) != item.entry.id:
                    contents.problems.append(
                        Problem("same_pixels", item.entry.id, f"it has the same pixels as {first}")
                    )
            done += 1
            if progress is not None:
                progress(done, source.num_images)
        for writer in contents.writers.values():
            writer.finish()
    return contents


def _write_metadata(
    folder: Path, source: Source, contents: _Contents, short_side: int | None, request: Mapping[str, Any]
) -> None:
    """Write index, manifest and, last, the header with the fingerprint."""
    for split, writer in contents.writers.items():
        if not writer.rows:
            raise InputError(f"{source.name}: no usable {split} image; check the root and the lists")
        with (folder / split / INDEX).open("wb") as file:
            np.save(file, np.array(writer.rows, dtype=np.int64), allow_pickle=False)
    emptied = [
        problem for problem in class_problems(source.classes, contents.entries) if problem not in contents.problems
    ]
    manifest = {
        "splits": {
            split: {key: [getattr(entry, key) for entry in writer.entries] for key in ("id", "path", "label")}
            for split, writer in contents.writers.items()
        },
        "problems": [asdict(problem) for problem in (*contents.problems, *emptied)],
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
    fingerprint = fingerprint_of(
        (
            (entry.id, entry.label, entry.split, digest)
            for entry, digest in zip(contents.entries, contents.digests, strict=True)
        ),
        classes=source.classes,
        mask_names=source.mask_names,
        short_side=short_side,
    )
    header = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "classes": source.classes,
        "mask_names": source.mask_names,
        "short_side": short_side,
        "splits": {split: writer.header() for split, writer in contents.writers.items()},
        "request": dict(request),
    }
    write_atomic(folder / HEADER, json.dumps(header, indent=1))


def _open_writer(stack: ExitStack, folder: Path, *, has_masks: bool) -> _SplitWriter:
    folder.mkdir()
    pixels = stack.enter_context((folder / PIXELS).open("wb", buffering=1 << 20))
    masks = stack.enter_context((folder / MASKS).open("wb", buffering=1 << 20)) if has_masks else None
    return _SplitWriter(folder, pixels, masks)


def _write(file: IO[bytes], pixels: NDArray[uint8]) -> int:
    """Write an array and return how many bytes it took."""
    file.write(np.ascontiguousarray(pixels).data)
    return pixels.nbytes


def _require_replaceable(target: Path) -> None:
    is_cache = (target / HEADER).is_file()  # of whatever schema, whole or torn
    if target.exists() and not is_cache and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target}: exists and is no pixel cache; name another folder or move it away")


def _require_free_space(target: Path, needed_bytes: int) -> None:
    free_bytes = shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes * DISK_MARGIN:
        raise InputError(f"{target}: {_disk_full(target, needed_bytes)}")


def _disk_full(target: Path, needed_bytes: int) -> str:
    free_bytes = shutil.disk_usage(target.parent).free
    return (
        f"the pixel cache needs about {needed_bytes} bytes, but {free_bytes} are free; "
        "make space or choose another disk"
    )


@contextmanager
def _disk_errors(target: Path, needed_bytes: int) -> Iterator[None]:
    """Turn what the disk refuses into a message; reading photographs has its own errors, so these come from writing."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise InputError(f"{target}: disk full while packing: {_disk_full(target, needed_bytes)}") from error
        if error.errno in _NOT_ALLOWED:
            raise InputError(f"{target}: cannot be written: {error.strerror}; choose another folder") from error
        raise


@contextmanager
def _folder_that_becomes(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside the target that takes its place when all went well, and is deleted otherwise."""
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        folder.chmod(0o755)
        yield folder
        former = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")) / "former"
        if target.exists():
            target.rename(former)
        folder.rename(target)
        shutil.rmtree(former.parent, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
