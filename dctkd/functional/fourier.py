"""Two-dimensional discrete Fourier transform: filters on half of the spectrum, high-pass masks, real part, magnitude.

Shapes: B images, I input channels, O output channels, H rows, W columns, V = W // 2 + 1 columns of a half spectrum.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from dctkd.functional.precision import outside_autocast, widen

HighPass = Literal["released", "symmetric", "none"]

VALUES_PER_TRANSFORM = 2**20
"""Numbers whose spectrum is reordered at a time; bounds memory, never changes values."""


def real_dft2(x_BHW: Tensor) -> Tensor:
    """Return the real part of the two-dimensional DFT of every map, without normalisation.

    It sees only the even part of a map: a map and its reflection through the origin, x[-i mod H, -j mod W], give the
    same values.

    Args:
        x_BHW: Maps, shape (B, H, W), any float dtype.

    Returns:
        Shape (B, H, W), float32 (float64 for float64 input); [:, 0, 0] is the sum of the map.

    Raises:
        ValueError: If the input does not have three dimensions.

    Example:
        >>> real_dft2(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[10., -2.],
                 [-4.,  0.]]])
    """
    return _dft2(x_BHW).real


def dft2_magnitude(x_BHW: Tensor) -> Tensor:
    """Return the magnitude of the two-dimensional DFT of every map, without normalisation.

    It does not see where things are: a map and its circular shift by any number of rows and columns give the same
    values, and so do a map and its reflection through the origin. Its gradient at a coefficient of 0 is 0.

    Args:
        x_BHW: Maps, shape (B, H, W), any float dtype.

    Returns:
        Shape (B, H, W), float32 (float64 for float64 input), >= 0; [:, 0, 0] is the magnitude of the map's sum.

    Raises:
        ValueError: If the input does not have three dimensions.

    Example:
        >>> dft2_magnitude(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[[10.,  2.],
                 [ 4.,  0.]]])
    """
    return _dft2(x_BHW).abs()


def half_spectrum(filter_IOHW: Tensor) -> Tensor:
    """Return what a complex filter does to real maps, on half of the frequencies.

    For real x, Re(ifft2(K fft2(x))) depends on K only through its Hermitian part
    G(u, v) = (K(u, v) + conj K(-u, -v)) / 2, and that is known from the columns v = 0 ... W // 2.

    Args:
        filter_IOHW: Filter K, complex, shape (..., H, W), frequencies in the order of `torch.fft.fft2`.

    Returns:
        G, shape (..., H, V), complex.

    Example:
        >>> half_spectrum(torch.tensor([[1.0 + 2.0j, 3.0, 5.0 + 1.0j]]))
        tensor([[1.+0.0000j, 4.-0.5000j]])
    """
    hermitian_IOHW = 0.5 * (filter_IOHW + _at_negative_frequencies(filter_IOHW).conj())
    return hermitian_IOHW[..., : filter_IOHW.shape[-1] // 2 + 1].resolve_conj()


def high_pass_mask(height: int, width: int, *, cutoff: float, kind: HighPass) -> Tensor:
    """Return which frequencies a high-pass filter keeps.

    With r = int(cutoff * int(size / 2)) along each side, `released` removes the frequencies -r ... r - 1, as FAM's
    release does: a window of even length is not symmetric about 0, so one of each pair (-r, r) stays. `symmetric`
    removes -r ... r. Both remove nothing where r = 0 along a side: with the released cutoff of 0.1 in all maps of up to
    19 positions.

    Args:
        height: Rows H of the map.
        width: Columns W of the map.
        cutoff: Removed fraction of the frequencies along each side, in [0, 1].
        kind: `released`, `symmetric`, or `none`.

    Returns:
        Mask of zeros and ones, shape (H, W), float64, frequencies in the order of `torch.fft.fft2`.

    Source:
        FAM-KD's FAM_Module.forward, github.com/cuong-pv/FAM-KD, distillers/FAM_KD.py.

    Example:
        >>> high_pass_mask(1, 20, cutoff=0.1, kind="symmetric").sum().item()
        20.0
    """
    removed = [_removed(size, cutoff, kind) for size in (height, width)]
    return 1.0 - (removed[0].unsqueeze(1) & removed[1].unsqueeze(0)).double()


def gradient_scale(mask_HW: Tensor) -> Tensor:
    """Return by what the gradient of a half filter is multiplied so that SGD moves it as it would the full filter.

    The full filter K holds each pair of frequencies (u, v) and (-u, -v) twice. Let G = half_spectrum(M K) with a mask
    M. A step of SGD on K moves an inner bin of G by half of what a step on G itself does, a bin of the columns v = 0
    and v = W / 2 (W even) by as much, and a bin that M removes not at all.

    Args:
        mask_HW: Mask M, real, shape (H, W), order of `torch.fft.fft2`.

    Returns:
        Factors, shape (V, H): the order of `filter_real_maps`.

    Example:
        >>> gradient_scale(torch.ones(2, 4))
        tensor([[1.0000, 1.0000],
                [0.5000, 0.5000],
                [1.0000, 1.0000]])
    """
    pair_HW = 0.5 * (mask_HW.square() + _at_negative_frequencies(mask_HW).square())
    width = mask_HW.shape[1]
    scale_HV = 0.5 * pair_HW[:, : width // 2 + 1]
    scale_HV[:, _edges(width)] *= 2.0
    return scale_HV.T.contiguous()


@outside_autocast
def filter_real_maps(x_BIHW: Tensor, weight_VHIO: Tensor, gradient_scale_VH: Tensor | None = None) -> Tensor:
    """Filter real maps in the frequency domain: y_o = irfft2(sum over i of G_io rfft2(x_i)), orthonormal.

    Equal to Re(ifft2(einsum(K, fft2(x)))) for G = half_spectrum(K). The columns v = 0 and v = W / 2 (W even) of the
    half spectrum hold both u and -u; they are made Hermitian here, because `irfft2` does not promise what it does with
    the rest.

    Args:
        x_BIHW: Features, shape (B, I, H, W), any float dtype.
        weight_VHIO: Filter G, complex, shape (V, H, I, O): one (I, O) matrix per frequency.
        gradient_scale_VH: Factors of the filter's gradient, as `gradient_scale` gives them; None: the true gradient.

    Returns:
        Shape (B, O, H, W), float32 or wider.

    Raises:
        ValueError: If the filter does not fit the features.

    Source:
        Pham et al. 2024, arXiv:2403.05894, the global branch; the half spectrum is ours.

    Example:
        >>> x = torch.arange(6.0).view(1, 1, 2, 3)
        >>> all_pass = torch.ones(2, 2, 1, 1, dtype=torch.complex64)
        >>> torch.allclose(filter_real_maps(x, all_pass), x, atol=1e-6)
        True
    """
    _, channels, height, width = x_BIHW.shape
    if weight_VHIO.shape[:3] != (width // 2 + 1, height, channels):
        expected = (width // 2 + 1, height, channels, "O")
        raise ValueError(
            f"features of shape {tuple(x_BIHW.shape)} need a filter {expected}, got {tuple(weight_VHIO.shape)}"
        )
    y_BOHW: Tensor = _HalfSpectrumFilter.apply(widen(x_BIHW), weight_VHIO, gradient_scale_VH)
    return y_BOHW


class _HalfSpectrumFilter(torch.autograd.Function):
    """The filter with its gradients by hand: one matrix product per frequency, one column of frequencies at a time.

    The filter is the largest tensor by far. It is read in the order in which it lies, and no other tensor of its size
    is made but its gradient; the features' spectrum is computed anew in the backward pass instead of being kept.
    """

    @staticmethod
    def forward(ctx: Any, x_BIHW: Tensor, weight_VHIO: Tensor, scale_VH: Tensor | None) -> Tensor:
        ctx.save_for_backward(x_BIHW, weight_VHIO, scale_VH)
        x_VHBI = _spectrum(x_BIHW)
        y_VHBO = x_VHBI.new_empty(*x_VHBI.shape[:3], weight_VHIO.shape[3])
        for column, is_edge in _columns(x_BIHW.shape[3]):
            torch.matmul(x_VHBI[column], _folded(weight_VHIO[column], is_edge), out=y_VHBO[column])
        return _maps(y_VHBO, x_BIHW.shape[3])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BIHW, weight_VHIO, scale_VH = ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        x_VHBI, grad_VHBO = _spectrum(x_BIHW), _spectrum(grad_outputs[0])
        grad_weight_VHIO = torch.empty_like(weight_VHIO) if needs_weight else None
        for column, is_edge in _columns(x_BIHW.shape[3]):
            grad_HBO = grad_VHBO[column]
            if grad_weight_VHIO is not None:
                # A bin of an inner column stands for its mirror image too, hence the factor of two.
                factor = torch.tensor(1.0 if is_edge else 2.0, dtype=x_BIHW.dtype, device=x_BIHW.device)
                factor_H11 = factor if scale_VH is None else (factor * scale_VH[column])[:, None, None]
                scaled_HBI = (factor_H11 * x_VHBI[column]).conj_physical_()
                torch.matmul(scaled_HBI.mT, grad_HBO, out=grad_weight_VHIO[column])
            if needs_x:  # The features' spectrum of this column has served; its place takes their gradient's.
                torch.matmul(grad_HBO.conj_physical(), _folded(weight_VHIO[column], is_edge).mT, out=x_VHBI[column])
                x_VHBI[column].conj_physical_()
        del grad_VHBO
        return _maps(x_VHBI, x_BIHW.shape[3]) if needs_x else None, grad_weight_VHIO, None


def _dft2(x_BHW: Tensor) -> Tensor:
    if x_BHW.dim() != 3:
        raise ValueError(f"expected maps of shape (B, H, W), got {tuple(x_BHW.shape)}")
    spectrum_BHW: Tensor = torch.fft.fft2(widen(x_BHW))
    return spectrum_BHW


def _spectrum(x_BCHW: Tensor) -> Tensor:
    """Return the orthonormal half spectrum with the frequencies first, shape (V, H, B, C)."""
    batch_size, channels, height, width = x_BCHW.shape
    dtype = torch.complex128 if x_BCHW.dtype == torch.float64 else torch.complex64
    spectrum_VHBC = torch.empty(width // 2 + 1, height, batch_size, channels, dtype=dtype, device=x_BCHW.device)
    for images in _few_images(x_BCHW.shape):
        half_BCHV = torch.fft.rfft2(x_BCHW[images], norm="ortho")
        spectrum_VHBC[:, :, images] = half_BCHV.permute(3, 2, 0, 1)
    return spectrum_VHBC


def _maps(spectrum_VHBC: Tensor, width: int) -> Tensor:
    """Return the maps of an orthonormal half spectrum that has the frequencies first, shape (B, C, H, W)."""
    _, height, batch_size, channels = spectrum_VHBC.shape
    dtype = torch.float64 if spectrum_VHBC.dtype == torch.complex128 else torch.float32
    x_BCHW = torch.empty(batch_size, channels, height, width, dtype=dtype, device=spectrum_VHBC.device)
    for images in _few_images(x_BCHW.shape):
        half_BCHV = spectrum_VHBC[:, :, images].permute(2, 3, 1, 0)
        x_BCHW[images] = torch.fft.irfft2(half_BCHV, s=(height, width), norm="ortho")
    return x_BCHW


def _few_images(shape_BCHW: torch.Size) -> list[slice]:
    """Cut a batch so that the reordered copies of a transform stay small."""
    batch_size, *rest = shape_BCHW
    at_a_time = max(VALUES_PER_TRANSFORM // math.prod(rest), 1)
    return [slice(first, first + at_a_time) for first in range(0, batch_size, at_a_time)]


def _columns(width: int) -> list[tuple[int, bool]]:
    """Columns of a half spectrum, each with whether it holds both u and -u."""
    return [(column, column in _edges(width)) for column in range(width // 2 + 1)]


def _folded(weight_HIO: Tensor, is_edge: bool) -> Tensor:
    """Make a column that holds both u and -u Hermitian in u."""
    if not is_edge:
        return weight_HIO
    mirror_H = -torch.arange(len(weight_HIO), device=weight_HIO.device) % len(weight_HIO)
    return weight_HIO[mirror_H].conj_physical_().add_(weight_HIO).mul_(0.5)  # In place: one copy of the column.


def _edges(width: int) -> list[int]:
    return [0, width // 2] if width % 2 == 0 else [0]


def _at_negative_frequencies(x_HW: Tensor) -> Tensor:
    return x_HW.flip(-1, -2).roll((1, 1), dims=(-2, -1))


def _removed(size: int, cutoff: float, kind: HighPass) -> Tensor:
    radius = 0 if kind == "none" else int(cutoff * (size // 2))
    frequency = torch.fft.fftfreq(size, d=1.0 / size).round()
    upper = radius if kind == "symmetric" else radius - 1
    return (frequency >= -radius) & (frequency <= upper) if radius > 0 else torch.zeros(size, dtype=torch.bool)
