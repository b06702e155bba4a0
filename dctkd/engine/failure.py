"""Why a run stops before its end: what the exceptions mean, kept as text."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Literal

import torch


class DivergedError(Exception):
    """Loss or gradient norm is not finite; the optimiser has not stepped on it."""


class LostLockError(Exception):
    """Another process has taken the run over."""


@dataclass(frozen=True)
class Failure:
    """Why a learner stopped. Text only: an exception would keep the tensors of its frames in memory.

    Attributes:
        kind: diverged, oom, lost (another process trains the run now) or crashed.
        reason: One line.
        trace: The traceback.
    """

    kind: Literal["diverged", "oom", "lost", "crashed"]
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
        return cls("crashed", f"{type(error).__name__}: {text}", trace)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory did not suffice; torch on CPU raises a plain RuntimeError for it."""
    return isinstance(
        error, (MemoryError, torch.cuda.OutOfMemoryError)
    ) or "DefaultCPUAllocator: can't allocate" in str(error)
