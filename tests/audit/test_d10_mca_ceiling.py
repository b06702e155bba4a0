"""D10: the mean over classes counts classes without test images as 0."""

import pytest
import torch

from dctkd.metrics.accuracy import Accuracy

NUM_CLASSES, NUM_PRESENT, NUM_IMAGES = 1055, 672, 2000


def perfect_run():
    target_B = torch.arange(NUM_IMAGES) % NUM_PRESENT
    accuracy = Accuracy(NUM_CLASSES)
    accuracy.update(torch.nn.functional.one_hot(target_B, NUM_CLASSES).float(), target_B, torch.arange(NUM_IMAGES))
    return {result.metric: result.value for result in accuracy.result()}


def test_perfect_predictions_reach_63_7_percent():
    found = perfect_run()
    assert found["top1_percent"] == found["mca_present_percent"] == 100.0
    assert found["mca_all_percent"] == pytest.approx(63.70, abs=0.005)


def test_over_the_classes_present_it_is_1_57_times_as_high():
    found = perfect_run()
    assert found["mca_present_percent"] / found["mca_all_percent"] == pytest.approx(1.570, abs=0.0005)


def test_fifteen_images_of_classes_that_are_never_trained_cost_at_most_three_quarters_of_a_point():
    assert 100 * 15 / NUM_IMAGES == 0.75
