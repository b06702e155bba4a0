"""Simulated experiments without any effect of the method: the tests err, and the intervals miss, as often as they say.

A value is block effect + seed effect (shared by all methods, as batches are) + noise of the run, in percent. Blocks
and seeds spread more than runs do, so that a test which forgets the pairing does not pass here.
"""

import math

import numpy as np
import pandas as pd
import pytest

from dctkd.report.statistics import bootstrap_accuracy, bootstrap_mean_class_accuracy, prediction_interval, summarise
from dctkd.report.statistics.pairwise import against_best, compare, holm, mcnemar
from dctkd.report.statistics.ranking import rank, signed_rank

pytestmark = pytest.mark.slow

NUM_EXPERIMENTS = 2000
NUM_BLOCKS = 9
NUM_SEEDS = 3
METHODS = ("baseline", "a", "b", "c", "d", "e")
OTHERS = METHODS[1:]
MEAN, BLOCK_SD, SEED_SD, RUN_SD = 60.0, 10.0, 1.0, 0.4

LEVEL = 0.05
# Three standard errors of a rate of 5 % in so many experiments: a right test fails here once in 700 seeds.
MOST = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / NUM_EXPERIMENTS)


@pytest.fixture(scope="module")
def values_EBMS():  # noqa: N802
    """Values by experiment, block, method and seed."""
    rng = np.random.default_rng(20240501)
    shape = (NUM_EXPERIMENTS, NUM_BLOCKS, len(METHODS), NUM_SEEDS)
    block = rng.normal(MEAN, BLOCK_SD, (*shape[:2], 1, 1))
    seed = rng.normal(0, SEED_SD, (*shape[:2], 1, NUM_SEEDS))
    return block + seed + rng.normal(0, RUN_SD, shape)


@pytest.fixture(scope="module")
def p_over_seeds(values_EBMS):
    """Uncorrected p of each other method against the baseline in the first block, by experiment."""
    return [
        {method: compare(runs[method], runs["baseline"]).p for method in OTHERS}
        for runs in map(_runs, values_EBMS[:, 0])
    ]


def _runs(values_MS):
    return {method: dict(enumerate(map(float, values_S))) for method, values_S in zip(METHODS, values_MS, strict=True)}


def _is_any_significant(p_values):
    return any(p is not None and p < LEVEL for p in p_values.values())


def _rate(outcomes):
    outcomes = list(outcomes)
    return sum(outcomes) / len(outcomes)


def _networks(accuracy_M, num_images, rng):
    """Whether each network is right, by image, shape (M, N): an image that one gets right, others rather do, too."""
    difficulty_N = rng.uniform(size=num_images)
    is_shared_N = rng.uniform(size=num_images) < 0.5
    own_MN = rng.uniform(size=(len(accuracy_M), num_images))
    return np.where(is_shared_N, difficulty_N, own_MN) < np.asarray(accuracy_M)[:, np.newaxis]


def _p_of_networks(is_right_MN):
    return {method: mcnemar(is_right_MN[i], is_right_MN[0]).p for i, method in enumerate(OTHERS, start=1)}


def test_without_correction_some_method_beats_the_baseline_far_too_often(p_over_seeds):
    # Proves that the simulation sees a missing correction.
    assert _rate(map(_is_any_significant, p_over_seeds)) > 2 * LEVEL


def test_paired_t_over_seeds_with_holm_errs_in_at_most_5_percent_of_tables(p_over_seeds):
    assert _rate(_is_any_significant(holm(p)) for p in p_over_seeds) <= MOST


def test_signed_rank_over_blocks_with_holm_errs_in_at_most_5_percent(values_EBMS):
    means_EMB = values_EBMS.mean(axis=3).transpose(0, 2, 1)
    assert (
        _rate(
            _is_any_significant(holm({m: signed_rank(means_MB[i] - means_MB[0]).p for i, m in enumerate(OTHERS, 1)}))
            for means_MB in means_EMB
        )
        <= MOST
    )


def test_mcnemar_with_holm_errs_in_at_most_5_percent_for_equally_good_networks():
    rng = np.random.default_rng(1)
    networks = (_networks([0.6] * len(METHODS), 500, rng) for _ in range(NUM_EXPERIMENTS))
    assert _rate(_is_any_significant(holm(_p_of_networks(is_right_MN))) for is_right_MN in networks) <= MOST


