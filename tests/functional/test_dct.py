"""The DCT against scipy, and what must hold whatever the precision settings."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch.autograd import gradcheck, gradgradcheck

from dctkd.functional.dct import cosine_basis, dct2, idct2

SIZES = [(56, 56), (28, 28), (14, 14), (7, 7), (5, 9), (9, 4), (1, 3), (1, 1)]


def maps(height, width, dtype=torch.float32, seed=0):
    """Return maps in [0, 1), as min-max makes them: the scale that the absolute tolerances of 1e-5 belong to."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scipy_dct2(x_BHW):
    return torch.from_numpy(scipy.fft.dctn(x_BHW.double().numpy(), type=2, norm="ortho", axes=(1, 2)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_dct2_equals_scipy(height, width):
    x_BHW = maps(height, width)
    torch.testing.assert_close(dct2(x_BHW).double(), scipy_dct2(x_BHW), rtol=0, atol=1e-5)  # Float32 keeps 56 * 1e-7.


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_idct2_equals_scipy(height, width):
    y_BHW = maps(height, width)
    expected = torch.from_numpy(scipy.fft.idctn(y_BHW.double().numpy(), type=2, norm="ortho", axes=(1, 2)))
    torch.testing.assert_close(idct2(y_BHW).double(), expected, rtol=0, atol=1e-5)


def test_dct2_of_a_hand_worked_map():
    # Rows (1, 0) and (0, 0): the outer product of the first columns (1, 1) / sqrt(2) and (1, 1) / sqrt(2).
    expected = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]])
    torch.testing.assert_close(dct2(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])), expected)


def test_float64_input_is_exact_to_float64():
    x_BHW = maps(14, 11, torch.float64)
    assert dct2(x_BHW).dtype == torch.float64
    torch.testing.assert_close(dct2(x_BHW), scipy_dct2(x_BHW), rtol=0, atol=1e-13)


def test_bfloat16_input_gives_float32_of_the_rounded_values():
    x_BHW = maps(14, 14).bfloat16()
    assert dct2(x_BHW).dtype == torch.float32
    torch.testing.assert_close(dct2(x_BHW).double(), scipy_dct2(x_BHW), rtol=0, atol=1e-5)


def test_autocast_does_not_reach_the_products():
    x_BHW = maps(14, 14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dct2(x_BHW)
    assert torch.equal(inside, dct2(x_BHW))


def test_a_lower_matmul_precision_does_not_reach_forward_or_backward():
    x_BHW = maps(56, 56).requires_grad_()
    torch.set_float32_matmul_precision("medium")
    try:
        y_BHW = dct2(x_BHW)
        (gradient_BHW,) = torch.autograd.grad(y_BHW, x_BHW, maps(56, 56, seed=1))
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(y_BHW.double(), scipy_dct2(x_BHW.detach()), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient_BHW, idct2(maps(56, 56, seed=1)), rtol=0, atol=1e-5)


@pytest.mark.gpu
def test_tf32_on_a_gpu_does_not_reach_forward_or_backward():
    x_BHW = maps(56, 56).cuda().requires_grad_()
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        y_BHW = dct2(x_BHW)
        (gradient_BHW,) = torch.autograd.grad(y_BHW, x_BHW, maps(56, 56, seed=1).cuda())
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    torch.testing.assert_close(y_BHW.double().cpu(), scipy_dct2(x_BHW.detach().cpu()), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient_BHW.cpu(), idct2(maps(56, 56, seed=1)), rtol=0, atol=1e-5)


def test_dct2_keeps_the_norm():
    x_BHW = maps(7, 12)
    torch.testing.assert_close(dct2(x_BHW).square().sum(), x_BHW.square().sum())


def test_gradients_are_right_to_second_order():
    x_BHW = maps(3, 4, torch.float64).requires_grad_()
    assert gradcheck(dct2, x_BHW)
    assert gradgradcheck(lambda x: dct2(x).pow(3), x_BHW)
    assert gradcheck(idct2, x_BHW)


def test_basis_is_made_once_and_can_be_used_after_inference_mode():
    cosine_basis.cache_clear()
    with torch.inference_mode():
        dct2(maps(6, 6))
    x_BHW = maps(6, 6).requires_grad_()
    dct2(x_BHW).sum().backward()
    assert cosine_basis(6, device=torch.device("cpu")) is cosine_basis(6, device=torch.device("cpu"))
    assert x_BHW.grad is not None


def test_basis_rows_are_orthonormal():
    basis_NN = cosine_basis(9, device=torch.device("cpu")).numpy()
    np.testing.assert_allclose(basis_NN @ basis_NN.T, np.eye(9), atol=1e-14)


@pytest.mark.parametrize("transform", [dct2, idct2])
def test_other_shapes_are_refused(transform):
    with pytest.raises(ValueError, match=r"\(B, H, W\), got \(2, 3\)"):
        transform(torch.zeros(2, 3))
