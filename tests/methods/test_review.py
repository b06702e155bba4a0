"""review against NumPy in float64, how levels reach each other, and its option."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit

from tests.methods.cases import batch, gradients_are_right, outputs, spec, values_of, weights_of, with_inputs
from tests.methods.layered import conv_norm, convolve, create_seeded

STUDENT = spec(((2, 8, 4), (3, 4, 4), (6, 2, 2)), pooled_dim=5)
# The first stage is smaller than the student's, the second larger, so that maps are resized in both directions.
TEACHER = spec(((4, 4, 4), (5, 8, 8), (7, 2, 2)), pooled_dim=3)
BATCH_SIZE = 3


def review(student=STUDENT, teacher=TEACHER, **options):
    return create_seeded("review", student, teacher, **options).double()


def networks(student=STUDENT, teacher=TEACHER, batch_size=BATCH_SIZE):
    return (outputs(s, n, batch_size=batch_size, dtype=torch.float64) for n, s in enumerate((student, teacher)))


def numpy_levels(network):
    return [*(stage.numpy() for stage in network.stages), network.pooled_BD.numpy()[:, :, None, None]]


def numpy_nearest(x_BCHW, height, width):
    rows, columns = (np.arange(new) * old // new for new, old in zip((height, width), x_BCHW.shape[2:], strict=True))
    return x_BCHW[:, :, rows][:, :, :, columns]


def numpy_hcl(output, target):
    """One value per sample; all grids divide the maps used here."""
    side = min(output.shape[2:])
    total, weight_sum, weight = ((output - target) ** 2).mean(axis=(1, 2, 3)), 1.0, 1.0
    for grid in (4, 2, 1):
        if grid >= side:
            continue
        weight /= 2
        blocks = [
            f.reshape(*f.shape[:2], grid, f.shape[2] // grid, grid, f.shape[3] // grid).mean(axis=(3, 5))
            for f in (output, target)
        ]
        total = total + weight * ((blocks[0] - blocks[1]) ** 2).mean(axis=(1, 2, 3))
        weight_sum += weight
    return total / weight_sum


def numpy_terms(method, student, teacher):
    """One value per sample and level, shallow to deep, from the definition."""
    terms, deeper = [], None
    pairs = list(zip(numpy_levels(student), numpy_levels(teacher), strict=True))
    for level, (x, target) in reversed(list(enumerate(pairs))):
        weights = weights_of(method.fusions[level])
        x = conv_norm(x, weights, "reduce")
        if deeper is not None:
            y = numpy_nearest(deeper, *x.shape[2:])
            gates = expit(convolve(np.concatenate([x, y], axis=1), weights["gates.weight"], weights["gates.bias"]))
            x = x * gates[:, :1] + y * gates[:, 1:]
        deeper = numpy_nearest(x, *target.shape[2:])
        terms.insert(0, numpy_hcl(conv_norm(deeper, weights, "expand"), target))
    return terms


def test_review_matches_the_reference_formula():
    (student, teacher), method = networks(), review()
    terms = values_of(method(student, teacher, batch()))
    assert list(terms) == ["stage1", "stage2", "stage3", "pooled"]
    expected = [term.mean() for term in numpy_terms(method, student, teacher)]
    np.testing.assert_allclose(list(terms.values()), expected, rtol=1e-10)


def test_review_weights_samples_and_divides_by_the_whole_batch():
    (student, teacher), method = networks(), review()
    terms = values_of(method(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))))
    expected = [(term[0] + term[2]) / 3 for term in numpy_terms(method, student, teacher)]
    np.testing.assert_allclose(list(terms.values()), expected, rtol=1e-10)


@pytest.mark.parametrize(("term", "is_reached"), [("stage1", [True] * 4), ("stage3", [False, False, True, True])])
def test_review_hands_deeper_levels_up_and_never_down(term, is_reached):
    (student, teacher), method = networks(), review()
    levels = [tensor.requires_grad_() for tensor in (*student.stages, student.pooled_BD)]
    method(student, teacher, batch())[term].backward()
    assert [level.grad is not None and bool(level.grad.any()) for level in levels] == is_reached


def test_review_gradient_is_right():
    student_spec, teacher_spec = spec(((1, 4, 2), (2, 2, 1))), spec(((2, 2, 4), (1, 2, 2)))
    student, teacher = networks(student_spec, teacher_spec)
    assert gradients_are_right(review(student_spec, teacher_spec), student, teacher, batch(), "stages")


def test_review_gradient_by_the_pooled_features_is_right():
    student_spec, teacher_spec = spec(((1, 4, 2), (2, 2, 1))), spec(((2, 2, 4), (1, 2, 2)))
    student, teacher = networks(student_spec, teacher_spec)
    assert gradients_are_right(review(student_spec, teacher_spec), student, teacher, batch(), "pooled")


@pytest.mark.parametrize(
    ("options", "last_channels", "mid_channels"), [({}, 6, 6), ({}, 600, 512), ({"mid_channels": 9}, 600, 9)]
)
def test_review_fuses_in_the_channels_of_the_last_stage_up_to_512_or_in_those_asked_for(
    options, last_channels, mid_channels
):
    method = review(spec(((2, 4, 4), (last_channels, 2, 2))), spec(((2, 4, 4), (3, 2, 2))), **options)
    assert [fusion.reduce[0].out_channels for fusion in method.fusions] == [mid_channels] * 3


def test_review_draws_its_convolutions_from_the_interval_of_the_release():
    for fusion in review(spec(((30, 4, 4), (40, 2, 2))), spec(((30, 4, 4), (40, 2, 2)))).fusions:
        for layer in (fusion.reduce[0], fusion.expand[0]):
            # Kaiming, a = 1: uniform within sqrt(3 / inputs). PyTorch's own interval ends at sqrt(1 / inputs).
            bound = math.sqrt(3 / layer.weight[0].numel())
            assert 0.9 * bound < layer.weight.abs().max().item() <= bound


def test_review_compares_the_pooled_features_by_their_squared_error():
    (student, teacher), method = networks(), review()
    before = values_of(method(student, teacher, batch()))
    other = with_inputs(teacher, pooled_BD=teacher.pooled_BD + 1.0)
    after = values_of(method(student, other, batch()))
    assert [name for name in before if before[name] != after[name]] == ["pooled"]