def test_mcnemar_takes_the_noise_of_training_for_an_effect_of_the_method():
    # Networks of equal methods differ by 2 percent from training to training: McNemar's test must not compare methods.
    rng = np.random.default_rng(2)
    accuracies = rng.normal(0.6, 0.02, (NUM_EXPERIMENTS, 2))
    networks = (_networks(accuracy_M, 2000, rng) for accuracy_M in accuracies)
    assert _rate(mcnemar(is_right_a, is_right_b).p < LEVEL for is_right_a, is_right_b in networks) > 4 * LEVEL


def test_some_method_is_distinguished_from_the_best_in_at_most_5_percent(values_EBMS):
    results = (against_best(_runs(values_MS)) for values_MS in values_EBMS[:, 0])
    assert _rate(result.indistinguishable != set(METHODS) for result in results) <= MOST


def test_without_correction_some_method_is_distinguished_from_the_best_far_too_often(values_EBMS):
    def is_any_distinguished(runs):
        best = max(runs, key=lambda method: sum(runs[method].values()))
        return _is_any_significant({m: compare(runs[best], runs[m]).p for m in METHODS if m != best})

    assert _rate(map(is_any_distinguished, map(_runs, values_EBMS[:, 0]))) > 4 * LEVEL


def test_correction_for_the_tests_against_the_chosen_best_alone_is_not_enough(values_EBMS):
    def is_any_distinguished(runs):
        best = max(runs, key=lambda method: sum(runs[method].values()))
        return _is_any_significant(holm({m: compare(runs[best], runs[m]).p for m in METHODS if m != best}))

    assert _rate(map(is_any_distinguished, map(_runs, values_EBMS[:, 0]))) > MOST


@pytest.fixture(scope="module")
def rankings(values_EBMS):
    return [rank(pd.DataFrame(means_BM, columns=METHODS)) for means_BM in values_EBMS.mean(axis=3)]


def test_friedman_errs_in_at_most_5_percent(rankings):
    assert _rate(ranking.friedman_p < LEVEL for ranking in rankings) <= MOST


def test_nemenyi_separates_some_pair_in_at_most_5_percent(rankings):
    assert _rate((ranking.nemenyi_p < LEVEL).any(axis=None) for ranking in rankings) <= MOST


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_interval_over_seeds_covers_the_true_mean(num_seeds):
    draws = np.random.default_rng(num_seeds).normal(MEAN, SEED_SD, (NUM_EXPERIMENTS, num_seeds))
    summaries = map(summarise, draws)
    assert 0.93 <= _rate(summary.ci_low <= MEAN <= summary.ci_high for summary in summaries) <= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_prediction_interval_covers_a_new_run(num_seeds):
    draws = np.random.default_rng(10 + num_seeds).normal(MEAN, SEED_SD, (NUM_EXPERIMENTS, num_seeds + 1))
    intervals = ((prediction_interval(runs[1:]), runs[0]) for runs in draws)
    assert 0.93 <= _rate(low <= new <= high for (low, high), new in intervals) <= 0.97


def test_interval_of_the_mean_misses_new_runs_far_too_often():
    draws = np.random.default_rng(13).normal(MEAN, SEED_SD, (NUM_EXPERIMENTS, NUM_SEEDS + 1))
    summaries = ((summarise(runs[1:]), runs[0]) for runs in draws)
    assert _rate(summary.ci_low <= new <= summary.ci_high for summary, new in summaries) < 0.93


def test_bootstrap_over_images_covers_the_accuracy_of_the_network():
    num_right = np.random.default_rng(4).binomial(1000, 0.6, NUM_EXPERIMENTS)
    summaries = (bootstrap_accuracy(int(count), 1000) for count in num_right)
    assert 0.93 <= _rate(summary.ci_low <= 60 <= summary.ci_high for summary in summaries) <= 0.97


def test_bootstrap_within_classes_covers_the_mean_class_accuracy():
    true_K, images_K = np.array([0.3, 0.5, 0.7, 0.9]), np.array([30, 40, 60, 80])
    right_EK = np.random.default_rng(5).binomial(images_K, true_K, (600, 4))
    summaries = (bootstrap_mean_class_accuracy(right_K, images_K) for right_K in right_EK)
    assert 0.93 <= _rate(summary.ci_low <= 60 <= summary.ci_high for summary in summaries) <= 0.97
