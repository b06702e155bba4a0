"""fitnets against NumPy in float64, its options and what it refuses."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from tests.methods.cases import (
    batch,
    gradients_are_right,
    outputs,
    pooled_numpy,
    spec,
    values_of,
    weights_of,
    with_inputs,
)
from tests.methods.layered import conv_norm, create_seeded

STUDENT = spec(((2, 6, 6), (3, 8, 4), (4, 2, 2)))
TEACHER = spec(((4, 6, 6), (5, 4, 8), (6, 2, 2)))


def fitnets(student=STUDENT, teacher=TEACHER, **options):
    return create_seeded("fitnets", student, teacher, **options)


def numpy_projection(method, feature_BCHW, *, relu):
    projected = conv_norm(feature_BCHW, weights_of(method), "projection")
    return np.maximum(projected, 0) if relu else projected


def numpy_errors(method, student, teacher, *, relu):
    """The error of each sample at stage 2, both maps pooled to 4x4."""
    feature_s, feature_t = (pooled_numpy(o.stages[1].double().numpy(), 4, 4) for o in (student, teacher))
    return ((numpy_projection(method, feature_s, relu=relu) - feature_t) ** 2).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("relu", [True, False])
def test_fitnets_matches_the_reference_formula(relu):
    student, teacher, method = outputs(STUDENT, 0), outputs(TEACHER, 1), fitnets(relu=relu)
    terms = values_of(method(student, teacher, batch()))
    assert list(terms) == ["stage2"]
    expected = numpy_errors(method, student, teacher, relu=relu).mean()
    np.testing.assert_allclose(terms["stage2"], expected, rtol=1e-5)  # Float32 rounding.


def test_fitnets_weights_samples_and_divides_by_the_whole_batch():
    student, teacher, method = outputs(STUDENT, 0), outputs(TEACHER, 1), fitnets()
    value = method(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))["stage2"].item()
    error = numpy_errors(method, student, teacher, relu=True)
    np.testing.assert_allclose(value, (error[0] + error[2]) / 3, rtol=1e-5)


def test_fitnets_is_zero_when_the_projection_gives_the_teachers_features():
    pair = spec(((3, 4, 4), (3, 4, 4)))
    student, method = outputs(pair, 0), fitnets(pair, pair)
    target_BCHW = torch.from_numpy(numpy_projection(method, student.stages[1].double().numpy(), relu=True)).float()
    teacher = with_inputs(outputs(pair, 1), stages=(student.stages[0], target_BCHW))
    assert method(student, teacher, batch())["stage2"].item() < 1e-12  # Squares of 1e-7.


@pytest.mark.parametrize(
    ("options", "num_stages", "name"), [({}, 1, "stage1"), ({}, 3, "stage2"), ({"stage": 3}, 3, "stage3")]
)
def test_fitnets_compares_the_stage_asked_for_or_the_second_or_the_last(options, num_stages, name):
    pair = spec(((2, 4, 4), (3, 4, 4), (4, 2, 2))[:num_stages])
    terms = fitnets(pair, pair, **options)(outputs(pair, 0), outputs(pair, 1), batch())
    assert list(terms) == [name]


def test_fitnets_projects_the_channels_of_the_stage_asked_for():
    assert fitnets(stage=3).projection[0].weight.shape == (6, 4, 1, 1)


@pytest.mark.parametrize(("relu", "has_negatives"), [(True, False), (False, True)])
def test_fitnets_projects_to_negative_values_only_without_a_relu(relu, has_negatives):
    assert bool((fitnets(relu=relu).projection(outputs(STUDENT, 0).stages[1]) < 0).any()) == has_negatives


def test_fitnets_gradient_is_right():
    student_spec, teacher_spec = spec(((1, 2, 2), (2, 4, 2))), spec(((1, 2, 2), (2, 2, 4)))
    student, teacher = (
        outputs(s, n, batch_size=2, dtype=torch.float64) for n, s in enumerate((student_spec, teacher_spec))
    )
    assert gradients_are_right(fitnets(student_spec, teacher_spec), student, teacher, batch(2), "stages")


def test_fitnets_refuses_a_stage_that_does_not_exist():
    with pytest.raises(InputError, match="among the paired stages, 1 to 3, got 4"):
        fitnets(stage=4)
