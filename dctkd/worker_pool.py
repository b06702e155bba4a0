"""Work on parts of something in parallel, in order and in bounded memory.

Processes, not threads: most of the time of what is done here is spent in Python, under its global lock.
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
from multiprocessing import forkserver
from typing import TypeVar

from dctkd.errors import InputError

T = TypeVar("T")
R = TypeVar("R")

METHOD = "forkserver"
"""A fork of a process that has threads (torch and pyarrow start some) can hang."""

CHUNKS_PER_WORKER = 3
"""Chunks in flight per worker: one at work, one waiting, one being written."""


def prepare_workers(*modules: str) -> None:
    """Let modules be imported for the workers of this process while it does something else.

    Args:
        modules: Full names; of the first call only, and only before any worker has started.
    """
    multiprocessing.get_context(METHOD).set_forkserver_preload(list(modules))
    forkserver.ensure_running()


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
    context = multiprocessing.get_context(METHOD)
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


def _start_worker() -> None:
    """Leave Ctrl-C to the main process, which stops the workers, and end when it is killed."""
    for number in (signal.SIGINT, signal.SIGUSR1):  # meant for the process that started this one, which ends it
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    # Waiting workers would never notice: each holds an end of the queue that it reads from.
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)
