"""D2: only the mean is taken out of a map, and the norm is not divided by the map's size."""

import pytest
import torch

from dctkd.functional.fourier import real_dft2
from tests.audit.maps import distance, random_maps

SIZES = (56, 28, 14, 7)


def loss_by_stage():
    return [distance("dct_main", random_maps(n, 1), random_maps(n, 2)).mean().item() for n in SIZES]


def test_loss_of_random_maps_grows_with_their_size():
    assert loss_by_stage() == pytest.approx([12.1, 6.9, 4.1, 2.6], abs=0.06)


def test_first_stage_has_nearly_half_of_the_loss_and_the_last_a_tenth():
    losses = loss_by_stage()
    assert [100 * loss / sum(losses) for loss in losses] == pytest.approx([47, 27, 16, 10], abs=0.6)


def test_taking_out_the_mean_changes_one_frequency():
    maps = random_maps(14, 0, num_maps=3)
    without_mean = maps - maps.mean(dim=(1, 2), keepdim=True)
    has_changed = (real_dft2(maps) - real_dft2(without_mean)).abs() > 1e-9
    assert has_changed.nonzero().tolist() == [[image, 0, 0] for image in range(3)]
    assert torch.allclose(real_dft2(without_mean)[:, 0, 0], torch.zeros(3, dtype=torch.float64), atol=1e-9)
