"""Divergences between class scores.

Shapes: B images, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def kl_from_logits(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """Return the batch mean of T^2 * KL(teacher || student).

    Computed in float32 or wider, whatever the input dtype. The gradient reaches both inputs: detach the teacher.

    Args:
        student_BK: Student logits, shape (B, K), any float dtype.
        teacher_BK: Teacher logits, shape (B, K), on the same device.
        temperature: Softmax temperature T > 0, no unit; 1 gives the plain KL.

    Returns:
        0-d tensor in nats (times T^2); >= 0 up to rounding (about -1e-8 in float32); 0 when both softmax outputs agree.

    Raises:
        ValueError: If the shapes differ or are not (B, K), or the temperature is not positive.

    Source:
        Hinton et al. 2015, arXiv:1503.02531, section 2. Code that divides by B * K gives a value K times smaller.

    Example:
        >>> kl_from_logits(torch.zeros(1, 2), torch.zeros(1, 2), temperature=4.0)
        tensor(0.)
    """
    return kl_per_sample(student_BK, teacher_BK, temperature=temperature).mean()


def kl_per_sample(student_BK: Tensor, teacher_BK: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 * KL(teacher || student) of every sample; `kl_from_logits` is its mean.

    Args:
        student_BK: Student logits, shape (B, K), any float dtype.
        teacher_BK: Teacher logits, shape (B, K), on the same device.
        temperature: Softmax temperature T > 0, no unit; 1 gives the plain KL.

    Returns:
        Tensor of shape (B,), float32 or wider, in nats (times T^2).

    Raises:
        ValueError: If the shapes differ or are not (B, K), or the temperature is not positive.

    Example:
        >>> kl_per_sample(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [50.0, -50.0]]), temperature=1.0)
        tensor([0.0000, 0.6931])
    """
    if student_BK.dim() != 2 or student_BK.shape != teacher_BK.shape:
        shapes = f"{tuple(student_BK.shape)} and {tuple(teacher_BK.shape)}"
        raise ValueError(f"student and teacher logits must have one shape (B, K); got {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    log_student_BK = F.log_softmax(_widen(student_BK) / temperature, dim=1)
    log_teacher_BK = F.log_softmax(_widen(teacher_BK) / temperature, dim=1)
    divergence_BK = F.kl_div(log_student_BK, log_teacher_BK, reduction="none", log_target=True)
    return temperature**2 * divergence_BK.sum(dim=1)


def _widen(logits_BK: Tensor) -> Tensor:
    return logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))
