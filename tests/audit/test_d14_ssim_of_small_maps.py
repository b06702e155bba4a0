"""D14: SSIM with an 11 x 11 window and zeros around the map says how much padding two small maps share."""

import numpy as np
import pytest
import torch

from dctkd.metrics.overlap import ssim, ssim_release
from tests.audit.maps import random_maps

SIZES = (56, 28, 14, 7)


def share_outside(size):
    """Return the share of a window's cells that lie outside the map, averaged over the window's positions."""
    inside = [sum(0 <= centre + offset < size for offset in range(-5, 6)) / 11 for centre in range(size)]
    return 1 - (sum(inside) / size) ** 2


def test_share_of_padding_in_the_window():
    assert [100 * share_outside(size) for size in SIZES] == pytest.approx([9.5, 18.5, 35.2, 62.7], abs=0.05)


def test_unrelated_maps_look_the_more_alike_the_smaller_they_are():
    released = [ssim_release(random_maps(n, 1), random_maps(n, 2)).mean().item() for n in SIZES]
    assert released == pytest.approx([0.07, 0.14, 0.25, 0.44], abs=0.01)


def test_without_zeros_unrelated_maps_are_not_alike():
    for size in SIZES:
        assert abs(ssim(random_maps(size, 1), random_maps(size, 2)).mean().item()) < 0.03


def test_mean_over_no_image_is_nan():
    assert torch.empty(0).mean().isnan()


def test_batches_count_alike_however_many_images_the_teacher_gets_right():
    by_batch = [[0.9], [0.1, 0.1, 0.1]]
    meter = sum(256 * np.mean(batch) for batch in by_batch) / (256 * len(by_batch))
    assert meter == pytest.approx(0.5)
    assert np.mean(np.concatenate(by_batch)) == pytest.approx(0.3)
