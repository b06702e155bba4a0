"""Means, intervals and paired differences against scipy and statsmodels, bootstrap intervals against resampling."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from dctkd.report.statistics import (
    bootstrap_accuracy,
    bootstrap_mean_class_accuracy,
    paired_difference,
    prediction_interval,
    summarise,
)

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


def test_prediction_interval_is_statsmodels_interval_for_an_observation():
    frame = sm.OLS(TOP1, np.ones(5)).fit().get_prediction([1.0]).summary_frame(alpha=0.05)
    assert prediction_interval(TOP1) == pytest.approx((frame["obs_ci_lower"][0], frame["obs_ci_upper"][0]), rel=1e-9)


def test_prediction_interval_by_hand():
    # t(2) = 4.30265 at 97.5 %, sd = 1: half the width is 4.30265 * sqrt(4 / 3).
    assert prediction_interval([70.0, 71.0, 72.0]) == pytest.approx((71 - 4.968274, 71 + 4.968274), abs=1e-5)


def test_one_run_predicts_no_other():
    assert prediction_interval([71.3]) is None


def test_bootstrap_interval_is_the_limit_of_resampling_images():
    is_right_N = np.arange(200) < 130
    drawn = np.random.default_rng(3).choice(is_right_N, (20_000, 200)).mean(axis=1)
    summary = bootstrap_accuracy(130, 200)
    # One image is 0.5 percent: the percentiles of 20,000 draws lie within it.
    expected = 100 * np.quantile(drawn, [0.025, 0.975])
    assert (summary.ci_low, summary.ci_high) == pytest.approx(tuple(expected), abs=0.5001)


def test_bootstrap_interval_is_near_the_normal_approximation_for_many_images():
    summary = bootstrap_accuracy(600_000, 1_000_000)
    half = 100 * 1.959964 * math.sqrt(0.6 * 0.4 / 1e6)
    assert (summary.mean, summary.half_width) == (60.0, pytest.approx(half, rel=1e-3))


def test_bootstrap_says_that_it_is_over_images_of_one_run():
    summary = bootstrap_accuracy(6, 10)
    assert (summary.sd, summary.n, summary.method) == (None, 1, "bootstrap over 10 test images, one run")


@pytest.mark.parametrize(("num_right", "low", "high"), [(0, 0.0, 30.850), (10, 69.150, 100.0)])
def test_all_right_or_all_wrong_has_an_exact_interval_and_says_so(num_right, low, high):
    # Clopper and Pearson: 1 - 0.025^(1/10) = 0.30850.
    summary = bootstrap_accuracy(num_right, 10)
    assert (summary.ci_low, summary.ci_high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
    assert "Clopper-Pearson" in summary.method


@pytest.mark.parametrize(("num_right", "num_images"), [(-1, 10), (11, 10), (0, 0)])
def test_impossible_counts_are_refused(num_right, num_images):
    with pytest.raises(ValueError, match="num_right"):
        bootstrap_accuracy(num_right, num_images)


def test_mean_class_accuracy_is_the_mean_over_classes_with_images():
    # (90 % + 50 %) / 2; over images it would be 98 of 110.
    assert bootstrap_mean_class_accuracy([90, 0, 5], [100, 0, 10]).mean == pytest.approx(70.0)


def test_mean_class_interval_is_near_the_normal_approximation():
    right_K, images_K = np.array([900, 120, 300]), np.array([1000, 400, 500])
    accuracy_K = right_K / images_K
    half = 100 * 1.959964 * math.sqrt((accuracy_K * (1 - accuracy_K) / images_K).sum()) / 3
    # 4,000 draws give the half width to some 2 percent.
    assert bootstrap_mean_class_accuracy(right_K, images_K).half_width == pytest.approx(half, rel=0.06)


def test_mean_class_interval_of_one_class_is_that_of_its_images():
    one_class, images = bootstrap_mean_class_accuracy([600], [1000]), bootstrap_accuracy(600, 1000)
    assert (one_class.ci_low, one_class.ci_high) == pytest.approx((images.ci_low, images.ci_high), abs=0.2)


def test_images_are_drawn_within_classes():
    # Drawn over all images, the sizes of the classes would vary and the interval would not have width 0.
    assert bootstrap_mean_class_accuracy([10, 0], [10, 3]).half_width == 0


def test_mean_class_interval_is_the_same_every_time():
    assert bootstrap_mean_class_accuracy([8, 3], [10, 9]) == bootstrap_mean_class_accuracy([8, 3], [10, 9])


@pytest.mark.parametrize(
    ("right_K", "images_K"), [([1], [1, 2]), ([0], [0]), ([3], [2]), ([-1], [2]), ([], []), ([[1]], [[2]])]
)
def test_impossible_counts_by_class_are_refused(right_K, images_K):
    with pytest.raises(ValueError, match="expected"):
        bootstrap_mean_class_accuracy(right_K, images_K)
