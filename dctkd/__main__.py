"""`dctkd` and `python -m dctkd`: the command line in a process of its own, which ends as soon as its work is done."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

from dctkd.cli import main


def run() -> NoReturn:
    """Run the command line and end the process without taking its memory apart.

    Where torch and timm are loaded, taking it apart lasts a second; the system takes it back at once. What was
    registered to happen at the end of the process has happened by then. After an error that nobody expects Python
    itself ends the process.
    """
    statuses: list[int] = []
    atexit.register(_leave, statuses)  # registered first, called last
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            statuses.append(end.code or 0)
        raise


def _leave(statuses: list[int]) -> None:
    if statuses:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(statuses[0])


if __name__ == "__main__":
    run()
