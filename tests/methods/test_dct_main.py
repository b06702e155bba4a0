"""dct_main against NumPy in float64 from the formula of the release's default branch."""

import numpy as np
import pytest
import torch

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of

STUDENT = spec([(6, 8, 8), (4, 3, 5)])
TEACHER = spec([(9, 8, 8), (8, 3, 5)])


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


def spectrum(map_HW):
    normalised = minmax(map_HW)
    return minmax(np.real(np.fft.fft(np.fft.fft(normalised - normalised.mean(), axis=0), axis=1)))


def test_dct_main_matches_the_reference_formula():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    expected = {}
    for n, (feature_s, feature_t) in enumerate(zip(student.stages, teacher.stages, strict=True), start=1):
        maps = [(f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t)]
        distances = [np.linalg.norm(spectrum(s) - spectrum(t)) for s, t in zip(*maps, strict=True)]
        expected[f"stage{n}"] = np.mean(distances)
    terms = create("dct_main", STUDENT, TEACHER, DATA)(student, teacher, batch())
    assert values_of(terms) == pytest.approx(expected, rel=1e-5)


def test_the_sign_tells_dct_main_from_dct_release():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    signed, magnitude = (
        values_of(create(name, STUDENT, TEACHER, DATA)(student, teacher, batch()))
        for name in ("dct_main", "dct_release")
    )
    assert abs(signed["stage1"] - magnitude["stage1"]) > 0.1


def test_dct_main_is_zero_for_scaled_features_with_channels_in_another_order():
    teacher = outputs(STUDENT, 0)
    student = type(teacher)(
        teacher.logits_BK, tuple(3.0 * stage.flip(1) for stage in teacher.stages), teacher.pooled_BD
    )
    for value in values_of(create("dct_main", STUDENT, STUDENT, DATA)(student, teacher, batch())).values():
        assert value == pytest.approx(0.0, abs=1e-5)  # Rounding of the maps in float32.


def test_dct_main_gradient_is_right():
    student, teacher = (spec([(2, 4, 3)]), spec([(3, 4, 3)]))
    method = create("dct_main", student, teacher, DATA)
    start, target = (outputs(s, seed, batch_size=2, dtype=torch.float64) for seed, s in enumerate((student, teacher)))
    assert gradients_are_right(method, start, target, batch(2), "stages")
