"""dct_release against NumPy in float64 from the released code's formula, and what it cannot see."""

import numpy as np
import pytest
import torch

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of

STUDENT = spec([(6, 8, 8), (4, 3, 5)])
TEACHER = spec([(9, 8, 8), (8, 3, 5)])


def spectrum(map_HW):
    """Return |Re DFT| of a map, both normalised by their maximum as released."""
    normalised = (map_HW - map_HW.min()) / map_HW.max()
    magnitude = np.abs(np.real(np.fft.fft(np.fft.fft(normalised - normalised.mean(), axis=0), axis=1)))
    return (magnitude - magnitude.min()) / magnitude.max()


def numpy_values(student, teacher, weights=(1, 1, 1)):
    values = {}
    for n, (feature_s, feature_t) in enumerate(zip(student.stages, teacher.stages, strict=True), start=1):
        maps = [(f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t)]
        distances = [np.linalg.norm(spectrum(s) - spectrum(t)) for s, t in zip(*maps, strict=True)]
        values[f"stage{n}"] = np.mean(np.array(distances) * weights)
    return values


def test_dct_release_matches_the_reference_formula():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = create("dct_release", STUDENT, TEACHER, DATA)(student, teacher, batch())
    assert values_of(terms) == pytest.approx(numpy_values(student, teacher), rel=1e-5)


def test_dct_release_counts_a_sample_by_its_weight():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    weighted = batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))
    terms = create("dct_release", STUDENT, TEACHER, DATA)(student, teacher, weighted)
    assert values_of(terms) == pytest.approx(numpy_values(student, teacher, (1, 0, 1)), rel=1e-5)


def blob(row, column):
    rows, columns = np.mgrid[:14, :14]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4.0)


def distance_of_maps(method, student_HW, teacher_HW):
    one = spec([(1, 14, 14)])
    features = [torch.from_numpy(np.sqrt(m)).view(1, 1, 14, 14) for m in (student_HW, teacher_HW)]
    networks = [outputs(one, 0, batch_size=1) for _ in features]
    student, teacher = (type(n)(n.logits_BK, (f,), n.pooled_BD) for n, f in zip(networks, features, strict=True))
    return create(method, one, one, DATA)(student, teacher, batch(1))["stage1"].item()


def test_opposite_corners_are_far_apart_for_dct_and_nearly_equal_for_what_was_released():
    distances = {name: distance_of_maps(name, blob(3, 3), blob(11, 11)) for name in ("dct", "dct_release", "dct_main")}
    assert distances == pytest.approx({"dct": 2.336, "dct_release": 0.229, "dct_main": 0.170}, abs=0.001)


@pytest.mark.parametrize("method", ["dct_release", "dct_main"])
def test_a_map_and_its_reflection_through_the_origin_are_the_same_to_what_was_released(method):
    map_HW = np.random.default_rng(0).random((14, 14))
    reflected_HW = np.roll(map_HW[::-1, ::-1], 1, axis=(0, 1))
    assert distance_of_maps(method, map_HW, reflected_HW) == pytest.approx(0.0, abs=1e-9)  # Inputs are float64.
    assert distance_of_maps("dct", map_HW, reflected_HW) > 1.0


def test_dct_release_does_not_compare_rounding_noise_of_constant_maps():
    noisy_HW = np.ones((14, 14)) + 2.0**-22 * (np.random.default_rng(0).random((14, 14)) > 0.5)
    assert distance_of_maps("dct_release", noisy_HW, np.ones((14, 14))) == 0.0


def test_dct_release_gradient_is_right():
    student, teacher = (spec([(2, 4, 3)]), spec([(3, 4, 3)]))
    method = create("dct_release", student, teacher, DATA)
    start, target = (outputs(s, seed, batch_size=2, dtype=torch.float64) for seed, s in enumerate((student, teacher)))
    assert gradients_are_right(method, start, target, batch(2), "stages")
