"""D3: the meter averages batches and gives the last, shorter one the weight of a full one."""

import numpy as np
import pytest

from dctkd.report.attainability import examine
from dctkd.report.verdicts import released_top1_percent
from tests.audit.published import published

BATCH_SIZE = 256


@pytest.mark.parametrize(
    ("num_images", "num_last", "weight_percent", "share_percent"),
    [(2000, 208, 12.5, 10.4), (1340, 60, 16.67, 4.48), (19850, 138, 1.28, 0.70)],
)
def test_weight_of_the_last_batch(num_images, num_last, weight_percent, share_percent):
    is_right_N = np.arange(num_images) >= num_images - num_last
    assert num_images % BATCH_SIZE == num_last
    assert released_top1_percent(is_right_N, BATCH_SIZE) == pytest.approx(weight_percent, abs=0.005)
    assert 100 * is_right_N.mean() == pytest.approx(share_percent, abs=0.05)


@pytest.mark.parametrize(
    ("dataset", "num_images", "num_impossible", "num_values"), [("ADE20K", 2000, 34, 45), ("MIT67", 1340, 36, 39)]
)
def test_most_published_accuracies_are_not_a_number_of_images_but_all_can_be_the_meters(
    dataset, num_images, num_impossible, num_values
):
    values = published(table="README Results", dataset=dataset, metric="Top1")
    assert len(values) == num_values
    assert len(examine(values, num_images).impossible) == num_impossible
    assert examine(values, num_images, batch_size=BATCH_SIZE).impossible == ()
