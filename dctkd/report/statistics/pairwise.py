"""Comparing two methods, or each method with the best: paired t-test, McNemar's test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

from dctkd.report.statistics.intervals import ALPHA, Summary, paired_difference

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

K = TypeVar("K", bound=Hashable)

_ROUNDING = 1e-9
"""Differences that vary by less than this part of the values are equal: floats of percentages err by 1e-15 of them."""


@dataclass(frozen=True)
class PairedTest:
    """Two methods compared over the seeds that both have.

    Attributes:
        difference: Mean, spread and t-interval of a - b over common seeds.
        p: Two-sided p-value of the paired t-test, not corrected; None where there is no test.
        reason: Why there is no test, in words; None where `p` is a number.
    """

    difference: Summary
    p: float | None
    reason: str | None


@dataclass(frozen=True)
class McNemar:
    """Two trained networks compared on the same test images.

    Attributes:
        num_only_a: Number of images that only network a gets right.
        num_only_b: Number of images that only network b gets right.
        p: Two-sided exact p-value, not corrected.
    """

    num_only_a: int
    num_only_b: int
    p: float


@dataclass(frozen=True)
class BestComparison:
    """Each method compared with the one that has the highest mean.

    Attributes:
        best: The method with the highest mean over its seeds; of equal ones, the first in alphabetical order.
        p: For every other method, the p-value against the best, corrected by Holm over all pairs of methods; None
            where there is no test. In the order of the input.
        indistinguishable: The best, and the methods whose p is at least 0.05; None if no method has a test, so that
            nothing can be said. A method without a test is not in it: see `untested`.
        num_tests: Size of the family that p is corrected for: the number of pairs of methods that have a test.
    """

    best: str
    p: dict[str, float | None]
    indistinguishable: frozenset[str] | None
    num_tests: int

    @property
    def untested(self) -> frozenset[str]:
        """Methods that could not be compared with the best, and so are neither equal to it nor worse, by this."""
        return frozenset(name for name, p in self.p.items() if p is None)


def compare(a: Mapping[int, float], b: Mapping[int, float]) -> PairedTest | None:
    """Test whether two methods differ, by the two-sided paired t-test over common seeds.

    Differences that are equal in all seeds have no spread; the formula gives p = 0 from as little as two runs whose
    accuracies happen to differ by the same number of images. There is no test then, unless all differences are 0:
    then p is 1. Differences count as equal if they vary by rounding only.

    Args:
        a: Value by seed.
        b: Value by seed, in the same unit.

    Returns:
        The difference a - b and its p-value; None if no seed is common.

    Raises:
        ValueError: If a value is not finite.

    Source:
        Student 1908; distribution by scipy.special.stdtr.

    Example:
        >>> compare({0: 71.0, 1: 73.0, 2: 72.0}, {0: 70.0, 1: 71.0, 2: 71.5}).p
        0.118...
        >>> compare({0: 71.0, 1: 73.0}, {0: 70.0, 1: 72.0}).reason
        'differences are equal in all 2 seeds; no test'
    """
    difference = paired_difference(a, b)
    if difference is None:
        return None
    if difference.sd is None:
        return PairedTest(difference, None, "one common seed; no test")
    rounding = _ROUNDING * max(max(abs(a[seed]), abs(b[seed])) for seed in a.keys() & b.keys())
    if difference.sd <= rounding:
        if abs(difference.mean) <= rounding:
            return PairedTest(difference, 1.0, None)
        return PairedTest(difference, None, f"differences are equal in all {difference.n} seeds; no test")
    from scipy.special import stdtr  # here: scipy takes a quarter of a second, and not every caller tests

    t = difference.mean / (difference.sd / math.sqrt(difference.n))
    return PairedTest(difference, 2 * float(stdtr(difference.n - 1, -abs(t))), None)


def mcnemar(is_right_a_N: ArrayLike, is_right_b_N: ArrayLike) -> McNemar:
    """Test whether two trained networks get equally many images right, by McNemar's exact test.

    It compares these two networks on images of this kind, not the two methods that trained them: the noise of training
    is not in it, and two runs of one method with different seeds may well differ by it.

    Args:
        is_right_a_N: Whether network a is right, by image, shape (N,), bool.
        is_right_b_N: Whether network b is right, by image, in the same order, shape (N,), bool.

    Returns:
        The numbers of images that one of the two gets right, and p; p is 1 if there is no such image.

    Raises:
        ValueError: If the shapes differ.

    Source:
        McNemar 1947; exact form by the sign test, scipy.stats.binomtest.

    Example:
        >>> mcnemar([True, True, True, False], [True, False, False, True])
        McNemar(num_only_a=2, num_only_b=1, p=1.0)
    """
    import numpy as np  # here, as scipy below: light callers import this module

    is_right_a_N, is_right_b_N = np.asarray(is_right_a_N, dtype=bool), np.asarray(is_right_b_N, dtype=bool)
    if is_right_a_N.shape != is_right_b_N.shape or is_right_a_N.ndim != 1:
        raise ValueError(f"expected two arrays of one shape (N,); got {is_right_a_N.shape} and {is_right_b_N.shape}")
    num_only_a = int((is_right_a_N & ~is_right_b_N).sum())
    num_only_b = int((is_right_b_N & ~is_right_a_N).sum())
    if num_only_a == num_only_b == 0:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest

    return McNemar(num_only_a, num_only_b, float(binomtest(num_only_a, num_only_a + num_only_b, 0.5).pvalue))


def holm(p_values: Mapping[K, float | None]) -> dict[K, float | None]:
    """Return p-values corrected by Holm: rejecting those below 0.05 errs in at most 5 % of families without an effect.

    Args:
        p_values: p-value in [0, 1] by test; None for a test that could not be made, which does not count.

    Returns:
        Corrected p-value in [0, 1] by test, in the same order; None stays None.

    Raises:
        ValueError: If a p-value is not in [0, 1].

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": None})
        {'a': 0.02, 'b': 0.04, 'c': None}
    """
    made = {key: p for key, p in p_values.items() if p is not None}
    if not all(0 <= p <= 1 for p in made.values()):
        raise ValueError(f"expected p-values in [0, 1], got {made}")
    corrected: dict[K, float | None] = dict.fromkeys(p_values)
    # Not statsmodels' multipletests: it collects garbage at every call, 20 to 50 ms that a table pays for each row.
    largest = 0.0
    for rank, (key, p) in enumerate(sorted(made.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(made) - rank) * p))
        corrected[key] = largest
    return corrected


def against_best(values: Mapping[str, Mapping[int, float]]) -> BestComparison:
    """Compare each method with the one that has the highest mean, by paired t-tests over common seeds.

    The best is chosen by looking at the values, so a correction for the k - 1 tests against it is not enough: with 20
    equal methods and 3 seeds it declares one worse than the best in 11 % of experiments, with 5 seeds in 15 %. A
    correction for all k (k - 1) / 2 pairs holds whatever pair is looked at. It is strict: with few seeds, methods
    that are not distinguished may still differ by much. Equal variances of the methods are not assumed.

    Args:
        values: Value by seed, by method; higher is better. At least one method, each with at least one seed.

    Returns:
        The best method, p-values against it, and the methods that are not distinguished from it at 5 %.

    Raises:
        ValueError: If there is no method, or one without values, or a value is not finite.

    Source:
        Holm 1979; on the choice of the best by the data: Hsu 1996, "Multiple Comparisons", chapter 4.

    Example:
        >>> against_best({"kd": {0: 70.0, 1: 70.2}, "dkd": {0: 71.1, 1: 71.2}})
        BestComparison(best='dkd', p={'kd': 0.0302...}, indistinguishable=frozenset({'dkd'}), num_tests=1)
    """
    if not values or not all(values.values()):
        raise ValueError(f"expected methods with at least one value each, got {values}")
    best = min(values, key=lambda name: (-math.fsum(values[name].values()) / len(values[name]), name))
    tests = {frozenset(pair): compare(values[pair[0]], values[pair[1]]) for pair in combinations(values, 2)}
    corrected = holm({pair: None if test is None else test.p for pair, test in tests.items()})
    p = {name: corrected[frozenset((best, name))] for name in values if name != best}
    near = frozenset(name for name, value in p.items() if value is not None and value >= ALPHA)
    num_tests = sum(value is not None for value in corrected.values())
    has_test = any(value is not None for value in p.values())
    return BestComparison(best, p, near | {best} if has_test else None, num_tests)
