"""Unit vectors against NumPy, and what becomes of a vector without direction."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.directions import unit_vectors


def vectors(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_unit_vectors_equal_numpy(dim):
    x = vectors(2, 3, 4)
    expected = x.numpy() / np.linalg.norm(x.numpy(), axis=dim, keepdims=True)
    np.testing.assert_allclose(unit_vectors(x, dim=dim), expected, rtol=1e-12)


def test_gradient_of_unit_vectors_is_right():
    assert gradcheck(lambda x: unit_vectors(x, dim=1), vectors(2, 3).requires_grad_())


def test_a_zero_vector_stays_zero_with_a_zero_gradient():
    x = torch.zeros(1, 3, requires_grad=True)
    unit = unit_vectors(x, dim=1)
    unit.sum().backward()
    assert not unit.any()
    assert not x.grad.any()


def test_gradient_of_the_shortest_vector_that_counts_is_finite():
    x = torch.full((1, 1), 1.1e-12, requires_grad=True)
    unit_vectors(x, dim=1).sum().backward()
    assert x.grad.isfinite().all()


def test_unit_vectors_of_bfloat16_are_float32_of_the_rounded_values():
    x = vectors(2, 3).bfloat16()
    unit = unit_vectors(x, dim=1)
    assert unit.dtype == torch.float32
    np.testing.assert_allclose(unit, unit_vectors(x.double(), dim=1), rtol=1e-6)
