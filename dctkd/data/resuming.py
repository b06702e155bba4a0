"""How packing goes on with what a stopped process has left: what of it is good, and what is cut off."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dctkd.data.cache import MASKS, PIXELS
from dctkd.data.decode import digest_of_pixels
from dctkd.data.manifest import SPLITS, OnProblem, Split
from dctkd.data.sources import Source
from dctkd.data.unfinished import CONTENTS, JOURNAL, Record, cut_journal, read_journal

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

NUM_CHECKED_IMAGES = 512
"""Images at the end of what is resumed whose digests are computed anew; `verify.verify_cache` checks all of a cache."""


def take_up(folder: Path, source: Source, on_problem: OnProblem) -> list[Record]:
    """Return what a stopped process has packed, and cut everything after it off its files.

    Only the last NUM_CHECKED_IMAGES are read again: whatever came before the last two commits was flushed to the disk
    long before the process was stopped, and reading all would cost as much as reading the cache once.

    Args:
        folder: As `unfinished.folder_that_becomes` gives it; may be empty.
        source: What is packed.
        on_problem: With `fail`, images that were left out before are tried again.

    Returns:
        One record for each of the first images of the source.
    """
    contents, has_masks = folder / CONTENTS, bool(source.mask_names)
    records = _usable(read_journal(folder / JOURNAL), source, contents, on_problem)
    if not _is_undamaged(contents, records[-NUM_CHECKED_IMAGES:], has_masks=has_masks):
        logger.warning("%s: what was packed before is damaged; starting anew", folder)
        records = []
    cut_journal(folder / JOURNAL, records)
    ends = ends_of(records)
    for path in sorted(contents.rglob("*"), reverse=True):
        if path.is_file() and path.name not in (PIXELS, MASKS):
            path.unlink()  # metadata, perhaps torn
    for split in SPLITS:
        (contents / split).mkdir(exist_ok=True)
        for name, num_bytes in ((PIXELS, ends[split]), (MASKS, ends[split] // 3)):
            if name == PIXELS or has_masks:
                with (contents / split / name).open("ab") as file:
                    file.truncate(num_bytes)
    return records


def _usable(records: Sequence[Record], source: Source, contents: Path, on_problem: OnProblem) -> list[Record]:
    """Return the first records, up to one that is not of this source or whose pixels are missing."""
    ends = dict.fromkeys(SPLITS, 0)
    sizes = {split: _size(contents / split / PIXELS) for split in SPLITS}
    if source.mask_names:
        sizes = {split: min(size, _size(contents / split / MASKS) * 3) for split, size in sizes.items()}
    usable = []
    for record, entry in zip(records, source.entries, strict=False):
        split, stored = entry.split, record.stored
        if record.entry != entry or (stored is None and on_problem == "fail"):
            break
        if stored is not None:
            if stored.offset != ends[split] or stored.end > sizes[split]:
                break
            ends[split] = stored.end
        usable.append(Record(entry, record.problems, stored))  # the source's entry: one copy in memory
    return usable


def _is_undamaged(contents: Path, records: Sequence[Record], *, has_masks: bool) -> bool:
    for record in records:
        stored, folder = record.stored, contents / record.entry.split
        if stored is None:
            continue
        shape_HW = (stored.height, stored.width)
        pixels_HWC = _read(folder / PIXELS, stored.offset, (*shape_HW, 3))
        mask_HW = _read(folder / MASKS, stored.offset // 3, shape_HW) if has_masks else None
        if digest_of_pixels(pixels_HWC, mask_HW) != stored.digest:
            return False
    return True


def ends_of(records: Sequence[Record]) -> dict[Split, int]:
    """Return how many bytes of pixels each split has."""
    ends: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for record in records:
        if record.stored is not None:
            ends[record.entry.split] = record.stored.end
    return ends


def _read(path: Path, offset: int, shape: tuple[int, ...]) -> NDArray[uint8]:
    return np.fromfile(path, dtype=np.uint8, count=math.prod(shape), offset=offset).reshape(shape)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
