"""Stop on request: a signal, or the parent's death, ends a job with everything saved and status 75."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: run the same command again to go on."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

PR_SET_PDEATHSIG = 1


class InterruptedRunError(Exception):
    """The job was asked to stop; its runs are saved and resume when the same command is run again."""

    def __init__(self, message: str, signal_number: int | None = None) -> None:
        """Say why; `signal_number` is the signal that asked for it, if one did."""
        super().__init__(message)
        self.signal_number = signal_number


class Interrupt:
    """Remembers that a signal asked the job to stop, and notices that its parent has died."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._parent = os.getppid()

    @property
    def requested(self) -> bool:
        """Tell whether the job should save and stop."""
        return self.signal_number is not None or os.getppid() != self._parent

    def raise_if_requested(self) -> None:
        """Between two steps: stop if the job should.

        Raises:
            InterruptedRunError: If asked to stop.
        """
        if self.requested:
            cause = f"signal {self.signal_number}" if self.signal_number else "the end of its parent process"
            message = f"stopped by {cause}; run the same command again to go on"
            raise InterruptedRunError(message, self.signal_number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number

    @contextmanager
    def listening(self) -> Iterator[Interrupt]:
        """Catch the signals while the block runs, instead of dying from them."""
        with _handling(self._handle):
            yield self


@contextmanager
def unwinding() -> Iterator[None]:
    """Turn the signals into an exception where the block stands: for jobs whose every write is whole or resumable.

    Raises:
        InterruptedRunError: If one of the signals came.
    """
    number = 0

    def stop(received: int, frame: FrameType | None) -> NoReturn:
        nonlocal number
        number = received
        raise KeyboardInterrupt  # no handler of Exception on the way swallows it

    with _handling(stop):
        try:
            yield
        except KeyboardInterrupt:
            message = f"stopped by signal {number}; run the same command again to go on"
            raise InterruptedRunError(message, number) from None


@contextmanager
def _handling(handler: signal.Handlers | object) -> Iterator[None]:
    numbers = [number for number in SIGNALS if number != signal.SIGHUP or not _is_ignored(number)]  # nohup ignores it
    former = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, so that a killed Snakemake leaves no orphan (Linux only)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
