"""C3: the removed window is not symmetric about frequency 0, and the real part halves what it should remove."""

import pytest
import torch

from dctkd.functional.fourier import high_pass_mask


def gain(size, row_frequency, column_frequency):
    """Return the amplitude that a cosine keeps: mask its spectrum as released, transform back, take the real part."""
    position_N = torch.arange(size, dtype=torch.float64)
    phase = row_frequency * position_N.unsqueeze(1) + column_frequency * position_N
    wave_HW = torch.cos(2 * torch.pi * phase / size)
    mask_HW = high_pass_mask(size, size, cutoff=0.1, kind="released")
    filtered_HW = torch.fft.ifft2(mask_HW * torch.fft.fft2(wave_HW)).real
    return ((filtered_HW * wave_HW).sum() / wave_HW.square().sum()).item()


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize(
    ("frequency", "expected"),
    [((0, 0), 0.0), ((0, 1), 0.5), ((1, 0), 0.5), ((1, 1), 0.5), ((1, -1), 1.0), ((0, 2), 1.0)],
)
def test_gain_of_a_filter_that_removes_minus_one_and_zero(size, frequency, expected):
    assert gain(size, *frequency) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("frequency", "expected"), [((0, 0), 0.0), ((0, 1), 0.0), ((1, -1), 0.0), ((0, 2), 0.5), ((2, -2), 1.0)]
)
def test_gain_of_a_filter_that_removes_minus_two_to_one(frequency, expected):
    assert gain(56, *frequency) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("size", "removed"), [(28, [-1, 0]), (32, [-1, 0]), (56, [-2, -1, 0, 1])])
def test_removed_frequencies(size, removed):
    row_N = high_pass_mask(size, size, cutoff=0.1, kind="released")[0]
    frequency_N = torch.fft.fftfreq(size, d=1 / size).round().int()
    assert sorted(frequency_N[row_N == 0].tolist()) == removed
