"""What is said of one number: mean, spread and interval, over seeds or, for a single run, over test images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CONFIDENCE = 0.95
"""Coverage of every interval in the report, a fraction."""

ALPHA = round(1 - CONFIDENCE, 9)
"""Level of every test in the report, a fraction."""

NUM_RESAMPLES = 4000
BOOTSTRAP_SEED = 0
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Summary:
    """A number and how far it can be trusted: a mean over seeds, or the accuracy of one run over its test images.

    Attributes:
        mean: Arithmetic mean over seeds, or the value of the one run, in the unit of the values.
        sd: Sample standard deviation over seeds (n - 1 in the denominator); None for one value.
        n: Number of values, that is of runs.
        ci_low: Lower end of the 95 % interval; None for one value whose interval is not known.
        ci_high: Upper end; None where `ci_low` is.
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


def prediction_interval(values: Iterable[float]) -> tuple[float, float] | None:
    """Return the 95 % interval for the value of one new independent run, such as a run of a further seed.

    It is mean +- t(n - 1) * sd * sqrt(1 + 1/n). The interval of the mean does not serve here: it tells where the mean
    of endlessly many runs is, and a single run, such as one that a paper publishes, falls outside it far too often.
    The values must come from one normal distribution; at n = 3 the interval is 5 sd wide on each side.

    Args:
        values: At least one finite number, all in one unit.

    Returns:
        Lower and upper end, in the unit of the values; None for one value.

    Raises:
        ValueError: If there is no value, or one is not finite.

    Source:
        Hahn and Meeker 1991, "Statistical Intervals", chapter 4 (one future observation).

    Example:
        >>> prediction_interval([70.0, 71.0, 72.0])
        (66.031..., 75.968...)
    """
    summary = summarise(values)
    if summary.half_width is None:
        return None
    # The interval of the mean has sqrt(1/n) where this one has sqrt(1 + 1/n).
    half = summary.half_width * math.sqrt(summary.n + 1)
    return summary.mean - half, summary.mean + half


def bootstrap_accuracy(num_right: int, num_images: int) -> Summary:
    """Return the accuracy of one trained network, in percent, with a 95 % interval over test images.

    The interval says how much the accuracy would move with other test images of the same kind. It says nothing of
    another training: the spread over seeds is not in it, so it must not serve to compare methods.

    A resample of N images with replacement has Binomial(N, k/N) right ones. The percentiles are those of that
    distribution, which the bootstrap approaches with endlessly many resamples: nothing is drawn. If all images or none
    are right, every resample is the same and its interval would have width 0, which claims certainty; the exact
    interval of Clopper and Pearson stands there instead, and `method` says so.

    Args:
        num_right: Number k of right images, 0 to `num_images`.
        num_images: Number N of test images, at least 1.

    Raises:
        ValueError: If the counts are not possible.

    Source:
        Efron and Tibshirani 1993, section 13.3 (percentile interval); Clopper and Pearson 1934.

    Example:
        >>> bootstrap_accuracy(600, 1000)
        Summary(mean=60.0, sd=None, n=1, ci_low=57.0, ci_high=63.0, method='bootstrap over 1000 test images, one run')
    """
    if not 0 <= num_right <= num_images or num_images < 1:
        raise ValueError(f"expected 0 <= num_right <= num_images, and an image; got {num_right} of {num_images}")
    from scipy.stats import binom, binomtest  # here: scipy.stats takes a second to import

    if 0 < num_right < num_images:
        low, high = 100 * binom.ppf(_TAILS, num_images, num_right / num_images) / num_images
        method = f"bootstrap over {num_images} test images, one run"
    else:
        exact = binomtest(num_right, num_images).proportion_ci(CONFIDENCE, method="exact")
        low, high = 100 * exact.low, 100 * exact.high
        method = f"Clopper-Pearson interval over {num_images} test images, all {_outcome(num_right)}, one run"
    return Summary(100 * num_right / num_images, None, 1, float(low), float(high), method)


def bootstrap_mean_class_accuracy(right_K: ArrayLike, images_K: ArrayLike) -> Summary:
    """Return the mean over classes of the accuracy of one trained network, in percent, with a 95 % interval.

    Images are drawn with replacement within each class (4,000 times, by a generator with a fixed seed, so the same
    counts give the same interval). Classes without images are left out. As in `bootstrap_accuracy`, the spread over
    trainings is not in it. Within a class of N images the resamples vary (N - 1)/N times as much as new images would:
    at 5 images per class the interval is about a tenth too narrow, and a class with all images right, or with one
    image, adds no width at all.

    Args:
        right_K: Number of right images by class, shape (K,).
        images_K: Number of images by class, shape (K,); 0 for a class without images.

    Raises:
        ValueError: If the shapes differ, a count is not possible, or no class has images.

    Source:
        Davison and Hinkley 1997, section 3.2 (samples from several populations).

    Example:
        >>> summary = bootstrap_mean_class_accuracy([8, 1, 0], [10, 2, 0])
        >>> summary.mean, summary.method
        (65.0, 'bootstrap over 12 test images within 2 classes, one run')
    """
    import numpy as np  # here: the rest of the module needs no arrays

    right_K, images_K = np.asarray(right_K, dtype=np.int64), np.asarray(images_K, dtype=np.int64)
    if right_K.shape != images_K.shape or right_K.ndim != 1 or not images_K.any():
        raise ValueError(f"expected counts of one shape (K,) and an image; got {right_K.shape} and {images_K.shape}")
    if (right_K < 0).any() or (right_K > images_K).any():
        raise ValueError("expected 0 <= right_K <= images_K in each class; check that the two are not swapped")
    has_images_K = images_K > 0
    right_K, images_K = right_K[has_images_K], images_K[has_images_K]
    accuracy_K = right_K / images_K
    drawn_SK = np.random.default_rng(BOOTSTRAP_SEED).binomial(images_K, accuracy_K, (NUM_RESAMPLES, len(images_K)))
    low, high = np.quantile((drawn_SK / images_K).mean(axis=1), _TAILS)
    method = f"bootstrap over {images_K.sum()} test images within {len(images_K)} classes, one run"
    return Summary(100 * float(accuracy_K.mean()), None, 1, 100 * float(low), 100 * float(high), method)


def _outcome(num_right: int) -> str:
    return "right" if num_right else "wrong"


def _t_quantile(degrees_of_freedom: int) -> float:
    from scipy.special import stdtrit  # here: scipy takes a quarter of a second, and not every caller has intervals

    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
