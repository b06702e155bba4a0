"""Means, intervals and paired differences against scipy.stats."""

import math

import numpy as np
import pytest
from scipy import stats

from dctkd.report.statistics import paired_difference, summarise

TOP1 = [71.3, 70.2, 72.9, 71.0, 69.8]


def test_interval_is_scipys_t_interval():
    summary = summarise(TOP1)
    low, high = stats.t.interval(0.95, df=len(TOP1) - 1, loc=np.mean(TOP1), scale=stats.sem(TOP1))
    assert summary.ci_low == pytest.approx(low, rel=1e-12)
    assert summary.ci_high == pytest.approx(high, rel=1e-12)


def test_mean_and_standard_deviation_are_numpys():
    summary = summarise(TOP1)
    assert summary.mean == pytest.approx(np.mean(TOP1), rel=1e-12)
    assert summary.sd == pytest.approx(np.std(TOP1, ddof=1), rel=1e-12)
    assert summary.n == 5


def test_one_value_has_no_interval_and_says_so():
    summary = summarise([71.3])
    assert (summary.mean, summary.sd, summary.ci_low, summary.ci_high, summary.half_width) == (
        71.3,
        None,
        None,
        None,
        None,
    )
    assert "no interval" in summary.method


def test_equal_values_have_an_interval_of_width_zero():
    summary = summarise([70.0, 70.0, 70.0])
    assert (summary.sd, summary.ci_low, summary.ci_high) == (0.0, 70.0, 70.0)


def test_adding_a_constant_moves_the_interval_by_it():
    near, far = summarise(TOP1), summarise([value + 1000.0 for value in TOP1])
    assert far.ci_low == pytest.approx(near.ci_low + 1000.0, rel=1e-12)


@pytest.mark.parametrize("values", [[], [70.0, math.nan], [math.inf]])
def test_no_value_or_a_value_that_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="at least one value, all of them finite"):
        summarise(values)


def test_paired_difference_is_scipys_paired_t_interval_over_common_seeds():
    a = {3: 72.9, 0: 71.3, 1: 70.2, 2: 72.0, 9: 10.0}
    b = {0: 70.1, 1: 69.9, 2: 70.0, 3: 71.2, 8: 99.0}
    expected = stats.ttest_rel([71.3, 70.2, 72.0, 72.9], [70.1, 69.9, 70.0, 71.2])
    summary = paired_difference(a, b)
    interval = expected.confidence_interval(0.95)
    assert summary.n == 4
    assert (summary.ci_low, summary.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_interval_of_a_difference_excludes_zero_exactly_where_the_paired_test_has_p_below_005():
    b = {0: 70.1, 1: 69.9, 2: 70.0}
    for gain in (0.1, 0.3, 0.5, 0.8, 1.2):
        a = {0: 70.1 + gain, 1: 69.7 + gain, 2: 70.3 + gain}
        summary = paired_difference(a, b)
        assert (summary.ci_low > 0) == (stats.ttest_rel(list(a.values()), list(b.values())).pvalue < 0.05)


def test_pairing_removes_the_noise_that_both_methods_share():
    shared = {0: 60.0, 1: 65.0, 2: 70.0}
    better = {0: 61.0, 1: 66.1, 2: 70.9}
    assert paired_difference(better, shared).ci_low > 0
    assert summarise(better.values()).ci_low < summarise(shared.values()).ci_high


def test_difference_without_a_common_seed_is_none():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
