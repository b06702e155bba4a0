"""rkd against float64 NumPy with explicit loops, its anchors and its options."""

import itertools

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.rkd import RKD
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, with_inputs

STUDENT, TEACHER = spec(pooled_dim=4), spec(pooled_dim=6)


def rkd(**options):
    return create("rkd", STUDENT, TEACHER, DATA, **options)


def pair(batch_size=3, dtype=torch.float32):
    return (outputs(model, seed, batch_size=batch_size, dtype=dtype) for seed, model in enumerate((STUDENT, TEACHER)))


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def numpy_terms(student, teacher):
    """One value per anchor for distances and angles, from the formulas, without weights."""
    s, t = (o.pooled_BD.double().numpy() for o in (student, teacher))
    count = len(s)

    def distance(f, i, j):
        others = [np.linalg.norm(f[a] - f[b]) for a, b in itertools.permutations(range(count), 2)]
        return np.linalg.norm(f[i] - f[j]) / np.mean(others)

    def cosine(f, i, j, k):
        if i in (j, k):
            return 0.0
        return (f[j] - f[i]) @ (f[k] - f[i]) / np.linalg.norm(f[j] - f[i]) / np.linalg.norm(f[k] - f[i])

    distances = [[huber(distance(s, i, j) - distance(t, i, j)) for j in range(count)] for i in range(count)]
    angles = [
        [huber(cosine(s, i, j, k) - cosine(t, i, j, k)) for j, k in np.ndindex(count, count)] for i in range(count)
    ]
    return {"distance": np.mean(distances, axis=1), "angle": np.mean(angles, axis=1)}


def test_rkd_matches_the_reference_formula():
    student, teacher = pair(5)
    expected = numpy_terms(student, teacher)
    terms = values_of(rkd()(student, teacher, batch(5)))
    assert list(terms) == ["distance", "angle"]
    np.testing.assert_allclose(terms["distance"], 25 * expected["distance"].mean(), rtol=1e-5)
    np.testing.assert_allclose(terms["angle"], 50 * expected["angle"].mean(), rtol=1e-5)


def test_rkd_of_a_hand_worked_triangle():
    # A line of points 0, 1, 2 against one right angle of sides 1, at the first.
    student = with_inputs(outputs(STUDENT, 0), pooled_BD=torch.tensor([[0.0], [1.0], [2.0]]))
    corner = with_inputs(outputs(TEACHER, 0), pooled_BD=torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    terms = values_of(rkd(distance_weight=1, angle_weight=1)(student, corner, batch()))
    mean = (2 + 2**0.5) / 3
    distances = [0.75 - 1 / mean, 1.5 - 1 / mean, 0.75 - 2**0.5 / mean]
    np.testing.assert_allclose(terms["distance"], 2 * sum(0.5 * d**2 for d in distances) / 9, rtol=1e-5)
    # Cosines: at the first 1 against 0, at the second -1 against 0.71 (a linear part), at the third 1 against 0.71.
    angles = [0.5, 0.5 + 0.5**0.5, 0.5 * (1 - 0.5**0.5) ** 2]
    np.testing.assert_allclose(terms["angle"], 2 * sum(angles) / 27, rtol=1e-5)


def test_rkd_weights_anchors_and_divides_by_the_whole_batch():
    student, teacher = pair()
    terms = values_of(rkd()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))))
    for (name, values), weight in zip(numpy_terms(student, teacher).items(), (25, 50), strict=True):
        np.testing.assert_allclose(terms[name], weight * (values[0] + values[2]) / 3, rtol=1e-5)


@pytest.mark.parametrize(("option", "term"), [("distance_weight", "distance"), ("angle_weight", "angle")])
def test_rkd_option_scales_its_own_term_only(option, term):
    student, teacher = pair()
    default = values_of(rkd()(student, teacher, batch()))
    changed = values_of(rkd(**{option: 5.0})(student, teacher, batch()))
    expected = dict(default, **{term: default[term] * 5.0 / getattr(RKD.Options(), option)})
    assert changed == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("option", ["distance_weight", "angle_weight"])
def test_rkd_refuses_a_negative_weight(option):
    with pytest.raises(InputError, match=option):
        rkd(**{option: -1.0})


@pytest.mark.parametrize("batch_size", [1, 4])
def test_rkd_of_equal_features_is_zero_with_a_zero_gradient(batch_size):
    student, teacher = pair(batch_size)
    pooled_BD = torch.full_like(student.pooled_BD, 0.3).requires_grad_()
    constant = with_inputs(teacher, pooled_BD=torch.full_like(teacher.pooled_BD, 0.7))
    terms = rkd()(with_inputs(student, pooled_BD=pooled_BD), constant, batch(batch_size))
    sum(terms.values()).backward()
    assert values_of(terms) == {"distance": 0.0, "angle": 0.0}
    assert not pooled_BD.grad.any()


def test_rkd_gradient_is_right():
    student, teacher = pair(4, torch.float64)
    assert gradients_are_right(rkd(), student, teacher, batch(4), "pooled")
