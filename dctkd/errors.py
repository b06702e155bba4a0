"""The one error type for what the user can mend, the wording shared by its messages, and what is no input's fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

MAX_SHOWN = 120
"""Longest text of a value in a message, in characters."""
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs: what Python makes of bytes in file names that are no UTF-8."""


class InputError(ValueError):
    """A config, dataset, list or option that the user can mend.

    The message is one line: where, what was expected, what came, what to do. The command line prints it without a
    traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(re.sub(r"\s*[\r\n]\s*", " ", str(message)).strip()))


def printable(text: str) -> str:
    r"""Return text for a terminal or a UTF-8 file: control characters and bytes that are no UTF-8 stand escaped.

    Example:
        >>> print(printable("na\u00efve\n\x1b[31m \udcff"))
        naïve\n\x1b[31m \udcff
    """
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def shown(value: Any, *, quote: str = "'") -> str:
    """Return a value as a message shows it: cut short if it is long; `quote` empty shows text without quotes.

    Example:
        >>> shown("x" * 1000)[-15:]
        "xxxxxxxxxx' ..."
    """
    text = value if isinstance(value, str) and not quote else repr(value)
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[: MAX_SHOWN - 1]}{quote if isinstance(value, str) else ''} ..."


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return a suffix that suggests the nearest choices, or lists all of them.

    Args:
        word: What the user wrote.
        choices: The names that are valid at that place.

    Returns:
        Text that starts with a semicolon, to be appended to a message.

    Example:
        >>> did_you_mean("fitnet", ["at", "fitnets"])
        "; did you mean 'fitnets'?"
        >>> did_you_mean("zzz", ["at", "kd"])
        '; choose from at, kd'
    """
    names = sorted(choices)
    word = word[:MAX_SHOWN]  # comparing takes time that grows with the length
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; choose from {', '.join(names)}" if names else "; there is nothing to choose from"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory did not suffice, for torch as well, which need not be imported.

    torch raises an OutOfMemoryError on GPU, and on CPU plain RuntimeErrors: from its allocator, and from torch.save
    when the buffer that it writes into cannot grow.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return "DefaultCPUAllocator: can't allocate" in text or ("inline_container.cc" in text and "unexpected pos" in text)
