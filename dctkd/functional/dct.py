"""Orthonormal two-dimensional DCT-II and its inverse, as two products with a cosine basis.

Shapes: B images, H rows, W columns; N length of a one-dimensional transform.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


def dct2(x_BHW: Tensor) -> Tensor:
    """Return the orthonormal 2-D DCT-II of every map.

    y[k, l] = sum over i, j of x[i, j] b_H(k, i) b_W(l, j), with b_N(k, i) = sqrt(2 / N) cos(pi (i + 1/2) k / N) and
    b_N(0, i) = sqrt(1 / N). It equals `scipy.fft.dctn(x, type=2, norm="ortho", axes=(1, 2))`. The products run in
    float64 on every device: neither autocast nor a TF32 or bfloat16 switch for matrix products can reach them, forward
    or backward, and for maps of this size they cost little.

    Args:
        x_BHW: Maps, shape (B, H, W), any float dtype, any device that has float64.

    Returns:
        Coefficients, shape (B, H, W), float32 (float64 for float64 input), same unit as the input; [:, 0, 0] is
        sqrt(H W) times the mean.

    Raises:
        ValueError: If the input does not have three dimensions.

    Source:
        Ahmed, Natarajan and Rao 1974, IEEE Transactions on Computers C-23, 90-93.

    Example:
        >>> dct2(torch.ones(1, 2, 3)).round(decimals=4).abs()
        tensor([[[2.4495, 0.0000, 0.0000],
                 [0.0000, 0.0000, 0.0000]]])
    """
    _require_maps(x_BHW)
    _, height, width = x_BHW.shape
    rows_HH, columns_WW = cosine_basis(height, device=x_BHW.device), cosine_basis(width, device=x_BHW.device)
    return _multiply(rows_HH, x_BHW, columns_WW.T)


def idct2(y_BHW: Tensor) -> Tensor:
    """Return the maps whose orthonormal 2-D DCT-II is given: the inverse and transpose of `dct2`.

    Args:
        y_BHW: Coefficients, shape (B, H, W), any float dtype.

    Returns:
        Maps, shape (B, H, W), float32 (float64 for float64 input).

    Raises:
        ValueError: If the input does not have three dimensions.

    Example:
        >>> x = torch.arange(6.0).view(1, 2, 3)
        >>> torch.allclose(idct2(dct2(x)), x, atol=1e-6)
        True
    """
    _require_maps(y_BHW)
    _, height, width = y_BHW.shape
    rows_HH, columns_WW = cosine_basis(height, device=y_BHW.device), cosine_basis(width, device=y_BHW.device)
    return _multiply(rows_HH.T, y_BHW, columns_WW)


@functools.cache
def cosine_basis(size: int, *, device: torch.device, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the orthonormal DCT-II matrix: row k holds the cosine of frequency k. Shared: do not write into it.

    Args:
        size: Number of samples N >= 1.
        device: Device of the result; the values are computed on the CPU in float64 and copied, so they agree on all
            devices.
        dtype: Float dtype of the result.

    Returns:
        Matrix of shape (N, N) whose transpose is its inverse.

    Example:
        >>> basis_NN = cosine_basis(3, device=torch.device("cpu"))
        >>> torch.allclose(basis_NN @ basis_NN.T, torch.eye(3, dtype=torch.float64))
        True
    """
    with torch.inference_mode(False):  # A cached inference tensor could not be saved for a later backward pass.
        frequency_N1 = torch.arange(size, dtype=torch.float64, device="cpu").unsqueeze(1)
        position_N = torch.arange(size, dtype=torch.float64, device="cpu") + 0.5
        basis_NN = torch.cos(math.pi / size * frequency_N1 * position_N) * math.sqrt(2.0 / size)
        basis_NN[0] = math.sqrt(1.0 / size)
        return basis_NN.to(device=device, dtype=dtype)


def _multiply(left_HH: Tensor, x_BHW: Tensor, right_WW: Tensor) -> Tensor:
    result_dtype = torch.promote_types(x_BHW.dtype, torch.float32)
    return torch.matmul(torch.matmul(left_HH, x_BHW.to(left_HH.dtype)), right_WW).to(result_dtype)


def _require_maps(x_BHW: Tensor) -> None:
    if x_BHW.dim() != 3:
        raise ValueError(f"expected maps of shape (B, H, W), got {tuple(x_BHW.shape)}")
