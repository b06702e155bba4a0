"""The one error type for what the user can mend, the wording shared by its messages, and what is no input's fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A config, dataset, list or option that the user can mend.

    The message is one line: where, what was expected, what came, what to do. The command line prints it without a
    traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


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
