"""Why a run stops before its end: what the exceptions mean, kept as text."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, Literal

from dctkd.errors import is_out_of_memory


class DivergedError(Exception):
    """Loss or gradient norm is not finite; the optimiser has not stepped on it."""


class LostLockError(Exception):
    """Another process has taken the run over."""


class SharedOutOfMemoryError(Exception):
    """Memory does not suffice in one of several processes.

    Attributes:
        ending: What is to be stored of the run (`ending_of`).
        is_resident: Whether the pixels could leave the device and leave more to the network.
    """

    def __init__(self, ending: dict[str, Any], *, is_resident: bool) -> None:
        super().__init__(ending["detail"]["reason"])
        self.ending, self.is_resident = ending, is_resident


AMBIGUOUS = ("could not create a primitive", "could not create a memory", "could not create a memory object")


@dataclass(frozen=True)
class Failure:
    """Why a learner stopped. Text only: an exception would keep the tensors of its frames in memory.

    Attributes:
        kind: diverged, oom, lost (another process trains the run now), crashed, or perhaps_oom: oneDNN says of a lack
            of memory what it also says of other faults, so a smaller pack is worth a try, and alone it is a crash.
        reason: One line.
        trace: The traceback.
    """

    kind: Literal["diverged", "oom", "perhaps_oom", "lost", "crashed"]
    reason: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return what an exception means."""
        text = next(iter(str(error).splitlines()), "")
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, DivergedError):
            return cls("diverged", text, trace)
        if isinstance(error, LostLockError):
            return cls("lost", text, trace)
        if is_out_of_memory(error):
            return cls("oom", text, trace)
        kind: Literal["perhaps_oom", "crashed"] = "perhaps_oom" if text in AMBIGUOUS else "crashed"
        return cls(kind, f"{type(error).__name__}: {text}", trace)
