"""Ranks and tests over blocks against the example of Demsar 2006, R's documentation and enumeration."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dctkd.report.statistics.ranking import complete_blocks, rank, signed_rank

# Demsar 2006, JMLR 7, table 6: ranks of four variants of C4.5 on 14 datasets, with their published means.
DEMSAR_RANKS = pd.DataFrame(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
    index=[f"dataset{i}" for i in range(14)],
)
PUBLISHED_MEAN_RANKS = {"C4.5+m+cf": 1.964, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5": 3.143}
# Table 2 of the same paper: AUC of C4.5+m minus AUC of C4.5.
DEMSAR_DIFFERENCES = [0.005, -0.008, 0.017, 0.033, 0.006, -0.005, 0.007, 0, 0.063, 0, 0.022, 0.047, 0.009, 0.021]

# Hollander and Wolfe 1973, Hamilton depression scale, as in R's example of wilcox.test.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]

NAN = math.nan


def _enumerated_p(differences):
    """Two-sided p of the rank sum over all choices of signs, from the definition."""
    ranks = stats.rankdata(np.abs(differences))
    observed = ranks[np.array(differences) > 0].sum()
    sums = np.array([ranks @ signs for signs in itertools.product([0, 1], repeat=len(ranks))])
    return min(1.0, 2 * min((sums >= observed).mean(), (sums <= observed).mean()))


def test_mean_ranks_are_demsars_and_best_comes_first():
    ranking = rank(-DEMSAR_RANKS)
    assert ranking.mean_rank == pytest.approx(PUBLISHED_MEAN_RANKS, abs=5e-4)
    assert list(ranking.mean_rank) == list(PUBLISHED_MEAN_RANKS)


def test_friedman_is_demsars_once_corrected_for_ties():
    # Published without the correction: 9.28. Ties: three pairs (2^3 - 2) and a group of four (4^3 - 4), 14 (4^3 - 4).
    ranking = rank(-DEMSAR_RANKS)
    assert ranking.friedman_chi2 * (1 - (3 * 6 + 60) / (14 * 60)) == pytest.approx(9.28, abs=5e-3)
    assert ranking.friedman_p == pytest.approx(stats.chi2.sf(ranking.friedman_chi2, df=3), rel=1e-9)


def test_critical_difference_is_demsars():
    assert rank(-DEMSAR_RANKS).critical_difference == pytest.approx(1.25, abs=5e-3)


@pytest.mark.parametrize(("num_methods", "quantile"), [(3, 2.343), (6, 2.850), (10, 3.164)])
def test_critical_difference_has_the_quantile_of_demsars_table_5(num_methods, quantile):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(5, num_methods)))
    expected = quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * 5))
    assert rank(frame).critical_difference == pytest.approx(expected, abs=2e-3)


def test_nemenyi_p_is_below_5_percent_exactly_beyond_the_critical_difference():
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(9, 6)) + np.arange(6) / 3, columns=list("abcdef"))
    ranking = rank(frame)
    is_beyond = {
        (a, b): abs(ranking.mean_rank[a] - ranking.mean_rank[b]) > ranking.critical_difference
        for a, b in itertools.combinations("abcdef", 2)
    }
    assert {True, False} == set(is_beyond.values())
    assert {pair: ranking.nemenyi_p.loc[pair] < 0.05 for pair in is_beyond} == is_beyond


def test_adding_a_constant_to_a_block_changes_no_rank():
    shifted = (-DEMSAR_RANKS).add(np.arange(14) * 10.0, axis=0)
    assert rank(shifted).mean_rank == rank(-DEMSAR_RANKS).mean_rank


def test_values_that_differ_by_rounding_are_ties():
    means = pd.DataFrame({"a": [(60.0 + 60.1 + 60.3) / 3] * 2, "b": [(60.3 + 60.1 + 60.0) / 3] * 2, "c": [50.0] * 2})
    assert means["a"][0] != means["b"][0]
    assert rank(means).mean_rank == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_equal_methods_have_p_1():
    ranking = rank(pd.DataFrame(50, index=["x", "y"], columns=list("abc")))
    assert (ranking.friedman_chi2, ranking.friedman_p, ranking.nemenyi_p.to_numpy().min()) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(("num_blocks", "is_able"), [(2, False), (3, True)])
def test_two_blocks_cannot_separate_any_methods(num_blocks, is_able):
    frame = pd.DataFrame([[3.0, 2.0, 1.0]] * num_blocks)
    assert rank(frame).is_able_to_separate is is_able
    assert bool(rank(frame).nemenyi_p.to_numpy().min() < 0.05) is is_able


@pytest.mark.parametrize("shape", [(1, 3), (2, 2)])
def test_ranking_of_one_block_or_two_methods_is_refused(shape):
    with pytest.raises(ValueError, match="at least 2 blocks and 3 methods"):
        rank(pd.DataFrame(np.zeros(shape)))


def test_ranking_with_a_missing_value_is_refused():
    with pytest.raises(ValueError, match="call complete_blocks first"):
        rank(pd.DataFrame([[1.0, 2.0, NAN], [1.0, 2.0, 3.0]]))


def test_signed_rank_is_rs_example():
    # R: wilcox.test(x, y, paired = TRUE) gives V = 40, two-sided p-value = 0.03906.
    test = signed_rank(a - b for a, b in zip(BEFORE, AFTER, strict=True))
    assert test.p == pytest.approx(0.03906, abs=5e-6)


def test_signed_rank_with_ties_and_zeros_is_exact_over_the_blocks_with_a_difference():
    test = signed_rank(DEMSAR_DIFFERENCES)
    assert test.p == pytest.approx(_enumerated_p([d for d in DEMSAR_DIFFERENCES if d]), rel=1e-12)
    assert (test.num_blocks, test.least_p) == (14, 2 / 2**12)


def test_signed_rank_of_differences_of_one_sign_is_the_least_p():
    assert signed_rank([0.1, 0.1, 0.1, 0.1, 0.1, 0.3, 0.2]).p == signed_rank(range(1, 8)).least_p == 2 / 2**7


def test_signed_rank_of_opposite_differences_is_the_same():
    assert signed_rank(DEMSAR_DIFFERENCES).p == signed_rank(-d for d in DEMSAR_DIFFERENCES).p


def test_signed_rank_takes_many_blocks_with_ties():
    many = [1.0, 2.0, -1.0, 3.0, 2.0] * 4
    assert signed_rank(many).p == pytest.approx(stats.wilcoxon(many, method="asymptotic").pvalue)


def test_mean_difference_counts_blocks_without_a_difference():
    assert signed_rank([0.0, 3.0]).mean_difference == 1.5


def test_few_blocks_have_no_test_and_say_why():
    test = signed_rank([0.5, 1.0, 0.2])
    assert (test.p, test.least_p, test.reason) == (None, 0.25, "3 blocks: the least p is 0.25, no test")


def test_blocks_without_a_difference_do_not_help_to_reach_a_test():
    test = signed_rank([0.5, 1.0, 0.2, 0.3, 0.4, 70.3 - 70.2 - 0.1])
    assert (test.p, test.reason) == (None, "5 blocks with a difference: the least p is 0.0625, no test")


def test_no_difference_in_any_block_has_p_1():
    assert (signed_rank([0.0, 0.0]).p, signed_rank([0.0, 0.0]).reason) == (1.0, None)


@pytest.mark.parametrize("differences", [[], [1.0, NAN]])
def test_no_difference_or_one_that_is_not_finite_is_refused(differences):
    with pytest.raises(ValueError, match="at least one difference"):
        signed_rank(differences)


def test_method_without_values_costs_no_block():
    frame = pd.DataFrame({"kd": [70.0, 61.0], "crd": [NAN, NAN]}, index=["x", "y"])
    complete, words = complete_blocks(frame)
    assert (list(complete.columns), list(complete.index)) == (["kd"], ["x", "y"])
    assert words == ("Method crd is left out: it has no value in any block.",)


def test_block_that_misses_values_is_dropped_and_named():
    index = pd.MultiIndex.from_tuples([("cifar100", "resnet56-resnet20"), ("cub200", "resnet50-resnet18")])
    frame = pd.DataFrame({"kd": [70.0, 61.0], "crd": [71.0, NAN], "dkd": [72.0, NAN]}, index=index)
    complete, words = complete_blocks(frame)
    assert list(complete.index) == [("cifar100", "resnet56-resnet20")]
    assert words == ("Block cub200 / resnet50-resnet18 is left out: it misses crd, dkd.",)


def test_complete_frame_stays_as_it_is():
    complete, words = complete_blocks(DEMSAR_RANKS)
    pd.testing.assert_frame_equal(complete, DEMSAR_RANKS)
    assert words == ()


def test_no_complete_block_leaves_an_empty_frame():
    complete, words = complete_blocks(pd.DataFrame({"a": [1.0, NAN], "b": [NAN, 1.0]}, index=["x", "y"]))
    assert complete.shape == (0, 2)
    assert len(words) == 2
