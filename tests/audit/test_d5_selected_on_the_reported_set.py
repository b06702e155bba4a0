"""D5: epoch and weight are chosen on the images whose accuracy is reported."""

import math

import pytest

from tests.audit.published import published


def of_weights(metric):
    weights = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.5, 2, 3, 5]
    values = (published(method=f"DCT alpha={weight:g}", metric=metric) for weight in weights)
    return {weight: float(value) for weight, (value,) in zip(weights, values, strict=True)}


def test_reported_weight_is_not_the_best_of_the_ablation():
    top1, mca = of_weights("Top1"), of_weights("MCA")
    assert (top1[1], max(top1, key=top1.get), max(top1.values())) == (47.35, 3, 48.43)
    assert (mca[1], max(mca, key=mca.get), max(mca.values())) == (13.11, 2, 14.80)


def test_one_accuracy_of_two_thousand_images_has_a_standard_error_as_large_as_the_gain():
    share = of_weights("Top1")[1] / 100
    assert 100 * math.sqrt(share * (1 - share) / 2000) == pytest.approx(1.12, abs=0.005)
    assert pytest.approx(1.08) == 48.43 - 47.35


def test_best_epoch_is_at_least_the_last_one_whatever_the_run():
    by_epoch = [40.0, 46.5, 47.35, 46.9]
    assert max(by_epoch) - by_epoch[-1] == pytest.approx(0.45)
