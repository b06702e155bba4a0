"""The hierarchical error against NumPy loops in float64, and its limits."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.hierarchical import hierarchical_error_per_sample


def features(height, width, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, height, width, generator=generator, dtype=dtype)


def numpy_pool(map_CHW, side):
    """Adaptive average pooling by its definition: cell i covers floor(i n / side) to ceil((i + 1) n / side)."""
    _, height, width = map_CHW.shape
    pooled = np.zeros((len(map_CHW), side, side))
    for row, column in np.ndindex(side, side):
        rows = slice(row * height // side, math.ceil((row + 1) * height / side))
        columns = slice(column * width // side, math.ceil((column + 1) * width / side))
        pooled[:, row, column] = map_CHW[:, rows, columns].mean(axis=(1, 2))
    return pooled


def numpy_error(student_CHW, teacher_CHW, sides):
    errors = [((student_CHW - teacher_CHW) ** 2).mean()]
    errors += [((numpy_pool(student_CHW, side) - numpy_pool(teacher_CHW, side)) ** 2).mean() for side in sides]
    weights = [1, 1 / 2, 1 / 4, 1 / 8][: len(errors)]
    return np.dot(weights, errors) / np.sum(weights)


@pytest.mark.parametrize(
    ("height", "width", "sides"),
    [(8, 8, (4, 2, 1)), (7, 7, (4, 2, 1)), (4, 4, (2, 1)), (2, 2, (1,)), (1, 1, ()), (9, 4, (2, 1)), (2, 9, (1,))],
)
def test_hierarchical_error_matches_the_reference_formula(height, width, sides):
    student, teacher = features(height, width, 0), features(height, width, 1)
    expected = [
        numpy_error(s, t, sides) for s, t in zip(student.double().numpy(), teacher.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(hierarchical_error_per_sample(student, teacher).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_hierarchical_error_of_a_constant_difference_is_its_square_for_any_size(side):
    student_BCHW = features(side, side)
    error_B = hierarchical_error_per_sample(student_BCHW, student_BCHW + 3.0)
    torch.testing.assert_close(error_B, torch.full((2,), 9.0))


def test_hierarchical_error_is_zero_for_equal_features_with_a_zero_gradient():
    student_BCHW = features(7, 7).requires_grad_()
    error_B = hierarchical_error_per_sample(student_BCHW, student_BCHW.detach())
    error_B.sum().backward()
    assert error_B.tolist() == [0.0, 0.0]
    assert not student_BCHW.grad.any()


def test_hierarchical_error_gradient_is_right():
    student, teacher = (features(5, 3, seed, torch.float64) for seed in (0, 1))
    assert gradcheck(lambda x: hierarchical_error_per_sample(x, teacher), student.requires_grad_())


def test_hierarchical_error_is_float32_for_bfloat16_features():
    student, teacher = (features(8, 8, seed).bfloat16() for seed in (0, 1))
    expected = hierarchical_error_per_sample(student.float(), teacher.float())
    assert torch.equal(hierarchical_error_per_sample(student, teacher), expected)


@pytest.mark.parametrize(("student", "teacher"), [((2, 3, 4, 4), (2, 3, 4, 5)), ((2, 3), (2, 3))])
def test_hierarchical_error_refuses_other_shapes(student, teacher):
    with pytest.raises(ValueError, match="must have one shape"):
        hierarchical_error_per_sample(torch.zeros(student), torch.zeros(teacher))
