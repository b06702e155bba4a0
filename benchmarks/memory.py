"""Peak of the memory that an action allocates, as torch's allocator counts it."""

from __future__ import annotations

import os
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

# Read when the profiler first starts, which it would log along with each stop.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak_bytes(action: Callable[[], object]) -> int:
    """Return the largest sum of what an action has allocated and not yet freed; earlier allocations do not count."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak
