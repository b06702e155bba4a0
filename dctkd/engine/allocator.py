"""The memory of a job: kept while it trains, so that no step asks the system for the same pages again.

glibc gives large blocks back to the system as soon as they are freed, and a training step frees and takes the same ones
over and over: the system must then find and clear every page anew. Kept, a step of ResNet-50 to ResNet-18 takes about
12 % less CPU time at 224 px (batch 32, bfloat16, AMD EPYC), and 0 to 20 % less with small maps, for 1 to 9 % more
resident memory. No value depends on where it lies.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Names of parameters in glibc's malloc.h."""

NEVER = -1
GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let freed blocks stay in the process, for the rest of its life; tell whether the C library can do that."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc: its own rules hold
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: GROWTH_BYTES}
    return all([mallopt(name, value) == 1 for name, value in settings.items()])


def give_memory_back() -> None:
    """Return what is free in this process to the device and to the system, where allocators would keep it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(OSError, AttributeError):  # glibc
        ctypes.CDLL(None).malloc_trim(0)
