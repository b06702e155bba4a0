"""What is said of one published number: whether it is possible at all, and where it lies relative to our runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from dctkd.report.statistics import prediction_interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Verdict = Literal["inside", "above", "below", "not run", "n = 1, no verdict"]


def is_attainable(value_percent: float, num_images: int, decimals: int = 2) -> bool:
    """Return whether some number of right images gives an accuracy that is rounded to the value.

    A value half-way between two roundings counts for both. The check has no power where 100 / `num_images` is not
    larger than the rounding step: then every value is attainable.

    Args:
        value_percent: Published accuracy, in percent.
        num_images: Number N of test images, at least 1; accuracy is 100 k / N for a whole k.
        decimals: Digits after the point of the published value.

    Example:
        >>> is_attainable(40.95, 2000), is_attainable(58.34, 2000)
        (True, False)
    """
    return is_attainable_by_released_meter(value_percent, num_images, num_images, decimals=decimals)


def is_attainable_by_released_meter(
    value_percent: float, num_images: int, batch_size: int, *, decimals: int = 2
) -> bool:
    """Return whether some numbers of right images give P1's released meter a mean that is rounded to the value.

    With a right images in the full batches and b in the last, shorter one of L images, the mean over m batches is
    100 / m * (a / `batch_size` + b / L).

    Args:
        value_percent: Published accuracy, in percent.
        num_images: Number N of test images, at least 1.
        batch_size: Images per full batch, at least 1.
        decimals: Digits after the point of the published value.

    Source:
        github.com/alexlopezcifuentes/Distillation-Attention, evaluateCNNs.py, lines 141-146, commit 3d70d15.
    """
    half_step = Fraction(1, 2 * 10**decimals)
    value = Fraction(f"{value_percent:.{decimals}f}")  # through text: the float 58.34 is not 58.34
    num_full, num_last = divmod(num_images, batch_size)
    num_batches = num_full + (num_last > 0)
    for right_in_last in range(num_last + 1):
        share_of_last = Fraction(right_in_last, num_last) if num_last else Fraction(0)
        low, high = (((value + sign * half_step) * num_batches / 100 - share_of_last) * batch_size for sign in (-1, 1))
        if max(math.ceil(low), 0) <= min(math.floor(high), num_full * batch_size):
            return True
    return False


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
