"""Activation maps that the audit's tests compare, and the distance that a method's spectrum gives them."""

import torch

from dctkd.methods import METHODS


def random_maps(size, seed, num_maps=400):
    """Return maps of independent uniform numbers, float64."""
    return torch.rand(num_maps, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reflected(map_BHW):
    """Return x[-i mod H, -j mod W]: the map reflected through its origin."""
    return map_BHW.flip(1, 2).roll((1, 1), dims=(1, 2))


def blob(row, column, size=14):
    """Return a Gaussian spot, exp(-distance^2 / 4)."""
    position_N = torch.arange(size, dtype=torch.float64)
    rows_N, columns_N = (torch.exp(-((position_N - centre) ** 2) / 4) for centre in (row, column))
    return torch.outer(rows_N, columns_N).unsqueeze(0)


def distance(method, first_BHW, second_BHW):
    """Return the loss of one stage per image: the L2 norm of the difference of the method's spectra."""
    spectrum = METHODS[method].spectrum
    return torch.linalg.vector_norm(spectrum(first_BHW) - spectrum(second_BHW), dim=(1, 2))
