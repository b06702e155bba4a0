"""Activation maps, pooling and normalisation against NumPy in float64."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from dctkd.functional.attention import activation_map, minmax_normalise, pool_to_smaller


def features(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_activation_map_equals_numpy():
    feature_BCHW = features(2, 300, 5, 4)
    expected = (feature_BCHW.double().numpy() ** 2).mean(axis=1)
    np.testing.assert_allclose(activation_map(feature_BCHW).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_activation_map_of_bfloat16_accumulates_in_float32_under_autocast(memory_format):
    feature_BCHW = features(2, 2048, 3, 3).bfloat16().to(memory_format=memory_format)
    expected = (feature_BCHW.double().numpy() ** 2).mean(axis=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        map_BHW = activation_map(feature_BCHW)
    assert map_BHW.dtype == torch.float32
    np.testing.assert_allclose(map_BHW.numpy(), expected, rtol=1e-6)  # A bfloat16 sum is wrong by 1e-3 and more.


def test_activation_map_gradients_are_right_to_second_order_also_where_all_channels_are_zero():
    feature_BCHW = features(2, 3, 2, 3, dtype=torch.float64)
    feature_BCHW[:, :, 0, 0] = 0.0
    feature_BCHW.requires_grad_()
    assert gradcheck(activation_map, feature_BCHW)
    assert gradgradcheck(activation_map, feature_BCHW)


def test_activation_map_gradient_of_zero_features_is_zero():
    feature_BCHW = torch.zeros(1, 4, 2, 2, requires_grad=True)
    activation_map(feature_BCHW).sum().backward()
    assert torch.equal(feature_BCHW.grad, torch.zeros(1, 4, 2, 2))


def test_activation_map_gradient_of_bfloat16_is_near_float64_and_keeps_channels_last():
    feature_BCHW = features(2, 16, 3, 3).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    weight_BHW = features(2, 3, 3, seed=1)
    (activation_map(feature_BCHW) * weight_BHW).sum().backward()
    expected = 2 / 16 * feature_BCHW.detach().double() * weight_BHW.double().unsqueeze(1)
    assert feature_BCHW.grad.dtype == torch.bfloat16
    assert feature_BCHW.grad.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(feature_BCHW.grad.double(), expected, rtol=2**-7, atol=0)  # Two roundings of 2^-9 each.


class FloatCopies(TorchDispatchMode):
    """Counts the float32 tensors of a given size that any operation makes, below autograd and autocast."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.count = numel, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32 and result.numel() == self.numel:
            self.count += 1
        return result


def test_activation_map_makes_no_float_copy_of_bfloat16_features_under_autocast():
    feature_BCHW = features(2, 8, 3, 3).bfloat16().requires_grad_()
    copies = FloatCopies(feature_BCHW.numel())
    with copies, torch.autocast("cpu", dtype=torch.bfloat16):
        map_BHW = activation_map(feature_BCHW)
        map_BHW.sum().backward()
    assert copies.count == 0


def test_activation_map_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(2, 3, 4\)"):
        activation_map(torch.zeros(2, 3, 4))


def adaptive_mean(map_HW, height, width):
    """Mean over the windows [floor(i n / m), ceil((i + 1) n / m)), written out."""
    pooled = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            rows = slice(i * map_HW.shape[0] // height, math.ceil((i + 1) * map_HW.shape[0] / height))
            columns = slice(j * map_HW.shape[1] // width, math.ceil((j + 1) * map_HW.shape[1] / width))
            pooled[i, j] = map_HW[rows, columns].mean()
    return pooled


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((16, 16), (4, 4)), ((4, 4), (16, 16)), ((7, 7), (4, 3)), ((3, 9), (6, 5)), ((5, 5), (5, 5))],
)
def test_the_larger_side_is_pooled_to_the_smaller(student, teacher):
    student_BHW, teacher_BHW = features(1, *student), features(1, *teacher, seed=1)
    height, width = min(student[0], teacher[0]), min(student[1], teacher[1])
    for pooled, full in zip(pool_to_smaller(student_BHW, teacher_BHW), (student_BHW, teacher_BHW), strict=True):
        np.testing.assert_allclose(pooled[0].numpy(), adaptive_mean(full[0].double().numpy(), height, width), atol=1e-6)


def test_maps_of_one_size_are_not_copied():
    student_BHW, teacher_BHW = features(2, 5, 3), features(2, 5, 3)
    pooled = pool_to_smaller(student_BHW, teacher_BHW)
    assert pooled[0] is student_BHW
    assert pooled[1] is teacher_BHW


def test_pooling_refuses_different_batch_sizes():
    with pytest.raises(ValueError, match=r"one batch size, got \(2, 4, 4\) and \(3, 4, 4\)"):
        pool_to_smaller(torch.zeros(2, 4, 4), torch.zeros(3, 4, 4))


def test_minmax_equals_numpy_per_image():
    map_BHW = features(3, 4, 5)
    values = map_BHW.double().numpy()
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(minmax_normalise(map_BHW).numpy(), (values - low) / (high - low), atol=1e-6)


def test_minmax_ignores_scale_and_shift():
    map_BHW = features(2, 4, 4)
    torch.testing.assert_close(minmax_normalise(3.0 * map_BHW + 0.5), minmax_normalise(map_BHW), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-35, 1e6, -2.0])
def test_minmax_of_a_constant_map_is_zero_with_zero_gradient(value):
    map_BHW = torch.full((1, 3, 3), value, requires_grad=True)
    scaled_BHW = minmax_normalise(map_BHW)
    scaled_BHW.square().sum().backward()
    assert torch.equal(scaled_BHW, torch.zeros(1, 3, 3))
    assert torch.equal(map_BHW.grad, torch.zeros(1, 3, 3))


def test_minmax_does_not_blow_up_rounding_noise():
    map_BHW = torch.ones(1, 2, 2)
    map_BHW[0, 0, 0] += 2.0**-23
    assert torch.equal(minmax_normalise(map_BHW), torch.zeros(1, 2, 2))


def test_minmax_keeps_a_map_of_tiny_values():
    map_BHW = torch.tensor([[[0.0, 1e-20, 2e-20]]], requires_grad=True)
    torch.testing.assert_close(minmax_normalise(map_BHW), torch.tensor([[[0.0, 0.5, 1.0]]]))
    minmax_normalise(map_BHW)[0, 0, 1].backward()
    assert map_BHW.grad.isfinite().all()


def test_minmax_of_a_span_whose_reciprocal_overflows_is_zero_with_zero_gradient():
    map_BHW = torch.tensor([[[0.0, 1e-39, 2e-39]]], requires_grad=True)
    scaled_BHW = minmax_normalise(map_BHW)
    scaled_BHW.sum().backward()
    assert torch.equal(scaled_BHW, torch.zeros(1, 1, 3))
    assert torch.equal(map_BHW.grad, torch.zeros(1, 1, 3))


def test_minmax_gradient_is_right():
    assert gradcheck(minmax_normalise, features(2, 3, 3, dtype=torch.float64).requires_grad_())


def test_minmax_of_bfloat16_is_float32():
    assert minmax_normalise(features(1, 2, 2).bfloat16()).dtype == torch.float32


def test_minmax_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"got \(2, 2\)"):
        minmax_normalise(torch.zeros(2, 2))
