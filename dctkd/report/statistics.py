"""What is said of a number measured over seeds: mean, spread, t-interval, and differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95
"""Coverage of every interval in the report, a fraction."""


@dataclass(frozen=True)
class Summary:
    """A mean over seeds and how far it can be trusted.

    Attributes:
        mean: Arithmetic mean, in the unit of the values.
        sd: Sample standard deviation (n - 1 in the denominator); None for one value.
        n: Number of values.
        ci_low: Lower end of the 95 % t-interval of the mean; None for one value.
        ci_high: Upper end; None for one value.
        method: How the interval was made, in words.
    """

    mean: float
    sd: float | None
    n: int
    ci_low: float | None
    ci_high: float | None
    method: str

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, the number after the plus-minus sign; None for one value."""
        return None if self.ci_low is None or self.ci_high is None else (self.ci_high - self.ci_low) / 2


def summarise(values: Iterable[float]) -> Summary:
    """Return mean, standard deviation and the 95 % t-interval of independent values, such as runs of different seeds.

    Args:
        values: At least one finite number, all in one unit.

    Raises:
        ValueError: If there is no value, or one is not finite.

    Source:
        Student 1908; t quantile by scipy.special.stdtrit.

    Example:
        >>> summarise([70.0, 71.0, 72.0])
        Summary(mean=71.0, sd=1.0, n=3, ci_low=68.5158..., ci_high=73.4841..., method='t interval over 3 values')
        >>> summarise([70.0]).method
        'one value, no interval'
    """
    numbers = [float(value) for value in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"summarise needs at least one value, all of them finite; got {numbers}")
    n, mean = len(numbers), math.fsum(numbers) / len(numbers)
    if n == 1:
        return Summary(mean, None, 1, None, None, "one value, no interval")
    sd = statistics.stdev(numbers)
    half = _t_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(mean, sd, n, mean - half, mean + half, f"t interval over {n} values")


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Summary | None:
    """Summarise a - b over the seeds that both have; the same seed means the same batches, so their noise cancels.

    An interval that excludes 0 is the same statement as a two-sided paired t-test with p < 0.05.

    Args:
        a: Value by seed.
        b: Value by seed, in the same unit.

    Returns:
        Summary of the differences, or None if no seed is common.

    Example:
        >>> paired_difference({0: 71.0, 1: 73.0, 2: 9.0}, {0: 70.0, 1: 71.0}).mean
        1.5
    """
    common = sorted(a.keys() & b.keys())
    return summarise(a[seed] - b[seed] for seed in common) if common else None


def _t_quantile(degrees_of_freedom: int) -> float:
    from scipy.special import stdtrit  # here: scipy takes a quarter of a second, and not every caller has intervals

    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
