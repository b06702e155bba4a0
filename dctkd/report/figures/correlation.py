"""Whether two measures of the same runs rise together: Spearman's rank correlation with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dctkd.report.statistics import CONFIDENCE

NUM_RESAMPLES = 9999
MIN_FOR_CORRELATION = 3
MIN_FOR_INTERVAL = 5
"""Below, resamples take so few values that their percentiles mean little."""

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of n pairs in [-1, 1], and its 95 % bootstrap interval; None for few pairs."""

    rho: float
    ci_low: float | None
    ci_high: float | None
    n: int


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> RankCorrelation | None:
    """Return Spearman's rank correlation of pairs, ties by mean rank, with a percentile bootstrap interval.

    Pairs are drawn with replacement, 9999 times, by a generator with a fixed seed: the same pairs give the same
    interval. Resamples with one value only, which have no correlation, are left out.

    Args:
        x: Finite numbers.
        y: Equally many finite numbers.

    Returns:
        The correlation; None below 3 pairs, or if x or y is constant. Below 5 pairs it has no interval.

    Raises:
        ValueError: If the lengths differ, or a number is not finite.

    Source:
        Spearman 1904; Efron and Tibshirani 1993, section 13.3 (percentile interval).

    Example:
        >>> rank_correlation([1, 2, 3, 4], [1, 4, 9, 16])
        RankCorrelation(rho=1.0, ci_low=None, ci_high=None, n=4)
    """
    pairs = np.array([x, y], dtype=np.float64) if len(x) == len(y) else np.full((2, 1), np.nan)
    if not np.isfinite(pairs).all():
        raise ValueError(f"expected equally many finite numbers in x and y, got {len(x)} and {len(y)} with {x}, {y}")
    n = pairs.shape[1]
    if n < MIN_FOR_CORRELATION or np.ptp(pairs, axis=1).min() == 0:
        return None
    (rho,) = _spearman(pairs[:, np.newaxis])
    if n < MIN_FOR_INTERVAL:
        return RankCorrelation(float(rho), None, None, n)
    drawn = np.random.default_rng(BOOTSTRAP_SEED).integers(n, size=(NUM_RESAMPLES, n))
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    low, high = np.nanquantile(_spearman(pairs[:, drawn]), tails)
    return RankCorrelation(float(rho), float(low), float(high), n)


def _spearman(pairs_2SN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of each of S samples of N pairs, shape (S,); NaN for a constant one."""
    from scipy.stats import rankdata  # here: scipy.stats takes a second to import

    ranks_2SN = rankdata(pairs_2SN, axis=2)
    ranks_2SN -= ranks_2SN.mean(axis=2, keepdims=True)
    squares_2S = (ranks_2SN**2).sum(axis=2)
    scale_S = np.sqrt(squares_2S[0] * squares_2S[1])
    products_S = (ranks_2SN[0] * ranks_2SN[1]).sum(axis=1)
    rho_S: NDArray[np.float64] = np.divide(products_S, scale_S, out=np.full_like(scale_S, np.nan), where=scale_S > 0)
    return rho_S
