"""Half-spectrum filters against the full complex form, the released high-pass window, real part and magnitude."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.fourier import (
    dft2_magnitude,
    filter_real_maps,
    gradient_scale,
    half_spectrum,
    high_pass_mask,
    real_dft2,
)

SIZES = [(1, 1), (1, 2), (2, 2), (4, 4), (5, 5), (7, 7), (8, 8), (6, 5), (5, 6), (3, 8)]
BATCH, IN, OUT = 3, 2, 4


def random_filter(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(IN, OUT, height, width, dtype=torch.complex128, generator=generator)


def random_mask(height, width, seed=1):
    return (torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) > 0.4).double()


def features(height, width, channels=IN, seed=2):
    return torch.randn(
        BATCH, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def full_form(x_BIHW, filter_IOHW):
    """Filter as the paper does: all frequencies, then the real part."""
    spectrum = torch.einsum("bixy,ioxy->boxy", torch.fft.fft2(x_BIHW, norm="ortho"), filter_IOHW)
    return torch.fft.ifft2(spectrum, norm="ortho").real


def half_form(filter_IOHW):
    return half_spectrum(filter_IOHW).permute(3, 2, 0, 1).contiguous()


@pytest.mark.parametrize("size", SIZES)
def test_filter_and_its_gradient_equal_the_full_complex_form(size):
    masked = random_mask(*size) * random_filter(*size)
    full_x, half_x = features(*size).requires_grad_(), features(*size).requires_grad_()
    cotangent = features(*size, channels=OUT, seed=5)
    full, half = full_form(full_x, masked), filter_real_maps(half_x, half_form(masked))
    full.backward(cotangent)
    half.backward(cotangent)
    torch.testing.assert_close(half, full, rtol=0, atol=1e-10)
    torch.testing.assert_close(half_x.grad, full_x.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", SIZES)
def test_a_step_of_sgd_with_scaled_gradients_equals_one_on_the_full_filter(size):
    mask, full = random_mask(*size), random_filter(*size).requires_grad_()
    half = half_form(mask * full.detach()).requires_grad_()
    cotangent, x, lr = features(*size, channels=OUT, seed=5), features(*size), 0.7
    for _ in range(2):
        full_form(x, mask * full).backward(cotangent)
        filter_real_maps(x, half, gradient_scale(mask)).backward(cotangent)
        with torch.no_grad():
            for weight in (full, half):
                weight -= lr * weight.grad
                weight.grad = None
    stepped = filter_real_maps(x, half.detach())
    torch.testing.assert_close(stepped, full_form(x, mask * full.detach()), rtol=0, atol=1e-10)


def test_without_the_scale_inner_frequencies_move_twice_as_far():
    scale_VH = gradient_scale(torch.ones(4, 6))
    torch.testing.assert_close(scale_VH[:, 0], torch.tensor([1.0, 0.5, 0.5, 1.0]))
    assert torch.equal(gradient_scale(torch.ones(4, 5))[:, 0], torch.tensor([1.0, 0.5, 0.5]))


def test_a_frequency_that_the_mask_removes_with_its_mirror_image_never_moves():
    mask = torch.ones(6, 6, dtype=torch.float64)
    mask[1, 2] = mask[-1, -2] = 0
    assert gradient_scale(mask)[2, 1] == 0
    mask[-1, -2] = 1
    assert gradient_scale(mask)[2, 1] == 0.25


def test_self_conjugate_frequencies_get_no_imaginary_gradient():
    weight = half_form(random_filter(4, 4)).requires_grad_()
    filter_real_maps(features(4, 4), weight).backward(features(4, 4, channels=OUT, seed=5))
    for column in (0, 2):
        for row in (0, 2):
            torch.testing.assert_close(weight.grad[column, row].imag, torch.zeros(IN, OUT, dtype=torch.float64))


def test_an_asymmetric_edge_column_counts_by_its_hermitian_part():
    weight = half_form(random_filter(4, 4))
    spoilt = weight.clone()
    spoilt[0, 1] += 1.0j
    spoilt[0, 3] += 1.0j  # Adds an anti-Hermitian part: conj(i) = -i at the mirror image cancels it.
    torch.testing.assert_close(filter_real_maps(features(4, 4), spoilt), filter_real_maps(features(4, 4), weight))


def test_slicing_the_full_filter_instead_of_folding_it_is_another_filter():
    full = random_filter(5, 6)
    sliced = full[..., :4].permute(3, 2, 0, 1).contiguous()
    difference = filter_real_maps(features(5, 6), sliced) - full_form(features(5, 6), full)
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("size", [(3, 4), (2, 5)])
def test_gradients_of_the_filter_are_right(size):
    weight = half_form(random_filter(*size)).requires_grad_()
    assert gradcheck(filter_real_maps, (features(*size).requires_grad_(), weight))


def test_bfloat16_features_under_autocast_are_filtered_in_float32():
    weight = half_form(random_filter(8, 8)).to(torch.complex64)
    x = features(8, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = filter_real_maps(x, weight)
    assert y.dtype == torch.float32
    expected = full_form(x.double(), random_filter(8, 8))
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-5)  # Values of order 3 in float32.


def test_a_filter_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"need a filter \(3, 4, 2, 'O'\), got \(2, 4, 2, 4\)"):
        filter_real_maps(features(4, 4), half_form(random_filter(4, 3)))


def released_mask(height, width, cutoff=0.1):
    """The window as released: shift the origin to the centre, zero a block, shift back."""
    mask = np.ones((height, width))
    centre_y, centre_x = height // 2, width // 2
    radius_y, radius_x = int(cutoff * centre_y), int(cutoff * centre_x)
    mask[centre_y - radius_y : centre_y + radius_y, centre_x - radius_x : centre_x + radius_x] = 0
    return np.fft.ifftshift(mask)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 14), (19, 19), (20, 20), (28, 28), (32, 32), (56, 56), (57, 40)])
def test_the_released_mask_equals_the_shifted_window(size):
    mask = high_pass_mask(*size, cutoff=0.1, kind="released")
    np.testing.assert_array_equal(mask.numpy(), released_mask(*size))


@pytest.mark.parametrize(("side", "removed"), [(8, 0), (14, 0), (19, 0), (20, 4), (28, 4), (32, 4), (56, 16)])
def test_the_released_mask_removes_nothing_up_to_nineteen_positions(side, removed):
    assert (high_pass_mask(side, side, cutoff=0.1, kind="released") == 0).sum() == removed


@pytest.mark.parametrize(("side", "removed"), [(19, 0), (28, 9), (56, 25)])
def test_the_symmetric_mask_is_hermitian(side, removed):
    mask = high_pass_mask(side, side, cutoff=0.1, kind="symmetric")
    assert torch.equal(mask, mask.flip(0, 1).roll((1, 1), dims=(0, 1)))
    assert (mask == 0).sum() == removed


def test_no_mask_keeps_everything():
    assert high_pass_mask(56, 56, cutoff=0.9, kind="none").all()


def test_with_an_all_pass_filter_the_released_mask_halves_one_frequency_and_keeps_its_neighbour():
    size, mask = 28, high_pass_mask(28, 28, cutoff=0.1, kind="released")
    weight = half_form(mask * torch.ones(1, 1, size, size, dtype=torch.complex128))
    position = torch.arange(size, dtype=torch.float64) * (2 * torch.pi / size)
    rows = torch.cos(position)[:, None].expand(size, size)
    diagonal = torch.cos(position[:, None] - position[None, :])
    for wave, gain in ((rows, 0.5), (diagonal, 1.0)):
        torch.testing.assert_close(filter_real_maps(wave[None, None], weight)[0, 0], gain * wave)


def test_real_dft2_equals_numpy():
    x = np.random.default_rng(0).random((2, 5, 6))
    np.testing.assert_allclose(real_dft2(torch.from_numpy(x)).numpy(), np.fft.fft2(x).real, atol=1e-12)


def test_real_dft2_is_blind_to_a_reflection_through_the_origin():
    x = torch.rand(1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reflected = x.flip(1, 2).roll((1, 1), dims=(1, 2))
    torch.testing.assert_close(real_dft2(x), real_dft2(reflected), rtol=0, atol=1e-12)


def test_dft2_magnitude_equals_numpy():
    x = np.random.default_rng(0).random((2, 5, 6))
    np.testing.assert_allclose(dft2_magnitude(torch.from_numpy(x)).numpy(), np.abs(np.fft.fft2(x)), atol=1e-12)


def test_dft2_magnitude_is_blind_to_every_circular_shift():
    x = torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for shift in np.ndindex(4, 5):
        shifted = x.roll(shift, dims=(1, 2))
        torch.testing.assert_close(dft2_magnitude(x), dft2_magnitude(shifted), rtol=0, atol=1e-12)


def test_dft2_magnitude_of_zeros_has_a_gradient_of_zero():
    x = torch.zeros(1, 2, 3, requires_grad=True)
    dft2_magnitude(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, 2, 3))


@pytest.mark.parametrize("transform", [real_dft2, dft2_magnitude])
def test_transforms_refuse_other_shapes(transform):
    with pytest.raises(ValueError, match=r"\(B, H, W\), got \(2, 3\)"):
        transform(torch.zeros(2, 3))
