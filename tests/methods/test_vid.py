"""vid against NumPy in float64, hand-worked cases and its options."""

import math

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
from tests.methods.layered import convolve, create_seeded

STUDENT = spec(((2, 8, 4), (3, 4, 4)))
TEACHER = spec(((4, 4, 8), (5, 4, 4)))


def vid(student=STUDENT, teacher=TEACHER, **options):
    return create_seeded("vid", student, teacher, **options)


def with_unequal_variances(method):
    """Give every channel another variance."""
    with torch.no_grad():
        for predictor in method.predictors:
            predictor.variance_logit_C.copy_(torch.linspace(-1.5, 2.0, len(predictor.variance_logit_C)))
    return method


def numpy_terms(method, student, teacher):
    """One value per sample and stage, from the formula."""
    terms = []
    for n, features in enumerate(zip(student.stages, teacher.stages, strict=True)):
        mean, target = (pooled_numpy(feature.double().numpy(), 4, 4) for feature in features)
        weights = weights_of(method.predictors[n])
        for layer in (0, 2, 4):
            mean = convolve(mean if layer == 0 else np.maximum(mean, 0), weights[f"mean.{layer}.weight"])
        variance = (np.log1p(np.exp(weights["variance_logit_C"])) + 1e-5)[:, None, None]
        terms.append((((mean - target) ** 2 / variance + np.log(variance)) / 2).mean(axis=(1, 2, 3)))
    return terms


def test_vid_matches_the_reference_formula():
    student, teacher, method = outputs(STUDENT, 0), outputs(TEACHER, 1), with_unequal_variances(vid())
    terms = values_of(method(student, teacher, batch()))
    assert list(terms) == ["stage1", "stage2"]
    expected = [term.mean() for term in numpy_terms(method, student, teacher)]
    np.testing.assert_allclose(list(terms.values()), expected, rtol=1e-5)  # Float32 rounding.


def test_vid_weights_samples_and_divides_by_the_whole_batch():
    student, teacher, method = outputs(STUDENT, 0), outputs(TEACHER, 1), vid()
    terms = values_of(method(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))))
    expected = [(term[0] + term[2]) / 3 for term in numpy_terms(method, student, teacher)]
    np.testing.assert_allclose(list(terms.values()), expected, rtol=1e-5)


@pytest.mark.parametrize("variance", [0.01, 5.0, 1000.0])
def test_vid_starts_from_the_variance_asked_for(variance):
    one = spec(((1, 2, 2),))
    nothing = with_inputs(outputs(one, 0), stages=(torch.zeros(3, 1, 2, 2),))
    value = vid(one, one, initial_variance=variance)(nothing, nothing, batch())["stage1"].item()
    # Without error only 1/2 log(variance) is left: negative below 1.
    np.testing.assert_allclose(value, 0.5 * math.log(variance), rtol=1e-5)


def test_vid_is_least_in_the_variance_where_it_is_the_squared_error():
    one = spec(((1, 2, 2),))
    student, teacher = (with_inputs(outputs(one, 0), stages=(torch.full((3, 1, 2, 2), v),)) for v in (0.0, 2.0))
    method = vid(one, one, initial_variance=4.0)
    method(student, teacher, batch())["stage1"].backward()
    assert abs(method.predictors[0].variance_logit_C.grad.item()) < 1e-6  # Rounding of the variance.


def test_vid_keeps_the_numbers_of_the_stages_when_it_skips_the_first():
    student, teacher, method = outputs(STUDENT, 0), outputs(TEACHER, 1), vid(skip_first_stage=True)
    terms = values_of(method(student, teacher, batch()))
    assert list(terms) == ["stage2"]
    assert [predictor.mean[0].weight.shape for predictor in method.predictors] == [(5, 3, 1, 1)]


def test_vid_gradient_is_right():
    student_spec, teacher_spec = spec(((1, 4, 2), (2, 1, 3))), spec(((2, 2, 4), (2, 1, 3)))
    student, teacher = (
        outputs(s, n, batch_size=2, dtype=torch.float64) for n, s in enumerate((student_spec, teacher_spec))
    )
    # Away from 0, where a rectified unit has a kink that finite differences do not see.
    student = with_inputs(student, stages=(stage + 0.1 for stage in student.stages))
    method = with_unequal_variances(vid(student_spec, teacher_spec))
    assert gradients_are_right(method, student, teacher, batch(2), "stages")


def test_vid_refuses_to_skip_the_only_stage():
    one = spec(((2, 4, 4),))
    with pytest.raises(InputError, match="vid: skip_first_stage leaves no stage"):
        vid(one, one, skip_first_stage=True)


def test_vid_refuses_a_variance_at_its_floor():
    with pytest.raises(InputError, match="initial_variance"):
        vid(initial_variance=1e-5)
