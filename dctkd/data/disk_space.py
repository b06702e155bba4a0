"""Disk space: said before packing starts, and what the disk refuses as one line."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dctkd.errors import InputError

logger = logging.getLogger(__name__)

DISK_MARGIN = 1.1
"""Free space asked for before packing, as a multiple of the expected size, which is an estimate."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def announce(target: Path, *, num_images: int, num_kept: int, needed_bytes: int) -> None:
    """Say how much disk packing will take and how much there is.

    Args:
        target: The cache; its parent exists.
        num_images: Of the dataset.
        num_kept: How many of them are there from before.
        needed_bytes: What the others take, about.

    Raises:
        InputError: If that is not enough.
    """
    needed_bytes, free_bytes = max(needed_bytes, 0), shutil.disk_usage(target.parent).free
    if free_bytes < needed_bytes * DISK_MARGIN:
        raise InputError(f"{target}: {_disk_full(target, needed_bytes)}")
    images, needed, free = f"{num_images:,} images", readable_bytes(needed_bytes), readable_bytes(free_bytes)
    if num_kept:
        logger.info(
            "packing goes on with %s into %s: %s are there, about %s to come, %s free",
            images,
            target,
            f"{num_kept:,}",
            needed,
            free,
        )
    else:
        logger.info("packing %s into %s: about %s, %s free", images, target, needed, free)


def _disk_full(target: Path, needed_bytes: int) -> str:
    free_bytes = shutil.disk_usage(target.parent).free
    return (
        f"the pixel cache needs about {readable_bytes(needed_bytes * DISK_MARGIN)}, "
        f"but {readable_bytes(free_bytes)} are free; make space or choose another disk"
    )


def readable_bytes(number: float) -> str:
    """Return a number of bytes in GB (10^9 bytes), or in MB if it is smaller than one.

    Example:
        >>> readable_bytes(10_123_000_000), readable_bytes(1_200_000)
        ('10.1 GB', '1.2 MB')
    """
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


@contextmanager
def disk_errors(target: Path, needed_bytes: int) -> Iterator[None]:
    """Turn what the disk refuses into a message; reading photographs has its own errors, so these come from writing."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise InputError(f"{target}: disk full while packing: {_disk_full(target, needed_bytes)}") from error
        if error.errno in _NOT_ALLOWED:
            raise InputError(f"{target}: cannot be written: {error.strerror}; choose another folder") from error
        raise
