"""Maximum mean discrepancy between channels against float64 NumPy, its invariants and its gradients."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.channels import channel_discrepancy_per_sample

MORE_CHANNELS, MORE_POSITIONS = (4, 6, 5), (2, 3, 9)
"""Channels of the student, of the teacher, positions: one size for each of the two forms of the computation."""


def features(channels, positions, *, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, positions, generator=generator, dtype=dtype)


def pair(sizes, dtype=torch.float64):
    student_channels, teacher_channels, positions = sizes
    return (
        features(student_channels, positions, seed=0, dtype=dtype),
        features(teacher_channels, positions, seed=1, dtype=dtype),
    )


def mean_kernel(x_CP, y_DP):
    return np.mean([[(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) ** 2 for y in y_DP] for x in x_CP])


def reference_values(student_BCP, teacher_BDP):
    pairs = zip(student_BCP.double().numpy(), teacher_BDP.double().numpy(), strict=True)
    return [mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t) for s, t in pairs]


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_discrepancy_equals_the_reference(sizes):
    expected = reference_values(*pair(sizes))
    np.testing.assert_allclose(channel_discrepancy_per_sample(*pair(sizes)), expected, rtol=1e-10)


def test_discrepancy_of_perpendicular_channels_is_two():
    student_BCP, teacher_BDP = torch.tensor([[[5.0, 0.0]]]), torch.tensor([[[0.0, 3.0]]])
    assert channel_discrepancy_per_sample(student_BCP, teacher_BDP).item() == 2.0


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_discrepancy_is_zero_for_the_same_channels_in_another_order_scaled_negated_and_repeated(sizes):
    teacher_BDP = features(sizes[1], sizes[2], seed=1)
    student_BCP = torch.cat([3.0 * teacher_BDP.flip(1), -teacher_BDP], dim=1)
    np.testing.assert_allclose(channel_discrepancy_per_sample(student_BCP, teacher_BDP), 0, atol=1e-14)


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_discrepancy_does_not_change_when_positions_are_reordered_in_both(sizes):
    student_BCP, teacher_BDP = pair(sizes)
    flipped = channel_discrepancy_per_sample(student_BCP.flip(2), teacher_BDP.flip(2))
    np.testing.assert_allclose(flipped, channel_discrepancy_per_sample(student_BCP, teacher_BDP), rtol=1e-10)


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_gradients_are_right_for_both_networks(sizes):
    assert gradcheck(channel_discrepancy_per_sample, tuple(x.requires_grad_() for x in pair(sizes)))


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_a_dead_channel_counts_but_adds_nothing_and_gets_no_gradient(sizes):
    student_BCP, teacher_BDP = pair(sizes)
    student_BCP[:, 0] = 0.0
    student_BCP.requires_grad_()
    value_B = channel_discrepancy_per_sample(student_BCP, teacher_BDP)
    value_B.sum().backward()
    alive = (sizes[0] - 1) / sizes[0]
    for s, t, value in zip(student_BCP[:, 1:].detach().numpy(), teacher_BDP.numpy(), value_B, strict=True):
        expected = mean_kernel(t, t) + alive**2 * mean_kernel(s, s) - 2 * alive * mean_kernel(s, t)
        np.testing.assert_allclose(value.item(), expected, rtol=1e-10)
    assert not student_BCP.grad[:, 0].any()


@pytest.mark.parametrize("sizes", [MORE_CHANNELS, MORE_POSITIONS])
def test_bfloat16_under_autocast_is_float32_of_the_rounded_values(sizes):
    student_BCP, teacher_BDP = pair(sizes, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value_B = channel_discrepancy_per_sample(student_BCP, teacher_BDP)
    assert value_B.dtype == torch.float32
    np.testing.assert_allclose(value_B, reference_values(student_BCP, teacher_BDP), rtol=1e-5)


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 3, 5)), ((2, 3, 4), (1, 3, 4)), ((2, 3), (2, 3))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=r"shapes \(B, C, P\) and \(B, D, P\) with one B and one P"):
        channel_discrepancy_per_sample(*(torch.zeros(shape) for shape in shapes))
