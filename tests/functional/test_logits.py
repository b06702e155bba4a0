"""KL on logits, its two parts, standardised logits and correlations against scipy and NumPy, limits and gradients."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, rel_entr, softmax
from scipy.stats import pearsonr, zscore
from torch.autograd import gradcheck

from dctkd.functional.logits import (
    correlation_per_row,
    decoupled_kl_per_sample,
    kl_from_logits,
    kl_per_sample,
    standardise_logits,
)

TARGET_B = torch.tensor([3, 0, 6, 3])


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


def scipy_parts(student_BK, teacher_BK, target_B, temperature):
    """T^2 times the KL on (target, rest) and the KL among the rest, sample by sample."""
    parts = []
    for student_K, teacher_K, target in zip(student_BK, teacher_BK, target_B.tolist(), strict=True):
        q, p = (softmax(z.double().numpy() / temperature) for z in (student_K, teacher_K))
        rest_q, rest_p = np.delete(q, target), np.delete(p, target)
        on_target = rel_entr([p[target], rest_p.sum()], [q[target], rest_q.sum()]).sum()
        among_others = rel_entr(rest_p / rest_p.sum(), rest_q / rest_q.sum()).sum()
        parts.append((temperature**2 * on_target, temperature**2 * among_others))
    return np.array(parts).T


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_parts_of_kl_equal_scipy(temperature):
    student_BK, teacher_BK = logits(), logits(seed=1)
    parts = decoupled_kl_per_sample(student_BK, teacher_BK, TARGET_B, temperature=temperature)
    expected = scipy_parts(student_BK, teacher_BK, TARGET_B, temperature)
    np.testing.assert_allclose(torch.stack(parts), expected, rtol=1e-4, atol=1e-6)  # Float32 differences of logs.


def test_the_parts_of_kl_add_up_to_it():
    student_BK, teacher_BK = logits(dtype=torch.float64), logits(seed=1, dtype=torch.float64)
    on_target_B, among_others_B = decoupled_kl_per_sample(student_BK, teacher_BK, TARGET_B, temperature=2.0)
    p_target_B = (teacher_BK / 2.0).softmax(dim=1).gather(1, TARGET_B.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(
        on_target_B + (1 - p_target_B) * among_others_B, kl_per_sample(student_BK, teacher_BK, temperature=2.0)
    )


def test_the_other_part_of_kl_does_not_see_the_target_logit():
    student_BK, teacher_BK = logits(), logits(seed=1)
    raised_BK = student_BK.scatter(1, TARGET_B.unsqueeze(1), 1e5)
    before, after = (
        decoupled_kl_per_sample(z, teacher_BK, TARGET_B, temperature=1.0)[1] for z in (student_BK, raised_BK)
    )
    assert torch.equal(before, after)


def test_the_other_part_of_kl_counts_other_logits_far_below_the_target():
    """Subtracting 1000 from the target logit would leave it the largest here."""
    student_BK = torch.tensor([[5000.0, 1.0, 0.0]])
    parts = decoupled_kl_per_sample(student_BK, student_BK[:, [0, 2, 1]], torch.tensor([0]), temperature=1.0)
    np.testing.assert_allclose(parts[1].item(), rel_entr(softmax([0, 1]), softmax([1, 0])).sum(), rtol=1e-5)


def test_the_other_part_of_kl_is_zero_for_two_classes():
    student_BK, teacher_BK = logits(3, 2), logits(3, 2, seed=1)
    _, among_others_B = decoupled_kl_per_sample(student_BK, teacher_BK, torch.tensor([0, 1, 0]), temperature=1.0)
    assert torch.equal(among_others_B, torch.zeros(3))


def test_the_target_part_of_confident_networks_is_exact_and_has_a_finite_gradient():
    """The student's 1 - p_t, about 1e-87, is 0 in float32."""
    student_BK = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    teacher_BK = torch.tensor([[1.0, 0.0, 0.0]])
    on_target_B, _ = decoupled_kl_per_sample(student_BK, teacher_BK, torch.tensor([0]), temperature=1.0)
    on_target_B.sum().backward()
    p = softmax([1.0, 0.0, 0.0])
    log_q, log_rest_q = log_softmax([200.0, 0.0, 0.0])[0], logsumexp([0.0, 0.0]) - logsumexp([200.0, 0.0, 0.0])
    expected = p[0] * (np.log(p[0]) - log_q) + (1 - p[0]) * (np.log(1 - p[0]) - log_rest_q)
    np.testing.assert_allclose(on_target_B.item(), expected, rtol=1e-6)
    assert student_BK.grad.isfinite().all()


def test_the_parts_of_kl_have_right_gradients_for_both_inputs():
    inputs = (logits(2, 4, dtype=torch.float64).requires_grad_(), logits(2, 4, 1, torch.float64).requires_grad_())
    target_B = torch.tensor([3, 1])
    assert gradcheck(lambda s, t: decoupled_kl_per_sample(s, t, target_B, temperature=3.0), inputs)


