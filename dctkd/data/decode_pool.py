"""Decode photographs in parallel, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from dctkd.data.decode import Decoded, decode_files
from dctkd.data.manifest import Problem
from dctkd.errors import InputError
from dctkd.worker_pool import map_chunks

MAX_CHUNK_IMAGES = 32
MAX_CHUNK_BYTES = 16 << 20


def decode_all(
    root: Path, paths: Sequence[str], short_side: int | None, *, workers: int, bytes_per_image: int
) -> Generator[Decoded | Problem]:
    """Yield decoded photographs in the order of their paths.

    Args:
        root: Folder that paths are relative to.
        paths: Files.
        short_side: Pixels, or None to keep sizes.
        workers: Processes; with 1 the calling process decodes.
        bytes_per_image: Expected mean size after resizing; bounds what is in flight, changes nothing else.

    Raises:
        InputError: If a worker process is killed.
    """
    size = max(min(MAX_CHUNK_BYTES // max(bytes_per_image, 1), MAX_CHUNK_IMAGES), 1)
    chunks = [paths[first : first + size] for first in range(0, len(paths), size)]
    try:
        yield from map_chunks(partial(decode_files, root, short_side=short_side), chunks, workers=workers)
    except InputError as error:
        raise InputError(f"{root}: {error}") from error
