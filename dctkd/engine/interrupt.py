"""Stop on request: SIGTERM, SIGINT and SIGUSR1 end a job after the step in hand, with everything saved."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: run the same command again to go on."""

PR_SET_PDEATHSIG = 1


class InterruptedRunError(Exception):
    """The job was asked to stop; its runs are saved and resume when the same command is run again."""


class Interrupt:
    """Remembers that a signal asked the job to stop."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @property
    def requested(self) -> bool:
        """Tell whether the job should save and stop."""
        return self.signal_number is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Catch the signals while the block runs, instead of dying from them."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        former = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that a killed Snakemake leaves no orphan (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
