"""Losses that compare how the samples of a batch relate to each other, one value per anchor sample.

The features of student and teacher may have different widths: only relations within one network are compared. Every
function returns one value per anchor, the sample whose relations a row holds; the published loss is the mean over
anchors.

Shapes: B images, D and E features of student and teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dctkd.functional.directions import ZERO_LENGTH, unit_vectors
from dctkd.functional.precision import outside_autocast, widen

PROBABILITY_FLOOR = 1e-7
"""Added to both probabilities before their quotient is taken, as in the released code of PKT."""


@outside_autocast
def distance_relation_per_anchor(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """Compare the Euclidean distances within the batch, each network's divided by its own mean distance.

    The mean is taken over the distances that are not 0, so that neither the diagonal nor copies of a sample count; a
    batch whose samples are all equal has no such mean, and all its distances stay 0. The gradient passes through the
    mean, and is 0 for the distance between equal samples.

    Args:
        student_BD: Features of the student, shape (B, D), any float dtype.
        teacher_BE: Features of the teacher, shape (B, E).

    Returns:
        Tensor of shape (B,), float32 or wider, no unit: for each sample the mean over all B samples, itself included
        (with difference 0), of the Huber loss (delta 1) of the two scaled distances.

    Raises:
        ValueError: If the inputs are not two matrices with equally many rows.

    Source:
        Park et al. 2019, arXiv:1904.05068, section 3.2.1; the mean over B * B is that of the released code.

    Example:
        >>> distance_relation_per_anchor(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [5.0], [10.0]]))
        tensor([0., 0., 0.])
    """
    _require_rows(student_BD, teacher_BE)
    student_BB, teacher_BB = _scaled_distances(student_BD), _scaled_distances(teacher_BE)
    return F.smooth_l1_loss(student_BB, teacher_BB, reduction="none").mean(dim=1)


@outside_autocast
def angle_relation_per_anchor(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """Compare the cosines of the angles that all pairs of samples span at an anchor sample.

    The cosine at anchor i of samples j and k is that of the angle between f_j - f_i and f_k - f_i. It is 0 where one
    of them coincides with the anchor (closer than 1e-12), and so is its gradient. Needs memory for a few times
    B * B * max(B, D, E) numbers.

    Args:
        student_BD: Features of the student, shape (B, D), any float dtype.
        teacher_BE: Features of the teacher, shape (B, E).

    Returns:
        Tensor of shape (B,), float32 or wider, no unit: for each anchor the mean over all B * B pairs (j, k) of the
        Huber loss (delta 1) of the two cosines.

    Raises:
        ValueError: If the inputs are not two matrices with equally many rows.

    Source:
        Park et al. 2019, arXiv:1904.05068, section 3.2.2; the mean over B * B * B is that of the released code.

    Example:
        >>> corner, line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0], [2.0]])
        >>> angle_relation_per_anchor(corner, line)[0]  # At the first, 90 and 0 degrees: 2 of 9 pairs differ by 1.
        tensor(0.1111)
    """
    _require_rows(student_BD, teacher_BE)
    student_BBB, teacher_BBB = _cosines_at_anchor(student_BD), _cosines_at_anchor(teacher_BE)
    return F.smooth_l1_loss(student_BBB, teacher_BBB, reduction="none").mean(dim=(1, 2))


@outside_autocast
def similarity_difference_per_anchor(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """Compare the similarities of each sample to all others: rows of the Gram matrix, divided by their length.

    The mean over anchors is the squared Frobenius norm of the difference over B * B. It falls like 1 / B: a batch
    that holds everything twice gives half the value.

    Args:
        student_BD: Features of the student, shape (B, D), any float dtype.
        teacher_BE: Features of the teacher, shape (B, E).

    Returns:
        Tensor of shape (B,), float32 or wider, no unit: for each sample the sum over the B samples of the squared
        difference, divided by B. A sample without features has a row of zeros, with gradient 0.

    Raises:
        ValueError: If the inputs are not two matrices with equally many rows.

    Source:
        Tung and Mori 2019, arXiv:1907.09682, section 3.

    Example:
        >>> similarity_difference_per_anchor(torch.eye(2), torch.ones(2, 1))  # (1 - 0.71)^2 + 0.71^2, halved
        tensor([0.2929, 0.2929])
    """
    _require_rows(student_BD, teacher_BE)
    student_BB, teacher_BB = (unit_vectors(x @ x.T, dim=1) for x in (widen(student_BD), widen(teacher_BE)))
    return (student_BB - teacher_BB).square().mean(dim=1)


@outside_autocast
def similarity_divergence_per_anchor(student_BD: Tensor, teacher_BE: Tensor) -> Tensor:
    """Return KL(teacher || student) / B between the probabilities with which a sample picks its neighbours.

    The probability of picking sample j from sample i is proportional to (1 + cosine of their features) / 2, over all
    B samples, i itself included. The division by B makes the value fall like 1 / B: a batch that holds everything
    twice gives half of it. Features that are all 0 have cosine 0 with everything and gradient 0.

    Args:
        student_BD: Features of the student, shape (B, D), any float dtype.
        teacher_BE: Features of the teacher, shape (B, E).

    Returns:
        Tensor of shape (B,), float32 or wider, in nats over B: for each sample the mean over all B samples of
        p log((p + 1e-7) / (q + 1e-7)), p the teacher's probability, q the student's; >= 0 up to about 1e-6.

    Raises:
        ValueError: If the inputs are not two matrices with equally many rows.

    Source:
        Passalis and Tefas 2018, arXiv:1803.10837, section 3, with the cosine kernel.

    Example:
        >>> similarity_divergence_per_anchor(torch.eye(2), torch.ones(2, 1))  # log(9 / 8) / 2, halved
        tensor([0.0294, 0.0294])
    """
    _require_rows(student_BD, teacher_BE)
    student_BB, teacher_BB = _neighbour_probabilities(student_BD), _neighbour_probabilities(teacher_BE)
    log_quotient_BB = (teacher_BB + PROBABILITY_FLOOR).log() - (student_BB + PROBABILITY_FLOOR).log()
    return (teacher_BB * log_quotient_BB).mean(dim=1)


def _require_rows(student_BD: Tensor, teacher_BE: Tensor) -> None:
    if student_BD.dim() != 2 or teacher_BE.dim() != 2 or len(student_BD) != len(teacher_BE):
        shapes = f"{tuple(student_BD.shape)} and {tuple(teacher_BE.shape)}"
        raise ValueError(f"expected features of shapes (B, D) and (B, E) with one batch size B, got {shapes}")


def _scaled_distances(feature_BD: Tensor) -> Tensor:
    wide_BD = widen(feature_BD)
    # From differences: the Gram matrix would leave rounding noise, with a huge gradient, where samples are equal.
    distance_BB = torch.cdist(wide_BD, wide_BD, compute_mode="donot_use_mm_for_euclid_dist")
    num_positive = (distance_BB.detach() > 0).sum()
    mean = distance_BB.sum() / num_positive.clamp_min(1)
    return distance_BB / torch.where(num_positive > 0, mean, torch.ones_like(mean))


def _cosines_at_anchor(feature_BD: Tensor) -> Tensor:
    wide_BD = widen(feature_BD)
    difference_BBD = wide_BD.unsqueeze(0) - wide_BD.unsqueeze(1)  # [i, j] = f_j - f_i
    product_BBB = difference_BBD @ difference_BBD.mT
    square_BB = product_BBB.diagonal(dim1=1, dim2=2)
    coincide_BB = square_BB.detach() <= ZERO_LENGTH**2
    # Replaced before the root, masked after it: neither value nor gradient of a pair without direction is kept.
    inverse_BB = square_BB.masked_fill(coincide_BB, 1.0).rsqrt().masked_fill(coincide_BB, 0.0)
    return product_BBB * inverse_BB.unsqueeze(1) * inverse_BB.unsqueeze(2)


def _neighbour_probabilities(feature_BD: Tensor) -> Tensor:
    unit_BD = unit_vectors(feature_BD, dim=1)
    affinity_BB = ((1.0 + unit_BD @ unit_BD.T) / 2.0).clamp_min(0.0)  # Rounding may carry a cosine below -1.
    return affinity_BB / affinity_BB.sum(dim=1, keepdim=True)
