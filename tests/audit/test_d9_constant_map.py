"""D9: scaling without a floor makes NaN of a constant map, and the norm has no gradient where the spectra agree."""

import numpy as np
import pytest
import torch

from dctkd.functional.attention import minmax_normalise
from tests.audit.maps import distance


def main_scaling(x_HW):
    with np.errstate(invalid="ignore"):
        return (x_HW - x_HW.min()) / (x_HW.max() - x_HW.min())


def submission_scaling(x_HW):
    with np.errstate(invalid="ignore"):
        return (x_HW - x_HW.min()) / x_HW.max()


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_constant_map_is_nan_on_the_main_branch(value):
    assert np.isnan(main_scaling(np.full((7, 7), value))).all()


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_the_spectrum_of_a_constant_map_is_nan_in_the_submission(value):
    scaled = submission_scaling(np.full((7, 7), value))
    spectrum = np.abs(np.fft.fft2(scaled - scaled.mean()).real)
    assert np.isnan(submission_scaling(spectrum)).all()


def test_one_such_image_makes_the_mean_of_a_batch_nan_even_where_the_teacher_is_wrong():
    loss_B, is_teacher_right_B = np.array([0.5, np.nan, 0.7]), np.array([1.0, 0.0, 1.0])
    assert np.isnan((loss_B * is_teacher_right_B).mean())


def test_gradient_of_the_released_norm_is_nan_at_zero_distance():
    x_N = torch.zeros(4, requires_grad=True)
    x_N.pow(2).sum().sqrt().backward()
    assert x_N.grad.isnan().all()


@pytest.mark.parametrize("method", ["dct", "dct_main", "dct_release"])
def test_here_a_constant_map_is_finite(method):
    maps = torch.ones(1, 7, 7)
    assert minmax_normalise(maps).eq(0).all()
    assert distance(method, maps, maps).item() == 0.0
