"""Work on files in parallel, in order and in bounded memory.

Processes, not threads: on small photographs most of PIL's time is spent in Python, under its global lock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TypeVar

from dctkd.data.decode import Decoded, decode_files
from dctkd.data.manifest import Problem
from dctkd.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

MAX_CHUNK_IMAGES = 32
MAX_CHUNK_BYTES = 16 << 20
CHUNKS_PER_WORKER = 3
"""Chunks in flight per worker: one at work, one waiting, one being written."""


def map_chunks(
    function: Callable[[Sequence[T]], list[R]], chunks: Sequence[Sequence[T]], *, workers: int
) -> Generator[R]:
    """Yield what a function returns for each chunk, in the order of the chunks.

    At most `workers * CHUNKS_PER_WORKER` chunks are in flight, so memory does not grow with their number. Closing the
    generator ends the worker processes.

    Args:
        function: Maps a chunk to a list of results. With more than one worker it is pickled for each chunk: a function
            of a module, or a functools.partial of one with small arguments.
        chunks: What to work on.
        workers: Processes; with 1, or for a single chunk, the calling process works.

    Raises:
        InputError: If a worker process is killed.
        Exception: Whatever the function raises.
    """
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield from function(chunk)
        return
    # forkserver: a fork of a process that has threads (torch starts some) can hang.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        in_flight: deque[Future[list[R]]] = deque()
        for chunk in chunks:
            in_flight.append(pool.submit(function, chunk))
            if len(in_flight) >= workers * CHUNKS_PER_WORKER:
                yield from in_flight.popleft().result()
        while in_flight:
            yield from in_flight.popleft().result()
    except BrokenProcessPool as error:
        raise InputError("a worker process was killed, probably for lack of memory; use fewer workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, which stops the workers, and end when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    # Waiting workers would never notice: each holds an end of the queue that it reads from.
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)