@pytest.mark.parametrize(("num_classes", "num_targets"), [(1, 2), (3, 1)])
def test_the_parts_of_kl_need_two_classes_and_a_target_per_sample(num_classes, num_targets):
    logits_BK = torch.zeros(2, num_classes)
    with pytest.raises(ValueError, match=r"at least two classes and targets \(B,\); got logits"):
        decoupled_kl_per_sample(logits_BK, logits_BK, torch.zeros(num_targets, dtype=torch.int64), temperature=1.0)


def test_standardised_logits_equal_the_z_score_of_scipy():
    logits_BK = logits() + 4.0
    expected = zscore(logits_BK.double().numpy(), axis=1, ddof=0)
    np.testing.assert_allclose(standardise_logits(logits_BK), expected, atol=1e-5)


def test_the_released_code_standardises_at_a_fixed_factor_of_the_temperature():
    logits_BK = logits(dtype=torch.float64)
    released_BK = (logits_BK - logits_BK.mean(dim=1, keepdim=True)) / (logits_BK.std(dim=1, keepdim=True) + 1e-7)
    torch.testing.assert_close(released_BK / 2.0, standardise_logits(logits_BK) / (2.0 * (7 / 6) ** 0.5))


def test_standardised_logits_are_blind_to_shift_and_positive_scale():
    logits_BK = logits(dtype=torch.float64)
    # 1e-7 in the denominator is not scaled along.
    torch.testing.assert_close(
        standardise_logits(5.0 * logits_BK - 2.0), standardise_logits(logits_BK), rtol=1e-6, atol=0
    )


def test_standardised_constant_logits_are_zero_with_a_finite_gradient():
    logits_BK = torch.tensor([[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]], requires_grad=True)
    standardised_BK = standardise_logits(logits_BK)
    (standardised_BK * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    assert torch.equal(standardised_BK, torch.zeros(2, 3))
    assert logits_BK.grad.isfinite().all()


def test_standardised_bfloat16_logits_are_float32():
    assert standardise_logits(logits().bfloat16()).dtype == torch.float32


def test_standardised_logits_have_a_right_gradient():
    assert gradcheck(standardise_logits, (logits(2, 4, dtype=torch.float64).requires_grad_(),))


def test_logits_that_are_no_matrix_cannot_be_standardised():
    with pytest.raises(ValueError, match=r"shape \(B, K\), got \(3,\)"):
        standardise_logits(torch.zeros(3))


def test_correlation_equals_scipy():
    student_RN, teacher_RN = logits(), logits(seed=1)
    expected = [pearsonr(s, t).statistic for s, t in zip(student_RN.double(), teacher_RN.double(), strict=True)]
    np.testing.assert_allclose(correlation_per_row(student_RN, teacher_RN), expected, atol=1e-6)


def test_an_integer_weight_of_a_correlation_repeats_the_column():
    student_RN, teacher_RN = logits(dtype=torch.float64), logits(seed=1, dtype=torch.float64)
    count_N = torch.tensor([1, 0, 2, 1, 0, 3, 1])
    repeated = correlation_per_row(*(x.repeat_interleave(count_N, dim=1) for x in (student_RN, teacher_RN)))
    torch.testing.assert_close(correlation_per_row(student_RN, teacher_RN, count_N.float()), repeated)


def test_correlation_weights_of_one_change_nothing():
    student_RN, teacher_RN = logits(), logits(seed=1)
    weighted = correlation_per_row(student_RN, teacher_RN, torch.ones(7))
    assert torch.equal(weighted, correlation_per_row(student_RN, teacher_RN))


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_correlation_of_constant_or_unweighted_rows_is_zero_with_a_finite_gradient(weight):
    student_RN = torch.full((2, 7), 0.5, requires_grad=True)
    correlation_R = correlation_per_row(student_RN, logits(2), torch.full((7,), weight))
    correlation_R.sum().backward()
    assert torch.equal(correlation_R, torch.zeros(2))
    assert student_RN.grad.isfinite().all()


def test_correlation_has_right_gradients_for_both_inputs():
    inputs = (logits(2, 4, dtype=torch.float64).requires_grad_(), logits(2, 4, 1, torch.float64).requires_grad_())
    weight_N = torch.tensor([1.0, 0.5, 0.0, 2.0])
    assert gradcheck(lambda s, t: correlation_per_row(s, t, weight_N), inputs)


@pytest.mark.parametrize(("shape", "num_weights", "message"), [((2, 4), 3, "one shape"), ((2, 3), 2, "one weight")])
def test_correlation_refuses_other_shapes(shape, num_weights, message):
    with pytest.raises(ValueError, match=message):
        correlation_per_row(torch.zeros(2, 3), torch.zeros(*shape), torch.ones(num_weights))
