"""C6: an inverse transform of the spectrum before the filter gives the features back, whatever the filter is."""

import pytest
import torch


def butterworth(size, cut_on=0.1, order=2):
    """Return the high-pass gain 1 / sqrt(1 + (cut_on / f)^(2 order)), f in cycles per position; 0 at f = 0."""
    frequency_N = torch.fft.fftfreq(size, dtype=torch.float64)
    radius_HW = torch.hypot(frequency_N.unsqueeze(1), frequency_N)
    return 1 / torch.sqrt(1 + (cut_on / radius_HW) ** (2 * order))


def features():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("use_filtered", [False, True])
def test_only_the_filtered_spectrum_changes_the_features(use_filtered):
    x_BCHW = features()
    unfiltered = torch.fft.fft2(x_BCHW, norm="ortho")
    filtered = butterworth(8) * unfiltered
    result = torch.fft.ifft2(filtered if use_filtered else unfiltered, norm="ortho").real
    assert torch.allclose(result, x_BCHW, rtol=0, atol=1e-12) is not use_filtered


def test_such_a_filter_would_remove_the_mean():
    filtered = torch.fft.ifft2(butterworth(8) * torch.fft.fft2(features())).real
    assert filtered.mean(dim=(2, 3)).abs().max().item() == pytest.approx(0.0, abs=1e-12)
