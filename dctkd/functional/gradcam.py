"""Grad-CAM: which positions of a feature map speak for a class.

Shapes: B images, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.precision import outside_autocast, widen


@outside_autocast
def gradcam_maps(stages: Sequence[Tensor], logits_BK: Tensor, target_B: Tensor) -> tuple[Tensor, ...]:
    """Return the Grad-CAM maps of all stages from one backward pass, which frees the graph of the logits.

    A channel's weight is the mean over positions of the gradient of the target logit with respect to it; the map is
    the weighted sum of the channels, negative sums set to 0. It is not scaled. No parameter receives a gradient.

    The network must be in eval mode: the target logits of all images are differentiated together, and an image keeps
    to itself only as long as no layer mixes images, as BatchNorm does in training.

    Args:
        stages: Feature maps that the logits were computed from, each of shape (B, C, H, W), any float dtype; made
            under `torch.enable_grad`, with parameters or images that require a gradient.
        logits_BK: Class scores of the same forward pass, before softmax, shape (B, K).
        target_B: Class whose logit is explained, in [0, K), shape (B,), int64.

    Returns:
        Maps (B, H, W), one per stage, detached, >= 0, float32 (float64 for float64 features); unit of the logits. All
        zeros where no channel speaks for the class, also where its gradient vanishes.

    Raises:
        ValueError: If the shapes do not fit, a target is outside [0, K), or a stage is not part of the graph of the
            logits: a stage that the logits were not computed from is a mistake of the caller and not a blank map.

    Source:
        Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.

    Example:
        >>> feature_BCHW = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]], requires_grad=True)
        >>> pooled_BC = feature_BCHW.mean(dim=(2, 3))
        >>> logits_BK = torch.stack([2 * pooled_BC[:, 0] - 4 * pooled_BC[:, 1], pooled_BC[:, 1]], dim=1)
        >>> gradcam_maps([feature_BCHW], logits_BK, torch.tensor([0]))  # weights 2 / 2 and -4 / 2
        (tensor([[[0., 3.]]]),)
    """
    _check_inputs(stages, logits_BK, target_B)
    is_target_BK = F.one_hot(target_B, logits_BK.shape[1]).to(logits_BK)
    # The gradient of the sum of the target logits, without a sum that could overflow in half precision.
    gradients = torch.autograd.grad(logits_BK, stages, grad_outputs=is_target_BK, allow_unused=True)
    missing = [stage for stage, gradient in enumerate(gradients) if gradient is None]
    if missing:
        raise ValueError(f"the logits were not computed from the stages at {missing} (counted from 0)")
    return tuple(_weighted_sum(*pair) for pair in zip(stages, gradients, strict=True))


@torch.no_grad()
def _weighted_sum(feature_BCHW: Tensor, gradient_BCHW: Tensor) -> Tensor:
    weight_BC11 = widen(gradient_BCHW).mean(dim=(2, 3), keepdim=True)
    # Not a matrix product: TF32 would round it.
    return (weight_BC11 * feature_BCHW).sum(dim=1).relu()


def _check_inputs(stages: Sequence[Tensor], logits_BK: Tensor, target_B: Tensor) -> None:
    shapes = [tuple(stage.shape) for stage in stages]
    if logits_BK.ndim != 2 or target_B.shape != logits_BK.shape[:1]:
        got = f"{tuple(logits_BK.shape)} and {tuple(target_B.shape)}"
        raise ValueError(f"expected logits of shape (B, K) and targets of shape (B,), got {got}")
    if not shapes or any(len(shape) != 4 or shape[0] != len(logits_BK) for shape in shapes):
        raise ValueError(f"expected stages of shape (B, C, H, W) with B = {len(logits_BK)}, got the shapes {shapes}")
    if bool(((target_B < 0) | (target_B >= logits_BK.shape[1])).any()):
        raise ValueError(f"expected targets in 0 to {logits_BK.shape[1] - 1}, got {sorted(set(target_B.tolist()))}")
    without = [position for position, stage in enumerate(stages) if not stage.requires_grad]
    if without or not logits_BK.requires_grad:
        what = f"the stages at {without} (counted from 0)" if without else "the logits"
        raise ValueError(f"{what} have no graph: run the network under torch.enable_grad, on images that require one")
