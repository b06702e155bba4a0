"""Where a published number lies relative to our runs, and P1's meter; whether it is possible is in attainability.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dctkd.report.statistics import prediction_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Verdict = Literal["inside", "above", "below", "not run", "n = 1, no verdict"]


def released_top1_percent(is_right_N: NDArray[np.bool_], batch_size: int) -> float:
    """Return top-1 accuracy as P1's released meter computes it, in percent: a short last batch counts as a full one.

    Args:
        is_right_N: Whether each test image was classified correctly, shape (N,), in the official order.
        batch_size: Images per batch, at least 1.

    Raises:
        ValueError: If there is no image.

    Source:
        github.com/alexlopezcifuentes/Distillation-Attention, evaluateCNNs.py, lines 141-146, commit 3d70d15.
    """
    if not len(is_right_N):
        raise ValueError("released_top1_percent needs at least one image")
    shares = [float(is_right_N[start : start + batch_size].mean()) for start in range(0, len(is_right_N), batch_size)]
    return 100 * math.fsum(shares) / len(shares)


def verdict(reported: float, ours: Sequence[float]) -> Verdict:
    """Return where a published number lies: inside, above or below the 95 % prediction interval for one run of ours.

    Args:
        reported: The published number, of a single run.
        ours: Our values, one per seed, in the same unit.

    Example:
        >>> verdict(99.0, [70.0, 71.0, 72.0])
        'above'
    """
    if not ours:
        return "not run"
    interval = prediction_interval(ours)
    if interval is None:
        return "n = 1, no verdict"
    low, high = interval
    return "below" if reported < low else "above" if reported > high else "inside"
