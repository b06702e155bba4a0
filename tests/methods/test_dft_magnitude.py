"""dft_magnitude against NumPy in float64, and what it cannot see."""

import numpy as np
import pytest
import torch

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, pooled_numpy, spec, values_of

STUDENT = spec([(6, 8, 8), (4, 3, 5)])
TEACHER = spec([(9, 4, 4), (8, 3, 5)])


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


def spectrum(map_HW):
    normalised = minmax(map_HW)
    return minmax(np.abs(np.fft.fft(np.fft.fft(normalised - normalised.mean(), axis=0), axis=1)))


def numpy_values(student, teacher, weights=(1, 1, 1)):
    values = {}
    for n, (feature_s, feature_t) in enumerate(zip(student.stages, teacher.stages, strict=True), start=1):
        maps_s, maps_t = ((f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t))
        maps_s = pooled_numpy(maps_s, *maps_t.shape[1:])
        distances = [np.linalg.norm(spectrum(s) - spectrum(t)) for s, t in zip(maps_s, maps_t, strict=True)]
        values[f"stage{n}"] = np.mean(np.array(distances) * weights)
    return values


def test_dft_magnitude_matches_the_reference_formula():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = create("dft_magnitude", STUDENT, TEACHER, DATA)(student, teacher, batch())
    assert values_of(terms) == pytest.approx(numpy_values(student, teacher), rel=1e-5)


def test_dft_magnitude_counts_a_sample_by_its_weight():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    weighted = batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))
    terms = create("dft_magnitude", STUDENT, TEACHER, DATA)(student, teacher, weighted)
    assert values_of(terms) == pytest.approx(numpy_values(student, teacher, (1, 0, 1)), rel=1e-5)


def distance_of_maps(method, student_HW, teacher_HW):
    one = spec([(1, 14, 14)])
    features = [torch.from_numpy(np.sqrt(m)).view(1, 1, 14, 14) for m in (student_HW, teacher_HW)]
    networks = [outputs(one, 0, batch_size=1) for _ in features]
    student, teacher = (type(n)(n.logits_BK, (f,), n.pooled_BD) for n, f in zip(networks, features, strict=True))
    return create(method, one, one, DATA)(student, teacher, batch(1))["stage1"].item()


@pytest.mark.parametrize("shift", [(1, 0), (0, 13), (7, 7), (3, 10)])
def test_a_circularly_shifted_map_is_the_same_to_it_and_far_away_for_dct_and_map_l2(shift):
    map_HW = np.random.default_rng(0).random((14, 14))
    shifted_HW = np.roll(map_HW, shift, axis=(0, 1))
    assert distance_of_maps("dft_magnitude", map_HW, shifted_HW) == pytest.approx(0.0, abs=1e-9)  # Float64 inputs.
    assert min(distance_of_maps(name, map_HW, shifted_HW) for name in ("dct", "map_l2")) > 1.0


def test_a_reflected_map_is_the_same_to_it():
    map_HW = np.random.default_rng(0).random((14, 14))
    assert distance_of_maps("dft_magnitude", map_HW, map_HW[::-1, ::-1].copy()) == pytest.approx(0.0, abs=1e-9)


def test_it_sees_another_shape_at_the_same_place():
    rows, columns = np.mgrid[:14, :14]
    narrow, wide = (np.exp(-((rows - 7) ** 2 + (columns - 7) ** 2) / size) for size in (2.0, 8.0))
    assert distance_of_maps("dft_magnitude", narrow, wide) > 1.0


def test_dft_magnitude_of_equal_features_is_zero_with_a_finite_gradient():
    teacher = outputs(STUDENT, 0)
    student = type(teacher)(
        teacher.logits_BK, tuple(s.clone().requires_grad_() for s in teacher.stages), teacher.pooled_BD
    )
    terms = create("dft_magnitude", STUDENT, STUDENT, DATA)(student, teacher, batch())
    sum(terms.values()).backward()
    assert all(value == 0.0 for value in values_of(terms).values())
    assert all(stage.grad.isfinite().all() for stage in student.stages)


def test_dft_magnitude_does_not_compare_rounding_noise_of_constant_maps():
    noisy_HW = np.ones((14, 14)) + 2.0**-22 * (np.random.default_rng(0).random((14, 14)) > 0.5)
    assert distance_of_maps("dft_magnitude", noisy_HW, np.ones((14, 14))) == 0.0


def test_dft_magnitude_gradient_is_right():
    student, teacher = (spec([(2, 4, 3)]), spec([(3, 4, 3)]))
    method = create("dft_magnitude", student, teacher, DATA)
    start, target = (outputs(s, seed, batch_size=2, dtype=torch.float64) for seed, s in enumerate((student, teacher)))
    assert gradients_are_right(method, start, target, batch(2), "stages")
