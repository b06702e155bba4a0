"""Distances between features of one shape, one value per sample.

Shapes: B images; any further axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd.functional.precision import widen


def mean_squared_error_per_sample(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared difference of every sample, averaged over all axes but the first.

    Its batch mean is the usual mean squared error, since every sample has equally many elements.

    Args:
        student: Shape (B, ...), any float dtype.
        teacher: Same shape.

    Returns:
        Tensor of shape (B,), float32 or wider, in squared units of the input.

    Raises:
        ValueError: If the shapes differ or there is no axis besides the batch.

    Example:
        >>> teacher = torch.tensor([[1.0, 4.0], [3.0, 1.0]])
        >>> mean_squared_error_per_sample(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), teacher)
        tensor([2., 5.])
    """
    if student.shape != teacher.shape or student.dim() < 2:
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"student and teacher must have one shape (B, ...); got {shapes}")
    return (widen(student) - widen(teacher)).square().flatten(1).mean(dim=1)


def safe_sqrt(x: Tensor) -> Tensor:
    """Return the square root, with gradient 0 instead of infinity where x is 0.

    Args:
        x: Any shape, float, >= 0.

    Example:
        >>> x = torch.tensor([0.0, 4.0], requires_grad=True)
        >>> safe_sqrt(x).sum().backward()
        >>> x.grad
        tensor([0.0000, 0.2500])
    """
    is_zero = x.detach() <= 0
    return torch.where(is_zero, torch.ones_like(x), x).sqrt().masked_fill(is_zero, 0.0)
