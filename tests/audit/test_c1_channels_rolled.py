"""C1: the shift of the spectrum also moves the channels, and the shift back moves them back exactly."""

import pytest
import torch


def shifted(x_BCHW):
    """Roll axes 1 to 3 so that the origin comes to int(size / 2)."""
    return torch.roll(x_BCHW, [-((size + 1) // 2) for size in x_BCHW.shape[1:]], dims=(1, 2, 3))


def shifted_back(x_BCHW):
    return torch.roll(x_BCHW, [-(size // 2) for size in x_BCHW.shape[1:]], dims=(1, 2, 3))


@pytest.mark.parametrize("shape", [(4, 8, 8), (5, 7, 7), (3, 14, 14), (64, 56, 56), (1, 1, 1)])
def test_shift_back_undoes_the_shift(shape):
    x_BCHW = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(shifted_back(shifted(x_BCHW)), x_BCHW)


def test_channels_are_moved_in_between():
    x_BCHW = torch.arange(4.0).view(1, 4, 1, 1)
    assert shifted(x_BCHW).flatten().tolist() == [2.0, 3.0, 0.0, 1.0]


def test_a_mask_that_is_the_same_for_all_channels_gives_the_same_with_and_without_that_move():
    x_BCHW = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    mask_HW = torch.ones(8, 8)
    mask_HW[3:5, 3:5] = 0.0
    alone = torch.fft.ifftshift(torch.fft.fftshift(x_BCHW, dim=(2, 3)) * mask_HW, dim=(2, 3))
    assert torch.equal(shifted_back(shifted(x_BCHW) * mask_HW), alone)
