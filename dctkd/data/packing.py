"""Packing: write the pixel cache of a dataset.

The cache is whole or absent. Its bytes depend neither on the number of workers, nor on where the photographs lie, nor
on whether packing was stopped and resumed. Memory is bounded by what the workers have in flight.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dctkd.data.cache import HEADER, INDEX, MANIFEST, MASKS, PIXELS, SCHEMA, PixelCache, fingerprint_of
from dctkd.data.disk_space import announce, disk_errors
from dctkd.data.manifest import (
    SPLITS,
    Manifest,
    OnProblem,
    Problem,
    Rendered,
    Split,
    check_problems,
    class_problems,
)
from dctkd.data.resuming import ends_of, take_up
from dctkd.data.sources import Item, Source, source_of
from dctkd.data.unfinished import (
    CONTENTS,
    JOURNAL,
    Journal,
    Record,
    Stored,
    UnusableDatasetError,
    folder_that_becomes,
)
from dctkd.errors import InputError
from dctkd.provenance import write_atomic

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all images."""

_MANIFEST_KEYS = ("id", "path", "label")


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

    With a request, packing that was stopped (killed, interrupted, disk full) is kept beside the target and goes on when
    the same request is packed again. It starts anew if the request is another one, and after an unusable image: who
    mends the file changes the request.

    Args:
        dataset: Photographs, or both splits of a rendered dataset.
        target: Folder of the cache; its parent is made if missing.
        short_side: Pixels that short sides are resized to; None keeps sizes.
        workers: Processes that decode; changes speed only.
        on_problem: What to do about images that turn out to be unreadable, and about the manifest's problems.
        request: JSON values recorded in the cache, so that the caller can tell what it was made from. It must change
            when anything in the dataset does, and one process at a time may pack a target with a request.
        progress: Called after each image.

    Raises:
        InputError: If an image is unreadable (on_problem: fail), no image of a split is left, the disk is or runs full,
            or the target is something else than a pixel cache. The target is as it was before.
    """
    if isinstance(dataset, Manifest):
        check_problems(dataset, on_problem)
    source = source_of(dataset, short_side=short_side, workers=workers)
    _require_replaceable(target)
    with disk_errors(target, source.num_bytes):
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_that_becomes(target, request) as folder:
            kept = take_up(folder, source, on_problem)
            announce(
                target,
                num_images=len(source.entries),
                num_kept=len(kept),
                needed_bytes=source.num_bytes - sum(ends_of(kept).values()),
            )
            records = _write_images(folder, source, kept, on_problem, progress)
            _write_metadata(folder / CONTENTS, source, records, short_side, request or {})
    return PixelCache.open(target)


@dataclass
class _SplitWriter:
    """Appends to the files of one split."""

    pixels: IO[bytes]
    masks: IO[bytes] | None
    num_bytes: int

    def add(self, item: Item) -> Stored | None:
        if item.pixels_HWC is None:
            return None
        height, width = item.pixels_HWC.shape[:2]
        stored = Stored(self.num_bytes, height, width, item.digest)
        _write(self.pixels, item.pixels_HWC)
        if self.masks is not None and item.mask_HW is not None:
            _write(self.masks, item.mask_HW)
        self.num_bytes = stored.end
        return stored

    def sync(self) -> None:
        for file in (self.pixels, self.masks):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())  # what is written later must never describe pixels that a power cut took


def _write_images(
    folder: Path, source: Source, kept: list[Record], on_problem: OnProblem, progress: Progress | None
) -> list[Record]:
    """Write pixels, masks and the journal, in one pass over what is left of the source; return all records."""
    records, ends = list(kept), ends_of(kept)
    with ExitStack() as stack:
        writers = {
            split: _open_writer(stack, folder / CONTENTS / split, ends[split], has_masks=bool(source.mask_names))
            for split in SPLITS
        }
        journal = stack.enter_context(Journal(folder / JOURNAL))

        def commit() -> None:
            for writer in writers.values():
                writer.sync()
            journal.commit()

        stack.callback(commit)  # also when packing is interrupted
        for item in stack.enter_context(closing(source.items(first=len(records)))):
            if item.pixels_HWC is None and on_problem == "fail":
                raise UnusableDatasetError(
                    f"{source.name}: {item.problems[-1]}; mend the file and pack anew, "
                    "or set on_problem: drop to go on without such images"
                )
            record = Record(item.entry, item.problems, writers[item.entry.split].add(item))
            records.append(record)
            journal.add(record)
            if journal.is_due:
                commit()
            if progress is not None:
                progress(len(records), len(source.entries))
    return records


def _write_metadata(
    folder: Path, source: Source, records: Sequence[Record], short_side: int | None, request: Mapping[str, Any]
) -> None:
    """Write index, manifest and, last, the header with the fingerprint."""
    images = [(record.entry, record.stored) for record in records if record.stored is not None]
    images.sort(key=lambda image: SPLITS.index(image[0].split))
    rows = {
        split: [
            (stored.offset, stored.height, stored.width, entry.label)
            for entry, stored in images
            if entry.split == split
        ]
        for split in SPLITS
    }
    for split in SPLITS:
        if not rows[split]:
            raise UnusableDatasetError(f"{source.name}: no usable {split} image; check the root and the lists")
        with (folder / split / INDEX).open("wb") as file:
            np.save(file, np.array(rows[split], dtype=np.int64), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    manifest = {
        "splits": {
            split: {key: [getattr(entry, key) for entry, _ in images if entry.split == split] for key in _MANIFEST_KEYS}
            for split in SPLITS
        },
        "problems": [asdict(problem) for problem in _problems(source, records)],
    }
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))
    fingerprint = fingerprint_of(
        ((entry.id, entry.label, entry.split, stored.digest) for entry, stored in images),
        classes=source.classes,
        mask_names=source.mask_names,
        short_side=short_side,
    )
    ends = ends_of(records)
    header = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "classes": source.classes,
        "mask_names": source.mask_names,
        "short_side": short_side,
        "splits": {
            split: {"num_images": len(rows[split]), "pixels_bytes": ends[split], "has_masks": bool(source.mask_names)}
            for split in SPLITS
        },
        "request": dict(request),
    }
    write_atomic(folder / HEADER, json.dumps(header, indent=1))


def _problems(source: Source, records: Sequence[Record]) -> list[Problem]:
    """List the problems of the dataset, of each image, of images alike, and of classes that were emptied."""
    problems = list(source.problems)
    first_with: dict[str, str] = {}
    for record in records:
        problems.extend(record.problems)
        if record.stored is None:
            continue
        first = first_with.setdefault(record.stored.digest, record.entry.id)
        if first != record.entry.id:
            problems.append(Problem("same_pixels", record.entry.id, f"it has the same pixels as {first}"))
    left = tuple(record.entry for record in records if record.stored is not None)
    return [*problems, *class_problems(source.classes, left, known=problems)]


def _open_writer(stack: ExitStack, folder: Path, num_bytes: int, *, has_masks: bool) -> _SplitWriter:
    pixels = stack.enter_context((folder / PIXELS).open("ab", buffering=1 << 20))
    masks = stack.enter_context((folder / MASKS).open("ab", buffering=1 << 20)) if has_masks else None
    return _SplitWriter(pixels, masks, num_bytes)


def _write(file: IO[bytes], pixels: NDArray[uint8]) -> None:
    file.write(np.ascontiguousarray(pixels).data)


def _require_replaceable(target: Path) -> None:
    is_cache = (target / HEADER).is_file()  # of whatever schema, whole or torn
    if target.exists() and not is_cache and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target}: exists and is no pixel cache; name another folder or move it away")
