"""How the command line ends: every expected error is one line and an exit status."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import typer

from dctkd.errors import InputError, printable

MENDABLE = {
    errno.ENOSPC: "free some space and run the same command again: what is finished is kept",
    errno.EDQUOT: "free some of your quota and run the same command again: what is finished is kept",
    errno.EROFS: "this place is read-only; work where you can write, or remount it",
    errno.EACCES: "you may not write or read there; change its permissions or work elsewhere",
    errno.EPERM: "you may not write or read there; change its permissions or work elsewhere",
}
"""What to do about errors of the operating system that are no fault of the program's."""


def run_to_exit(app: typer.Typer) -> NoReturn:
    """Run an application and end the process; only an error that nobody expects keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files and classes may not fit the terminal
    try:
        app(standalone_mode=False)
        if sys.stdout is not None:  # None where it was closed from the start
            sys.stdout.flush()
    except Exception as error:
        _exit_for(error)
    raise SystemExit(0)


def _exit_for(error: Exception) -> NoReturn:
    if isinstance(error, InputError):
        _exit(2, f"error: {error}")
    if isinstance(error, typer.Abort):
        _exit(130, "aborted")
    if isinstance(error, OSError):
        _exit_for_system(error)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a click usage error
        message = " ".join(error.format_message().split()).rstrip(".") or "a command is missing"
        _exit(2, f"error: {printable(message)}; see --help")
    from dctkd.engine.interrupt import EXIT_INTERRUPTED, InterruptedRunError
    from dctkd.engine.job import FailedRunsError

    if isinstance(error, InterruptedRunError):
        if error.signal_number == signal.SIGUSR1:
            from dctkd.batch_system import requeue_this_job

            requeue_this_job()
        _exit(EXIT_INTERRUPTED, str(error))
    if isinstance(error, FailedRunsError):
        _exit(1, f"error: {error}")
    raise error


def _exit_for_system(error: OSError) -> NoReturn:
    if isinstance(error, BrokenPipeError):  # whoever read the output, such as `head`, has seen enough
        _forget_output()
        raise SystemExit(128 + signal.SIGPIPE)
    if error.errno not in MENDABLE:
        raise error
    if error.filename is None:
        _forget_output()
    where = printable(str(error.filename)) if error.filename else "output"
    _exit(2, f"error: {where}: {error.strerror}; {MENDABLE[error.errno]}")


def _forget_output() -> None:
    """Lead what is still to be written nowhere, or Python complains when it flushes at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit(status: int, message: str) -> NoReturn:
    with suppress(OSError):
        sys.stderr.write(message + "\n")
    raise SystemExit(status)
