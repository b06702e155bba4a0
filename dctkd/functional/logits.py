"""Divergences and correlations between class scores.

Shapes: B images, K classes, R rows of N numbers each.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.distances import safe_sqrt
from dctkd.functional.precision import widen

STANDARDISE_EPSILON = 1e-7
"""Added to the standard deviation of logits before they are divided by it (release of Sun et al. 2024)."""
CORRELATION_EPSILON = 1e-8
"""Added to the product of two norms before a correlation is divided by it (release of Huang et al. 2022)."""


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
    _require_logits(student_BK, teacher_BK, temperature)
    log_student_BK = F.log_softmax(widen(student_BK) / temperature, dim=1)
    log_teacher_BK = F.log_softmax(widen(teacher_BK) / temperature, dim=1)
    divergence_BK = F.kl_div(log_student_BK, log_teacher_BK, reduction="none", log_target=True)
    return temperature**2 * divergence_BK.sum(dim=1)


def decoupled_kl_per_sample(
    student_BK: Tensor, teacher_BK: Tensor, target_B: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the two parts of the KL of `kl_per_sample`: on the target class, and among the other classes.

    With p the softmax of logits / T and t the target, T^2 KL = target part + (1 - p_t of the teacher) * other part.
    The log of 1 - p_t is a logsumexp over the other classes minus one over all, so that a confident network (p_t
    rounds to 1) gives no log of 0. The target is left out of the other classes exactly, however large the logits are.

    Args:
        student_BK: Student logits, shape (B, K) with K >= 2, any float dtype.
        teacher_BK: Teacher logits, shape (B, K), on the same device.
        target_B: Labels, shape (B,), integer, from 0 to K - 1.
        temperature: Softmax temperature T > 0, no unit.

    Returns:
        Two tensors of shape (B,), float32 or wider, in nats (times T^2): the KL between (p_t, 1 - p_t) of teacher and
        student (TCKD in the paper), and the KL between their softmaxes over the other classes (NCKD), which is 0 for
        two classes.

    Raises:
        ValueError: If the shapes differ or are not (B, K), K is less than 2, there is not one target per sample, or
            the temperature is not positive.

    Source:
        Zhao et al. 2022, arXiv:2203.08679, section 3.1 (the reformulation of KD).

    Example:
        >>> student_BK, teacher_BK = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 5.0]])
        >>> target_part_B, other_part_B = decoupled_kl_per_sample(
        ...     student_BK, teacher_BK, torch.tensor([0]), temperature=1.0
        ... )
        >>> other_part_B  # (0.5, 0.5) against (0.0067, 0.9933).
        tensor([0.6530])
    """
    _require_logits(student_BK, teacher_BK, temperature)
    batch_size, num_classes = student_BK.shape
    if num_classes < 2 or target_B.shape != (batch_size,):
        shapes = f"logits {tuple(student_BK.shape)}, targets {tuple(target_B.shape)}"
        raise ValueError(f"expected logits (B, K) of at least two classes and targets (B,); got {shapes}")
    is_target_BK = target_B.unsqueeze(1) == torch.arange(num_classes, device=target_B.device)
    student_parts, teacher_parts = (
        _log_probability_parts(widen(logits_BK) / temperature, is_target_BK) for logits_BK in (student_BK, teacher_BK)
    )
    target_part_B, other_part_B = (
        temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
        for student, teacher in zip(student_parts, teacher_parts, strict=True)
    )
    return target_part_B, other_part_B


def standardise_logits(logits_BK: Tensor) -> Tensor:
    """Return (z - mean) / (std + 1e-7) of every sample: what is left is which classes stand out, not how far.

    The standard deviation is the population's. The released code takes the unbiased one, so that its standardised
    logits are sqrt((K - 1) / K) times these: the same as a temperature sqrt(K / (K - 1)) times as high.

    Constant logits become 0. There the gradient is finite, but up to 1e7 times the incoming one.

    Args:
        logits_BK: Logits, shape (B, K), any float dtype.

    Returns:
        Tensor of shape (B, K), float32 or wider, no unit: mean 0 and, unless constant, standard deviation 1.

    Raises:
        ValueError: If the shape is not (B, K).

    Source:
        Sun et al. 2024, arXiv:2403.01427 (Z-score; the base temperature is left to the loss).

    Example:
        >>> standardise_logits(torch.tensor([[1.0, 3.0], [5.0, 5.0]]))
        tensor([[-1.0000,  1.0000],
                [ 0.0000,  0.0000]])
    """
    if logits_BK.dim() != 2:
        raise ValueError(f"expected logits of shape (B, K), got {tuple(logits_BK.shape)}")
    wide_BK = widen(logits_BK)
    centred_BK = wide_BK - wide_BK.mean(dim=1, keepdim=True)
    return centred_BK / (safe_sqrt(centred_BK.square().mean(dim=1, keepdim=True)) + STANDARDISE_EPSILON)


