"""Hierarchical context loss: features compared as they are and again after pooling to coarser grids.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.precision import widen

GRID_SIDES = (4, 2, 1)
"""Sides of the coarser grids, in positions, in the order in which their weights halve."""


def hierarchical_error_per_sample(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Return the weighted mean of the squared errors of the full map and of its average-pooled grids.

    The full map has weight 1. Grids of 4x4, 2x2 and 1x1 positions follow with weights 1/2, 1/4 and 1/8; a grid whose
    side is not below the map's smaller side is left out, and the next one takes its weight. The sum is divided by the
    sum of the weights. Average pooling is linear, so the difference is pooled, once for both maps.

    Args:
        student_BCHW: Student features, shape (B, C, H, W), any float dtype.
        teacher_BCHW: Teacher features, same shape.

    Returns:
        Tensor of shape (B,), float32 or wider, in squared units of the features, >= 0: the mean over channels and
        positions of each grid.

    Raises:
        ValueError: If the shapes differ or are not (B, C, H, W).

    Source:
        Chen et al. 2021, arXiv:2104.09044, hierarchical context loss; the weights are those of the function hcl in
        https://github.com/dvlab-research/ReviewKD/blob/6607308a444e0b53650639f6b040515b3d665e05/CIFAR-100/model/reviewkd.py

    Example:
        >>> student_BCHW = torch.tensor([[3.0, 1.0], [1.0, -1.0]]).view(1, 1, 2, 2)
        >>> hierarchical_error_per_sample(student_BCHW, torch.zeros(1, 1, 2, 2))  # (3 + 1/2 * 1) / (1 + 1/2)
        tensor([2.3333])
    """
    if student_BCHW.dim() != 4 or student_BCHW.shape != teacher_BCHW.shape:
        shapes = f"{tuple(student_BCHW.shape)} and {tuple(teacher_BCHW.shape)}"
        raise ValueError(f"student and teacher must have one shape (B, C, H, W); got {shapes}")
    difference_BCHW = widen(student_BCHW) - widen(teacher_BCHW)
    sides = [side for side in GRID_SIDES if side < min(difference_BCHW.shape[-2:])]
    grids = [difference_BCHW, *(F.adaptive_avg_pool2d(difference_BCHW, side) for side in sides)]
    weights = [0.5**depth for depth in range(len(grids))]
    errors = [weight * grid.square().mean(dim=(1, 2, 3)) for weight, grid in zip(weights, grids, strict=True)]
    return torch.stack(errors).sum(dim=0) / sum(weights)
