"""pkt against scipy in float64, its anchors and its invariants."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, with_inputs

STUDENT, TEACHER = spec(pooled_dim=4), spec(pooled_dim=6)
EPSILON = 1e-7


def pkt():
    return create("pkt", STUDENT, TEACHER, DATA)


def pair(batch_size=3, dtype=torch.float32):
    """Outputs without an image whose pooled features are all 0: such an image has no cosine in scipy."""
    both = (outputs(model, seed, batch_size=batch_size, dtype=dtype) for seed, model in enumerate((STUDENT, TEACHER)))
    return (with_inputs(given, pooled_BD=given.pooled_BD + 0.1) for given in both)


def probabilities(pooled_BD):
    affinity = 1 - cdist(pooled_BD.double().numpy(), pooled_BD.double().numpy(), "cosine") / 2
    return affinity / affinity.sum(axis=1, keepdims=True)


def scipy_rows(student, teacher):
    """One value per anchor, from the formula: mean over the row of p log((p + epsilon) / (q + epsilon))."""
    p, q = (probabilities(o.pooled_BD) for o in (teacher, student))
    return (p * np.log((p + EPSILON) / (q + EPSILON))).mean(axis=1)


def test_pkt_matches_the_reference_formula():
    student, teacher = pair(5)
    terms = values_of(pkt()(student, teacher, batch(5)))
    assert list(terms) == ["kl"]
    np.testing.assert_allclose(terms["kl"], scipy_rows(student, teacher).mean(), rtol=1e-4)  # 1e-7 of each log.


def test_pkt_is_close_to_the_divergence_without_epsilon():
    student, teacher = pair(5)
    divergence = rel_entr(*(probabilities(o.pooled_BD) for o in (teacher, student))).sum(axis=1).mean()
    np.testing.assert_allclose(values_of(pkt()(student, teacher, batch(5)))["kl"], divergence / 5, rtol=1e-4)


def test_pkt_of_a_hand_worked_batch():
    # Student perpendicular: 2/3 itself, 1/3 the other. Teacher parallel: 1/2 each.
    student, teacher = pair(2)
    student = with_inputs(student, pooled_BD=torch.eye(2))
    teacher = with_inputs(teacher, pooled_BD=torch.tensor([[1.0], [4.0]]))
    expected = 0.5 * (0.5 * np.log(3 / 4) + 0.5 * np.log(3 / 2))
    np.testing.assert_allclose(values_of(pkt()(student, teacher, batch(2)))["kl"], expected, rtol=1e-5)


def test_pkt_weights_anchors_and_divides_by_the_whole_batch():
    student, teacher = pair()
    rows = scipy_rows(student, teacher)
    term = pkt()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))["kl"]
    np.testing.assert_allclose(term.item(), (rows[0] + rows[2]) / 3, rtol=1e-4)


def test_pkt_is_zero_for_features_scaled_by_image():
    student, _ = pair()
    scaled = with_inputs(student, pooled_BD=student.pooled_BD * torch.tensor([[1.0], [2.0], [5.0]]))
    value = create("pkt", STUDENT, STUDENT, DATA)(scaled, student, batch())["kl"].item()
    assert value == pytest.approx(0.0, abs=1e-7)  # Rounding of the logarithm.


def test_pkt_of_a_student_without_features_gets_a_zero_gradient():
    student, teacher = pair()
    pooled_BD = torch.zeros_like(student.pooled_BD, requires_grad=True)
    pkt()(with_inputs(student, pooled_BD=pooled_BD), teacher, batch())["kl"].backward()
    assert not pooled_BD.grad.any()


def test_pkt_gradient_is_right():
    student, teacher = pair(4, torch.float64)
    assert gradients_are_right(pkt(), student, teacher, batch(4), "pooled")