def correlation_per_row(student_RN: Tensor, teacher_RN: Tensor, weight_N: Tensor | None = None) -> Tensor:
    """Return Pearson's correlation between each row of the student and the same row of the teacher.

    The product of the norms of the two centred rows gets 1e-8 added before the division: the correlation of a
    constant row is 0 with a finite gradient, and rows whose centred norms are far below 1e-4 count as uncorrelated.

    Args:
        student_RN: Shape (R, N), any float dtype.
        teacher_RN: Same shape.
        weight_N: Weight of each column in the means, norms and products, shape (N,), >= 0; None means 1 for all.
            Weights that are all 0 give correlation 0.

    Returns:
        Tensor of shape (R,), float32 or wider, in [-1, 1] up to rounding.

    Raises:
        ValueError: If the shapes differ or are not (R, N), or there is not one weight per column.

    Source:
        Huang et al. 2022, arXiv:2205.10536 (Pearson's coefficient, of which their distance is 1 minus).

    Example:
        >>> student_RN = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
        >>> correlation_per_row(student_RN, torch.tensor([[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]))
        tensor([ 1.0000, -1.0000,  0.0000])
    """
    if student_RN.dim() != 2 or student_RN.shape != teacher_RN.shape:
        shapes = f"{tuple(student_RN.shape)} and {tuple(teacher_RN.shape)}"
        raise ValueError(f"student and teacher must have one shape (R, N); got {shapes}")
    if weight_N is None:
        weight_N = torch.ones(student_RN.shape[1], device=student_RN.device)
    if weight_N.shape != student_RN.shape[1:]:
        shapes = f"{tuple(weight_N.shape)} for rows {tuple(student_RN.shape)}"
        raise ValueError(f"expected one weight per column, got {shapes}")
    student_RN, teacher_RN = (_centred(widen(rows_RN), widen(weight_N)) for rows_RN in (student_RN, teacher_RN))
    norms_R = torch.linalg.vector_norm(student_RN, dim=1) * torch.linalg.vector_norm(teacher_RN, dim=1)
    correlation_R: Tensor = (student_RN * teacher_RN).sum(dim=1) / (norms_R + CORRELATION_EPSILON)
    return correlation_R


def _require_logits(student_BK: Tensor, teacher_BK: Tensor, temperature: float) -> None:
    if student_BK.dim() != 2 or student_BK.shape != teacher_BK.shape:
        shapes = f"{tuple(student_BK.shape)} and {tuple(teacher_BK.shape)}"
        raise ValueError(f"student and teacher logits must have one shape (B, K); got {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")


def _log_probability_parts(scaled_BK: Tensor, is_target_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Return log (p_t, 1 - p_t), shape (B, 2), and log p among the other classes, shape (B, K), 0 at the target."""
    log_all_BK = F.log_softmax(scaled_BK, dim=1)
    log_target_B = log_all_BK.masked_fill(~is_target_BK, 0.0).sum(dim=1)
    log_rest_B = log_all_BK.masked_fill(is_target_BK, -torch.inf).logsumexp(dim=1)
    log_other_BK = F.log_softmax(scaled_BK.masked_fill(is_target_BK, -torch.inf), dim=1)
    # Filled a second time: the difference of two -inf at the target would be NaN.
    return torch.stack([log_target_B, log_rest_B], dim=1), log_other_BK.masked_fill(is_target_BK, 0.0)


def _centred(rows_RN: Tensor, weight_N: Tensor) -> Tensor:
    """Return each row minus its weighted mean, times the root of the weights: plain products are then weighted."""
    total = weight_N.sum().clamp_min(torch.finfo(torch.float32).tiny)  # Weights may all be 0.
    return (rows_RN - (rows_RN * weight_N).sum(dim=1, keepdim=True) / total) * weight_N.sqrt()
