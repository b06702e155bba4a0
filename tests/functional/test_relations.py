"""Relations within a batch against float64 NumPy with explicit loops, their invariants and their gradients."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.relations import (
    angle_relation_per_anchor,
    distance_relation_per_anchor,
    similarity_difference_per_anchor,
    similarity_divergence_per_anchor,
)

ALL = [
    distance_relation_per_anchor,
    angle_relation_per_anchor,
    similarity_difference_per_anchor,
    similarity_divergence_per_anchor,
]
GEOMETRY, COSINES = ALL[:2], ALL[2:]


def features(width=5, *, seed=0, batch_size=4, dtype=torch.float64):
    return torch.randn(batch_size, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(dtype=torch.float64):
    return features(5, seed=0, dtype=dtype), features(7, seed=1, dtype=dtype)


def rotation(width, seed=2):
    return torch.linalg.qr(features(width, seed=seed, batch_size=width)).Q


def huber(x):
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def numpy_distances(feature_BD):
    count = len(feature_BD)
    distances = np.array([[np.linalg.norm(a - b) for b in feature_BD] for a in feature_BD])
    return distances / (distances.sum() / (count * (count - 1)))


def numpy_cosines(feature_BD):
    count = len(feature_BD)
    cosines = np.zeros((count, count, count))
    for i, j, k in np.ndindex(cosines.shape):
        if i not in (j, k):
            a, b = feature_BD[j] - feature_BD[i], feature_BD[k] - feature_BD[i]
            cosines[i, j, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return cosines


def numpy_gram(feature_BD):
    rows = [[a @ b for b in feature_BD] for a in feature_BD]
    return np.array([row / np.sqrt(np.sum(np.square(row))) for row in rows])


def numpy_probabilities(feature_BD):
    count = len(feature_BD)
    affinity = np.zeros((count, count))
    for i, j in np.ndindex(affinity.shape):
        a, b = feature_BD[i], feature_BD[j]
        affinity[i, j] = 0.5 * (1 + a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return affinity / affinity.sum(axis=1)[:, None]


def reference_values(function, student_BD, teacher_BE):
    s, t = student_BD.double().numpy(), teacher_BE.double().numpy()
    if function is distance_relation_per_anchor:
        return np.vectorize(huber)(numpy_distances(s) - numpy_distances(t)).mean(axis=1)
    if function is angle_relation_per_anchor:
        return np.vectorize(huber)(numpy_cosines(s) - numpy_cosines(t)).mean(axis=(1, 2))
    if function is similarity_difference_per_anchor:
        return ((numpy_gram(s) - numpy_gram(t)) ** 2).sum(axis=1) / len(s)
    p, q = numpy_probabilities(t), numpy_probabilities(s)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).mean(axis=1)


@pytest.mark.parametrize("function", ALL)
def test_relations_equal_the_reference(function):
    expected = reference_values(function, *pair())
    np.testing.assert_allclose(function(*pair()), expected, rtol=1e-10)


def test_distances_more_than_one_mean_apart_are_compared_linearly():
    # Distances 1, 10 and 11 with mean 22 / 3: seen from the first, 3 / 22 against 33 / 22 for both others.
    student_BD, teacher_BE = torch.tensor([[0.0], [1.0], [11.0]]), torch.tensor([[0.0], [11.0], [1.0]])
    value = distance_relation_per_anchor(student_BD, teacher_BE)[0].item()
    np.testing.assert_allclose(value, 2 * (30 / 22 - 0.5) / 3, rtol=1e-6)


@pytest.mark.parametrize("function", ALL)
def test_relations_are_zero_for_equal_features(function):
    student_BD, _ = pair()
    np.testing.assert_allclose(function(student_BD, student_BD.clone()), 0, atol=1e-15)


@pytest.mark.parametrize("function", ALL)
def test_relations_do_not_see_a_scaled_and_rotated_student(function):
    student_BD, teacher_BE = pair()
    moved_BD = 3.0 * student_BD @ rotation(5)
    np.testing.assert_allclose(function(moved_BD, teacher_BE), function(student_BD, teacher_BE), rtol=1e-10)


@pytest.mark.parametrize("function", GEOMETRY)
def test_distances_and_angles_do_not_see_a_shift(function):
    student_BD, teacher_BE = pair()
    np.testing.assert_allclose(function(student_BD + 5.0, teacher_BE), function(student_BD, teacher_BE), rtol=1e-10)


@pytest.mark.parametrize("function", COSINES)
def test_similarities_see_a_shift(function):
    student_BD, teacher_BE = pair()
    assert (function(student_BD + 5.0, teacher_BE) - function(student_BD, teacher_BE)).abs().min() > 1e-3


@pytest.mark.parametrize("function", ALL)
def test_values_follow_their_anchors_when_the_batch_is_reordered(function):
    student_BD, teacher_BE = pair()
    order = torch.tensor([2, 0, 3, 1])
    reordered = function(student_BD[order], teacher_BE[order])
    np.testing.assert_allclose(reordered, function(student_BD, teacher_BE)[order], rtol=1e-10)


@pytest.mark.parametrize(("function", "factor"), [*((f, 1.0) for f in GEOMETRY), *((f, 0.5) for f in COSINES)])
def test_a_doubled_batch_gives_the_same_distances_and_angles_and_half_the_similarities(function, factor):
    student_BD, teacher_BE = pair()
    doubled = function(student_BD.repeat(2, 1), teacher_BE.repeat(2, 1))
    expected = factor * function(student_BD, teacher_BE).repeat(2)
    np.testing.assert_allclose(doubled, expected, rtol=1e-4)  # The 1e-7 beside halved probabilities.


@pytest.mark.parametrize("function", ALL)
def test_gradients_are_right_for_both_networks(function):
    inputs = (features(3, batch_size=3).requires_grad_(), features(2, seed=1, batch_size=3).requires_grad_())
    assert gradcheck(function, inputs)


@pytest.mark.parametrize("function", ALL)
def test_a_batch_of_one_gives_zero_with_a_finite_gradient(function):
    student_BD = features(3, batch_size=1, dtype=torch.float32).requires_grad_()
    value_B = function(student_BD, features(2, batch_size=1, seed=1, dtype=torch.float32))
    value_B.sum().backward()
    torch.testing.assert_close(value_B.detach(), torch.zeros(1), rtol=0, atol=1e-7)  # Rounding of a quotient of 1.
    assert student_BD.grad.isfinite().all()


@pytest.mark.parametrize("function", ALL)
def test_equal_samples_in_both_networks_give_zero_with_a_zero_gradient(function):
    student_BD = torch.full((4, 3), 0.1, requires_grad=True)
    value_B = function(student_BD, torch.full((4, 5), 0.7))
    value_B.sum().backward()
    torch.testing.assert_close(value_B.detach(), torch.zeros(4), rtol=0, atol=1e-7)
    torch.testing.assert_close(student_BD.grad, torch.zeros(4, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("kind", ["equal", "zero"])
def test_equal_or_zero_samples_of_the_student_alone_get_no_inflated_gradient(function, kind):
    student_BD, teacher_BE = pair(torch.float32)
    student_BD[1] = student_BD[0] if kind == "equal" else 0.0
    student_BD.requires_grad_()
    function(student_BD, teacher_BE).sum().backward()
    assert student_BD.grad.abs().max() < 10  # Normalising with an epsilon of 1e-12 gives about 1e12.


def test_copies_of_a_sample_do_not_count_in_the_mean_distance():
    student_BD, teacher_BE = torch.tensor([[0.0], [0.0], [2.0]]), torch.tensor([[0.0], [0.0], [5.0]])
    np.testing.assert_allclose(distance_relation_per_anchor(student_BD, teacher_BE), 0, atol=1e-7)
    different_BE = torch.tensor([[0.0], [3.0], [3.0]])  # Scaled, from the first: 0 and 1; 1 and 1.
    np.testing.assert_allclose(distance_relation_per_anchor(student_BD, different_BE)[0], 0.5 / 3, rtol=1e-6)


def test_opposite_features_keep_the_probabilities_finite():
    student_BD = features(300, batch_size=1, dtype=torch.float32) * torch.tensor([[1.0], [-1.0]])
    value_B = similarity_divergence_per_anchor(student_BD, torch.ones(2, 4))
    expected = 0.5 * (np.log(0.5 / 1.0) + np.log(0.5 / 1e-7)) / 2
    np.testing.assert_allclose(value_B, expected, rtol=0.1)  # The cosine rounds by about 1e-7, the log's argument.


@pytest.mark.parametrize("function", ALL)
def test_bfloat16_under_autocast_is_float32_of_the_rounded_values(function):
    student_BD, teacher_BE = (x.bfloat16() for x in pair())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value_B = function(student_BD, teacher_BE)
    assert value_B.dtype == torch.float32
    np.testing.assert_allclose(value_B, reference_values(function, student_BD, teacher_BE), rtol=1e-4)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4, 3, 1), (4, 3)), ((4, 3), (4,))])
def test_other_shapes_are_refused(function, shapes):
    with pytest.raises(ValueError, match=r"shapes \(B, D\) and \(B, E\) with one batch size B"):
        function(*(torch.zeros(shape) for shape in shapes))
