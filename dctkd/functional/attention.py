"""Activation maps: where a network looks, as one number per position, and how two of them are made comparable.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.precision import widen

CONSTANT_SPAN_FRACTION = 1e-6
"""A map whose max - min is at most this fraction of its largest magnitude is rounding noise and counts as constant."""
CONSTANT_SPAN_FLOOR = 1e-30
"""A map whose max - min is at most this counts as constant: the reciprocal of a smaller span could overflow float32."""


def activation_map(feature_BCHW: Tensor) -> Tensor:
    """Return the mean over channels of the squared features, at each position.

    Squares are summed in float32 or wider whatever the input dtype, also under autocast, without a float copy of the
    features. The gradient 2 F / C is exact everywhere, also where all channels are 0, and can be differentiated again.

    Args:
        feature_BCHW: Feature map of a stage, shape (B, C, H, W), any float dtype; channels_last is fastest.

    Returns:
        Map of shape (B, H, W), float32 (float64 for float64 input), >= 0.

    Raises:
        ValueError: If the input does not have four dimensions.

    Source:
        Zagoruyko and Komodakis 2017, arXiv:1612.03928, section 3.1, F_sum^2 divided by C.

    Example:
        >>> activation_map(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
        tensor([[[12.5000]]])
    """
    if feature_BCHW.dim() != 4:
        raise ValueError(f"expected a feature map of shape (B, C, H, W), got {tuple(feature_BCHW.shape)}")
    map_BHW: Tensor = _MeanOfSquares.apply(feature_BCHW)
    return map_BHW


def pool_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Bring two maps to one size: along each side, the larger is adaptively average-pooled to the smaller.

    Args:
        student: Maps or features of the student, shape (B, H, W) or (B, C, H, W).
        teacher: Those of the teacher, shape (B, H', W') or (B, C', H', W').

    Returns:
        Both with min(H, H') rows and min(W, W') columns; what has this size already is returned as it is.

    Raises:
        ValueError: If the inputs do not both have three or both four dimensions, or the batch sizes differ.

    Example:
        >>> student, teacher = pool_to_smaller(torch.arange(4.0).view(1, 2, 2), torch.ones(1, 1, 2))
        >>> student
        tensor([[[1., 2.]]])
    """
    if student.dim() not in (3, 4) or student.dim() != teacher.dim() or len(student) != len(teacher):
        shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        raise ValueError(f"expected two maps of shape (B, H, W) or (B, C, H, W) with one batch size, got {shapes}")
    height, width = (min(student.shape[side], teacher.shape[side]) for side in (-2, -1))
    return _pool(student, height, width), _pool(teacher, height, width)


def minmax_normalise(map_BHW: Tensor) -> Tensor:
    """Scale every map to [0, 1]: (map - min) / (max - min), each image by its own extremes.

    A constant map has no such scale: it becomes all zeros and receives a zero gradient. Constant means max - min <=
    max(1e-6 times the largest magnitude, 1e-30), so that rounding noise is never blown up. Above that the division is
    exact; no epsilon is added.

    Args:
        map_BHW: Maps, shape (B, H, W), any float dtype.

    Returns:
        Maps of shape (B, H, W), in [0, 1], float32 (float64 for float64 input).

    Raises:
        ValueError: If the input does not have three dimensions.

    Example:
        >>> minmax_normalise(torch.tensor([[[2.0, 4.0, 6.0]], [[5.0, 5.0, 5.0]]]))
        tensor([[[0.0000, 0.5000, 1.0000]],
        <BLANKLINE>
                [[0.0000, 0.0000, 0.0000]]])
    """
    wide_BHW, low_B11, high_B11 = _with_extremes(map_BHW)
    span_B11 = high_B11 - low_B11
    is_constant_B11 = _is_constant(low_B11, high_B11)
    # The span is replaced before the division: a mask after it would turn 0 * inf into NaN in the backward pass.
    scaled_BHW = (wide_BHW - low_B11) / span_B11.masked_fill(is_constant_B11, 1.0)
    return scaled_BHW.masked_fill(is_constant_B11, 0.0)


def shift_and_divide_by_max(map_BHW: Tensor) -> Tensor:
    """Return (map - min) / max of every map, with the maximum of the map before the shift, as P1's release does.

    The result reaches 1 only where the minimum is 0. A constant map (see `minmax_normalise`), or one whose maximum is
    not positive, becomes all zeros with a zero gradient.

    Args:
        map_BHW: Maps, shape (B, H, W), any float dtype.

    Returns:
        Maps of shape (B, H, W), float32 (float64 for float64 input).

    Raises:
        ValueError: If the input does not have three dimensions.

    Source:
        Distillation-Attention, branch dev, Distillation Zoo/DFTOurs.py, lines 65-95.

    Example:
        >>> shift_and_divide_by_max(torch.tensor([[[2.0, 4.0, 8.0]]]))
        tensor([[[0.0000, 0.2500, 0.7500]]])
    """
    wide_BHW, low_B11, high_B11 = _with_extremes(map_BHW)
    is_blank_B11 = _is_constant(low_B11, high_B11) | (high_B11.detach() <= 0)
    scaled_BHW = (wide_BHW - low_B11) / high_B11.masked_fill(is_blank_B11, 1.0)
    return scaled_BHW.masked_fill(is_blank_B11, 0.0)


def _with_extremes(map_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if map_BHW.dim() != 3:
        raise ValueError(f"expected maps of shape (B, H, W), got {tuple(map_BHW.shape)}")
    wide_BHW = widen(map_BHW)
    return wide_BHW, wide_BHW.amin(dim=(1, 2), keepdim=True), wide_BHW.amax(dim=(1, 2), keepdim=True)


def _is_constant(low_B11: Tensor, high_B11: Tensor) -> Tensor:
    low_B11, high_B11 = low_B11.detach(), high_B11.detach()
    magnitude_B11 = torch.maximum(low_B11.abs(), high_B11.abs())
    return high_B11 - low_B11 <= (CONSTANT_SPAN_FRACTION * magnitude_B11).clamp_min(CONSTANT_SPAN_FLOOR)


def _pool(map_BHW: Tensor, height: int, width: int) -> Tensor:
    if map_BHW.shape[-2:] == (height, width):
        return map_BHW
    return F.adaptive_avg_pool2d(map_BHW, (height, width))


class _MeanOfSquares(torch.autograd.Function):
    """Mean over channels of squares, without the float32 copy that autograd's own backward of a norm would make."""

    @staticmethod
    def forward(ctx: Any, feature_BCHW: Tensor) -> Tensor:
        ctx.save_for_backward(feature_BCHW)
        dtype = torch.promote_types(feature_BCHW.dtype, torch.float32)
        # Channels side by side in memory are summed in blocks, an order of magnitude more exactly than one by one.
        feature_BHWC = feature_BCHW.permute(0, 2, 3, 1).contiguous()
        # Autocast leaves a norm alone whose dtype is given: no cast of the features precedes it.
        norm_BHW: Tensor = torch.linalg.vector_norm(feature_BHWC, dim=3, dtype=dtype)
        return norm_BHW.square_().div_(feature_BCHW.shape[1])

    @staticmethod
    def backward(ctx: Any, grad_BHW: Tensor) -> Tensor:
        feature_BCHW: Tensor = ctx.saved_tensors[0]
        scale_BHW = grad_BHW * (2.0 / feature_BCHW.shape[1])
        # bfloat16 has float32's range: a small gradient is rounded, never lost. float16 is multiplied in float32.
        if feature_BCHW.dtype == torch.bfloat16:
            scale_BHW = scale_BHW.to(torch.bfloat16)
        return (feature_BCHW * scale_BHW.unsqueeze(1)).to(feature_BCHW.dtype)
