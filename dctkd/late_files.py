"""Patience with file systems that several machines share, where what another one wrote is seen late.

A client of NFS and its like remembers for up to about a minute which files a folder has, which it has not, and how
large they are. So a job can see a run's metrics.json before the weights that were written earlier, or an old size of
them. Where results are shared nothing is therefore judged missing, damaged or absent at first sight: it is looked at
again, each time with listings and sizes asked for anew, until the patience is over. On a local file system the first
look counts.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from dctkd.errors import InputError
from dctkd.file_systems import is_network, kind_of_file_system

logger = logging.getLogger(__name__)

LATENCY_S = 60.0
"""Default patience; the longest that Linux's NFS client believes what it remembers (acregmax, acdirmax)."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0

T = TypeVar("T")


def latency_of(folder: Path, shared: bool | Literal["auto"] = "auto", latency_s: float = LATENCY_S) -> float:
    """Return for how many seconds a folder's files may be seen late; 0 on a local file system.

    Args:
        folder: It need not exist.
        shared: Whether several machines write there; auto: as the type of its file system says.
        latency_s: The answer for a shared one.
    """
    is_shared = is_network(kind_of_file_system(folder)[0]) if shared == "auto" else shared
    return latency_s if is_shared else 0.0


def settled(
    look: Callable[[], T],
    is_good: Callable[[T], bool],
    places: Path | Sequence[Path],
    latency_s: float,
    *,
    ask: Callable[[], object] | None = None,
) -> T:
    """Look until what is seen is good, or for as long as files may be seen late; return what was seen last.

    The last look starts after the patience is over, however long a look takes.

    Args:
        look: Looks, without side effects.
        is_good: Whether that can be relied on; what is not good may be a late file.
        places: The folders in which the files lie.
        latency_s: Patience; 0: the first look counts.
        ask: Called between looks; may raise, to stop the waiting.
    """
    seen = look()
    if latency_s <= 0 or is_good(seen):
        return seen
    folders = [places] if isinstance(places, Path) else places
    others = f" and {len(folders) - 1} more" if len(folders) > 1 else ""
    logger.info("%s%s: shared, and not all there yet: looking again, for up to %g s", folders[0], others, latency_s)
    until_s, pause_s = time.monotonic() + latency_s, FIRST_PAUSE_S
    while True:
        if ask is not None:
            ask()
        time.sleep(max(min(pause_s, until_s - time.monotonic()), 0.0))
        is_last = time.monotonic() >= until_s
        for folder in folders:
            refresh(folder)
        seen = look()
        if is_last or is_good(seen):
            return seen
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def patiently(call: Callable[[], T], folder: Path, latency_s: float) -> T:
    """Call what refuses late files with an InputError, again and again for as long as files may be seen late.

    Args:
        call: What is called; it must be repeatable.
        folder: Where its files lie.
        latency_s: Patience; 0: the first error counts.

    Raises:
        InputError: The last one, when the patience is over.
    """

    def look() -> T | InputError:
        try:
            return call()
        except InputError as error:
            return error

    seen = settled(look, lambda seen: not isinstance(seen, InputError), folder, latency_s)
    if isinstance(seen, InputError):
        raise seen
    return seen


def refresh(folder: Path) -> None:
    """Let the client ask the server anew: which files there are, by listing, and what they are, by opening them."""
    for place in (folder.parent.parent, folder.parent, folder):
        with suppress(OSError):
            list(place.iterdir())  # from outside in: the folder itself may be what is not seen
    for inner, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                os.close(os.open(Path(inner, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
