"""D1: the real part of a Fourier transform does not see a reflection of the map through its origin; a DCT does."""

import pytest
import torch

from tests.audit.maps import blob, distance, random_maps, reflected

RELEASED = ["dct_release", "dct_main"]


@pytest.mark.parametrize("size", [56, 28, 14, 7])
@pytest.mark.parametrize("method", RELEASED)
def test_released_loss_of_a_map_and_its_reflection_is_zero(method, size):
    maps = random_maps(size, 0)
    assert distance(method, maps, reflected(maps)).max().item() < 1e-11  # Rounding of float64.


@pytest.mark.parametrize(("size", "l2", "dct"), [(56, 22.8, 11.4), (28, 11.4, 6.5), (14, 5.6, 3.7), (7, 2.8, 2.3)])
def test_the_same_maps_are_far_apart_as_maps_and_for_a_dct(size, l2, dct):
    maps = random_maps(size, 0)
    as_maps = torch.linalg.vector_norm(maps - reflected(maps), dim=(1, 2)).mean().item()
    assert as_maps == pytest.approx(l2, abs=0.1)
    assert distance("dct", maps, reflected(maps)).mean().item() == pytest.approx(dct, abs=0.1)


@pytest.mark.parametrize(("method", "expected"), [("dct_release", 0.229), ("dct_main", 0.170), ("dct", 2.336)])
def test_spots_in_opposite_corners(method, expected):
    assert distance(method, blob(3, 3), blob(11, 11)).item() == pytest.approx(expected, abs=0.001)
