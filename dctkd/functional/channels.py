"""Losses that compare the channels of two feature maps as sets, one value per image.

Shapes: B images, C and D channels of student and teacher, P positions.
"""

from __future__ import annotations

from torch import Tensor

from dctkd.functional.directions import unit_vectors
from dctkd.functional.precision import outside_autocast


@outside_autocast
def channel_discrepancy_per_sample(student_BCP: Tensor, teacher_BDP: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy between the channel maps of two networks.

    A channel map is a vector over positions, divided by its length; the kernel of two of them is (x . y)^2. With k
    the mean kernel over all pairs of channels, the value is k(t, t) + k(s, s) - 2 k(s, t). That equals the squared
    Frobenius distance between the (P, P) matrices that hold the mean over channels of x x^T, a form that never falls
    below 0. It is used where these matrices are the smaller ones, P <= max(C, D); else kernels of shapes (C, D),
    (C, C) and (D, D) are averaged.

    Args:
        student_BCP: Features of the student, shape (B, C, P), any float dtype.
        teacher_BDP: Features of the teacher, shape (B, D, P).

    Returns:
        Tensor of shape (B,), float32 or wider, no unit, in [0, 2] up to rounding (about -1e-7 where kernels are
        averaged). A channel that is 0 everywhere counts among the C or D, adds nothing and receives no gradient.

    Raises:
        ValueError: If the inputs do not have three axes each, or differ in batch size or number of positions.

    Source:
        Huang and Wang 2017, arXiv:1707.01219, section 4, polynomial kernel with d = 2 and c = 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[0.0, 3.0], [1.0, 0.0]]])
        >>> channel_discrepancy_per_sample(student, teacher)  # 1/2 + 1 - 2 * 1/2
        tensor([0.5000])
    """
    if (student_BCP.dim(), teacher_BDP.dim()) != (3, 3) or student_BCP.shape[::2] != teacher_BDP.shape[::2]:
        shapes = f"{tuple(student_BCP.shape)} and {tuple(teacher_BDP.shape)}"
        raise ValueError(f"expected features of shapes (B, C, P) and (B, D, P) with one B and one P, got {shapes}")
    num_student, num_teacher = student_BCP.shape[1], teacher_BDP.shape[1]
    student_BCP, teacher_BDP = unit_vectors(student_BCP, dim=2), unit_vectors(teacher_BDP, dim=2)
    if student_BCP.shape[2] <= max(num_student, num_teacher):
        student_BPP = student_BCP.mT @ student_BCP / num_student
        teacher_BPP = teacher_BDP.mT @ teacher_BDP / num_teacher
        return (student_BPP - teacher_BPP).square().sum(dim=(1, 2))
    return (
        _mean_kernel(teacher_BDP, teacher_BDP)
        + _mean_kernel(student_BCP, student_BCP)
        - 2.0 * _mean_kernel(student_BCP, teacher_BDP)
    )


def _mean_kernel(x_BCP: Tensor, y_BDP: Tensor) -> Tensor:
    return (x_BCP @ y_BDP.mT).square().mean(dim=(1, 2))
