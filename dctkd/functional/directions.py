"""Directions of vectors: vectors divided by their length."""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd.functional.precision import widen

ZERO_LENGTH = 1e-12
"""A vector this short has no direction: its square, 1e-24, is still exact enough in float32 to divide by."""


def unit_vectors(x: Tensor, *, dim: int) -> Tensor:
    """Divide vectors by their Euclidean length; a vector of length 0 stays 0 and receives a zero gradient.

    `torch.nn.functional.normalize` gives the same values, but multiplies the gradient of a zero vector by 1e12.

    Args:
        x: Any shape, any float dtype.
        dim: Axis along which the vectors lie.

    Returns:
        Tensor of the same shape, float32 or wider, with vectors of length 1 or 0.

    Example:
        >>> unit_vectors(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), dim=1)
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    wide = widen(x)
    length = torch.linalg.vector_norm(wide, dim=dim, keepdim=True)
    is_zero = length.detach() <= ZERO_LENGTH
    # The length is replaced before the division: a mask after it would turn 0 * inf into NaN in the backward pass.
    unit: Tensor = (wide / length.masked_fill(is_zero, 1.0)).masked_fill(is_zero, 0.0)
    return unit
