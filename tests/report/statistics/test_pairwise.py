"""Paired tests, McNemar's test, Holm's correction and the comparison with the best, against published values."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from dctkd.report.statistics.pairwise import McNemar, against_best, compare, holm, mcnemar

# Student 1908, Biometrika 6: additional hours of sleep of ten patients with two drugs; R's data set `sleep`.
DRUG_1 = dict(enumerate([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]))
DRUG_2 = dict(enumerate([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]))


def _seeds(*values):
    return dict(enumerate(values))


def test_paired_test_of_students_sleep_data_is_the_published_one():
    # R: t.test(extra ~ group, sleep, paired = TRUE) gives p-value = 0.002833, interval -2.4598858 -0.7001142.
    test = compare(DRUG_1, DRUG_2)
    assert test.p == pytest.approx(0.002833, abs=5e-7)
    assert (test.difference.ci_low, test.difference.ci_high) == (
        pytest.approx(-2.4598858, abs=5e-8),
        pytest.approx(-0.7001142, abs=5e-8),
    )


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_p_is_scipys_over_common_seeds(num_seeds):
    a = {seed: DRUG_1[seed] for seed in range(num_seeds)} | {50: 99.0}
    b = {seed: DRUG_2[seed] for seed in reversed(range(num_seeds))} | {51: -99.0}
    expected = stats.ttest_rel(list(DRUG_1.values())[:num_seeds], list(DRUG_2.values())[:num_seeds]).pvalue
    assert compare(a, b).p == pytest.approx(expected, rel=1e-9)


def test_order_of_methods_turns_the_difference_and_keeps_p():
    forth, back = compare(DRUG_1, DRUG_2), compare(DRUG_2, DRUG_1)
    assert (forth.p, forth.difference.mean) == (back.p, -back.difference.mean)


def test_equal_differences_have_no_test_even_if_they_differ_by_rounding():
    # 7 images of 10,000 more in each seed: 0.07 percent, but for the last digits.
    b = {seed: 100 * count / 10_000 for seed, count in enumerate((6011, 7130, 1234))}
    a = {seed: 100 * (count + 7) / 10_000 for seed, count in enumerate((6011, 7130, 1234))}
    assert len({a[seed] - b[seed] for seed in b}) > 1
    test = compare(a, b)
    assert (test.p, test.reason) == (None, "differences are equal in all 3 seeds; no test")


def test_equal_runs_have_p_1():
    assert compare(DRUG_1, DRUG_1).p == 1.0


def test_small_differences_of_large_values_are_tested():
    # One image of 1,281,167 is 8e-5 percent.
    image = 100 / 1_281_167
    test = compare(_seeds(75 + image, 76 + 2 * image), _seeds(75.0, 76.0))
    assert test.p == pytest.approx(stats.ttest_1samp([1, 2], 0).pvalue, rel=1e-4)


def test_one_common_seed_has_a_difference_and_no_test():
    test = compare({0: 71.0, 1: 70.0}, {0: 70.5, 2: 70.0})
    assert (test.difference.mean, test.p, test.reason) == (0.5, None, "one common seed; no test")


def test_no_common_seed_gives_none():
    assert compare({0: 71.0}, {1: 70.0}) is None


@pytest.mark.parametrize(("num_only_a", "num_only_b"), [(1, 6), (86, 150), (7, 7), (0, 3), (2, 0)])
def test_mcnemar_is_statsmodels_exact_test(num_only_a, num_only_b):
    is_right_a = np.repeat([True, True, False, False], [794, num_only_a, num_only_b, 570])
    is_right_b = np.repeat([True, False, True, False], [794, num_only_a, num_only_b, 570])
    expected = statsmodels_mcnemar([[794, num_only_a], [num_only_b, 570]], exact=True).pvalue
    assert mcnemar(is_right_a, is_right_b) == McNemar(num_only_a, num_only_b, pytest.approx(expected, rel=1e-9))


def test_mcnemar_by_hand():
    # 1 and 6 discordant images: 2 * (1 + 7) / 2^7 = 0.125.
    result = mcnemar([True] + [False] * 6 + [True] * 20, [False] + [True] * 6 + [True] * 20)
    assert result == McNemar(1, 6, pytest.approx(0.125, rel=1e-12))


def test_mcnemar_of_equal_predictions_has_p_1():
    assert mcnemar([True, False], [True, False]) == McNemar(0, 0, 1.0)


def test_mcnemar_refuses_different_numbers_of_images():
    with pytest.raises(ValueError, match="one shape"):
        mcnemar([True, False], [True])


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, then the running maximum; R's p.adjust gives the same.
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels_holm(seed):
    p_values = np.random.default_rng(seed).uniform(0, [0.02, 1.0], (10, 2)).round(2).ravel()
    expected = multipletests(p_values, method="holm")[1]
    assert list(holm(dict(enumerate(p_values))).values()) == pytest.approx(expected, rel=1e-12)


def test_holm_leaves_out_tests_that_were_not_made():
    corrected = holm({"none": None, "a": 0.01, "b": 0.04})
    assert corrected == {"none": None, "a": pytest.approx(0.02), "b": pytest.approx(0.04)}
    assert list(corrected) == ["none", "a", "b"]


def test_holm_never_exceeds_1():
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize("p_values", [{}, {"a": None}])
def test_holm_without_tests_corrects_nothing(p_values):
    assert holm(p_values) == p_values


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match="p-values in"):
        holm({"a": p})


# Differences to "best", by seed: 1.0 1.1 0.9 1.0 1.0 for "worse"; 0.5 -0.4 0.1 0.3 -0.2 for "near".
VALUES = {
    "worse": _seeds(69.0, 69.9, 70.1, 71.0, 68.0),
    "best": _seeds(70.0, 71.0, 71.0, 72.0, 69.0),
    "near": _seeds(69.5, 71.4, 70.9, 71.7, 69.2),
}


def test_best_is_compared_with_each_at_p_corrected_for_all_pairs():
    def p(a, b):
        return stats.ttest_rel(list(VALUES[a].values()), list(VALUES[b].values())).pvalue

    smallest, middle, largest = sorted([p("worse", "best"), p("worse", "near"), p("near", "best")])
    assert (smallest, middle, largest) == (p("worse", "best"), p("worse", "near"), p("near", "best"))
    result = against_best(VALUES)
    assert result.best == "best"
    assert result.p == pytest.approx({"worse": 3 * smallest, "near": largest}, rel=1e-9)
    assert result.num_tests == 3


def test_methods_that_are_not_distinguished_stand_with_the_best():
    assert against_best(VALUES).indistinguishable == {"best", "near"}


def test_order_of_methods_does_not_change_the_comparison():
    turned = against_best(dict(reversed(VALUES.items())))
    assert (turned.best, turned.p, turned.indistinguishable) == (
        "best",
        pytest.approx(against_best(VALUES).p, rel=1e-12),
        {"best", "near"},
    )


def test_more_methods_make_the_correction_stricter():
    # p of worse against best is 1e-5; a family of 3 pairs keeps it, further equal methods raise it.
    far = {f"other{i}": {seed: 60.0 + (seed * (i + 2)) % 7 for seed in range(5)} for i in range(5)}
    assert against_best(VALUES | far).p["worse"] > against_best(VALUES).p["worse"]


def test_one_seed_says_nothing_about_the_best():
    result = against_best({"a": {0: 70.0}, "b": {0: 60.0}})
    assert (result.best, result.p, result.indistinguishable, result.num_tests) == ("a", {"b": None}, None, 0)


def test_method_without_a_common_seed_is_untested_and_not_with_the_best():
    result = against_best(VALUES | {"elsewhere": {7: 70.0, 8: 70.1}})
    assert result.p["elsewhere"] is None
    assert result.indistinguishable == {"best", "near"}
    assert result.untested == {"elsewhere"}


def test_method_with_the_same_runs_stands_with_the_best():
    assert against_best(VALUES | {"twin": VALUES["best"]}).indistinguishable == {"best", "near", "twin"}


def test_of_equal_methods_the_first_in_the_alphabet_is_the_best():
    assert against_best({"z": VALUES["best"], "b": VALUES["best"]}).best == "b"


def test_one_method_is_the_best_without_a_test():
    result = against_best({"only": {0: 70.0, 1: 71.0}})
    assert (result.best, result.p, result.indistinguishable) == ("only", {}, None)


@pytest.mark.parametrize("values", [{}, {"a": {0: 1.0}, "b": {}}])
def test_no_method_or_one_without_values_is_refused(values):
    with pytest.raises(ValueError, match="at least one value each"):
        against_best(values)
