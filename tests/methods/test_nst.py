"""nst against float64 NumPy with explicit loops, and its invariants."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, pooled_numpy, spec, values_of, with_inputs

# Stage 1 has more positions than channels, stage 2 fewer; the sizes differ in opposite directions.
STUDENT = spec(((3, 8, 8), (6, 2, 1)))
TEACHER = spec(((4, 4, 4), (7, 2, 3)))


def nst():
    return create("nst", STUDENT, TEACHER, DATA)


def alive(model, seed, **arguments):
    """Outputs whose channels are nowhere all 0: their length is divided by below."""
    given = outputs(model, seed, **arguments)
    return with_inputs(given, stages=(stage + 0.1 for stage in given.stages))


def pair(batch_size=3, dtype=torch.float32):
    return (alive(model, seed, batch_size=batch_size, dtype=dtype) for seed, model in enumerate((STUDENT, TEACHER)))


def mean_kernel(x_CP, y_DP):
    return np.mean([[(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) ** 2 for y in y_DP] for x in x_CP])


def numpy_terms(student, teacher):
    """One value per sample and stage, from the formula."""
    terms = []
    for feature_s, feature_t, size in zip(student.stages, teacher.stages, ((4, 4), (2, 1)), strict=True):
        vectors_s, vectors_t = (
            pooled_numpy(feature.double().numpy(), *size).reshape(*feature.shape[:2], -1)
            for feature in (feature_s, feature_t)
        )
        pairs = zip(vectors_s, vectors_t, strict=True)
        terms.append([mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t) for s, t in pairs])
    return np.array(terms)


def test_nst_matches_the_reference_formula():
    student, teacher = pair()
    terms = values_of(nst()(student, teacher, batch()))
    assert list(terms) == ["stage1", "stage2"]
    expected = numpy_terms(student, teacher).mean(axis=1)
    # Kernels of order 1 are subtracted in stage 1: float32 leaves 1e-7 of them.
    np.testing.assert_allclose(list(terms.values()), expected, rtol=1e-4, atol=3e-7)


def test_nst_weights_samples_and_divides_by_the_whole_batch():
    student, teacher = pair()
    terms = nst()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))
    expected = numpy_terms(student, teacher)[:, [0, 2]].sum(axis=1) / 3
    np.testing.assert_allclose(list(values_of(terms).values()), expected, rtol=1e-4, atol=3e-7)


def test_nst_pools_features_before_they_are_normalised():
    student, teacher = pair(1)
    pooled = [torch.nn.functional.avg_pool2d(student.stages[0], 2), student.stages[1]]
    small = create("nst", spec(((3, 4, 4), (6, 2, 1))), TEACHER, DATA)
    value = small(with_inputs(student, stages=pooled), teacher, batch(1))["stage1"]
    torch.testing.assert_close(nst()(student, teacher, batch(1))["stage1"], value)


def test_nst_is_zero_for_scaled_channels_in_another_order():
    teacher = alive(STUDENT, 0)
    student = with_inputs(teacher, stages=(3.0 * stage.flip(1) for stage in teacher.stages))
    for value in values_of(create("nst", STUDENT, STUDENT, DATA)(student, teacher, batch())).values():
        assert value == pytest.approx(0.0, abs=1e-6)  # Rounding of kernels of order 1.


def test_nst_sees_the_same_channels_at_other_positions():
    teacher = alive(STUDENT, 0)
    student = with_inputs(teacher, stages=(stage.flip(2) for stage in teacher.stages))
    for value in values_of(create("nst", STUDENT, STUDENT, DATA)(student, teacher, batch())).values():
        assert value > 1e-3


def test_nst_of_one_position_is_zero():
    one = spec(((2, 1, 1),))
    value = create("nst", one, one, DATA)(alive(one, 0), alive(one, 1), batch())["stage1"].item()
    assert value == pytest.approx(0.0, abs=1e-12)


def test_nst_of_dead_maps_gets_a_zero_gradient():
    student, teacher = pair()
    stages = tuple(torch.zeros_like(stage, requires_grad=True) for stage in student.stages)
    sum(nst()(with_inputs(student, stages=stages), teacher, batch()).values()).backward()
    assert not any(stage.grad.any() for stage in stages)


def test_nst_gradient_is_right():
    student, teacher = pair(1, torch.float64)
    assert gradients_are_right(nst(), student, teacher, batch(1), "stages")


def test_nst_refuses_unequal_numbers_of_stages():
    with pytest.raises(InputError, match="equally many of student and teacher, at least one; got 1 and 2"):
        create("nst", spec(((3, 8, 8),)), TEACHER, DATA)
