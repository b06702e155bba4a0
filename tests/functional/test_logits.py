"""KL on logits against scipy, its limits and its gradients."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.autograd import gradcheck

from dctkd.functional.logits import kl_from_logits, kl_per_sample


def logits(batch_size=4, num_classes=7, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(batch_size, num_classes, generator=generator, dtype=dtype)


def scipy_kl(student_BK, teacher_BK, temperature):
    p = softmax(teacher_BK.double().numpy() / temperature, axis=1)
    q = softmax(student_BK.double().numpy() / temperature, axis=1)
    return temperature**2 * rel_entr(p, q).sum(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 0.5])
def test_kl_equals_scipy(temperature):
    student_BK, teacher_BK = logits(), logits(seed=1)
    expected = scipy_kl(student_BK, teacher_BK, temperature)
    np.testing.assert_allclose(kl_per_sample(student_BK, teacher_BK, temperature=temperature), expected, rtol=1e-5)
    value = kl_from_logits(student_BK, teacher_BK, temperature=temperature).item()
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)


def test_kl_is_zero_for_equal_logits_shifted_by_a_constant():
    torch.testing.assert_close(
        kl_from_logits(logits() + 5.0, logits(), temperature=4.0), torch.zeros(()), rtol=0, atol=1e-6
    )


def test_kl_times_squared_temperature_tends_to_half_the_variance_of_the_difference():
    student_BK, teacher_BK = logits(dtype=torch.float64), logits(seed=1, dtype=torch.float64)
    expected = 0.5 * (teacher_BK - student_BK).numpy().var(axis=1).mean()
    value = kl_from_logits(student_BK, teacher_BK, temperature=1e4).item()
    np.testing.assert_allclose(value, expected, rtol=1e-3)  # The next term of the expansion is of order 1 / T.


def test_kl_of_a_doubled_batch_is_the_same():
    student_BK, teacher_BK = logits(), logits(seed=1)
    doubled = kl_from_logits(student_BK.repeat(2, 1), teacher_BK.repeat(2, 1), temperature=2.0)
    torch.testing.assert_close(doubled, kl_from_logits(student_BK, teacher_BK, temperature=2.0))


def test_kl_of_bfloat16_is_float32_of_the_rounded_values():
    student_BK, teacher_BK = logits().bfloat16(), logits(seed=1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = kl_from_logits(student_BK, teacher_BK, temperature=4.0)
    assert value.dtype == torch.float32
    np.testing.assert_allclose(value.item(), scipy_kl(student_BK, teacher_BK, 4.0).mean(), rtol=1e-5)


def test_kl_of_extreme_logits_is_finite():
    student_BK = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = kl_from_logits(student_BK, torch.tensor([[-1e4, 1e4, 0.0]]), temperature=1.0)
    value.backward()
    assert value.item() == pytest.approx(2e4)
    assert student_BK.grad.isfinite().all()


def test_kl_gradients_are_right_for_both_inputs():
    inputs = (logits(2, 4, dtype=torch.float64).requires_grad_(), logits(2, 4, 1, torch.float64).requires_grad_())
    assert gradcheck(lambda s, t: kl_from_logits(s, t, temperature=3.0), inputs)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape \(B, K\); got \(2, 3\) and \(2, 4\)"):
        kl_from_logits(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be > 0"):
        kl_from_logits(torch.zeros(1, 2), torch.zeros(1, 2), temperature=temperature)
