"""map_l2 against NumPy in float64, and against the transform that it is the control of."""

import numpy as np
import pytest
import scipy.fft
import torch

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, pooled_numpy, spec, values_of

STUDENT = spec([(6, 8, 8), (4, 3, 5)])
TEACHER = spec([(9, 4, 4), (8, 3, 5)])


def as_they_are(map_HW):
    return map_HW


def dct(map_HW):
    return scipy.fft.dctn(map_HW, type=2, norm="ortho")


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


def numpy_values(student, teacher, *, transform=as_they_are, weights=(1, 1, 1)):
    """The terms: L2 distances of the maps in [0, 1], after a transform."""
    values = {}
    for n, (feature_s, feature_t) in enumerate(zip(student.stages, teacher.stages, strict=True), start=1):
        maps_s, maps_t = ((f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t))
        maps_s = pooled_numpy(maps_s, *maps_t.shape[1:])
        pairs = zip(maps_s, maps_t, strict=True)
        distances = [np.linalg.norm(transform(minmax(s)) - transform(minmax(t))) for s, t in pairs]
        values[f"stage{n}"] = np.mean(np.array(distances) * weights)
    return values


def values(name="map_l2", **given):
    terms = create(name, STUDENT, TEACHER, DATA)(outputs(STUDENT, 0), outputs(TEACHER, 1), batch(**given))
    return values_of(terms)


def test_map_l2_matches_the_reference_formula():
    assert values() == pytest.approx(numpy_values(outputs(STUDENT, 0), outputs(TEACHER, 1)), rel=1e-5)


def test_map_l2_counts_a_sample_by_its_weight():
    expected = numpy_values(outputs(STUDENT, 0), outputs(TEACHER, 1), weights=(1, 0, 1))
    assert values(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])) == pytest.approx(expected, rel=1e-5)


def test_an_orthonormal_dct_before_the_distance_changes_nothing():
    transformed = numpy_values(outputs(STUDENT, 0), outputs(TEACHER, 1), transform=dct)
    assert values() == pytest.approx(transformed, rel=1e-5)


def test_the_normalisation_of_the_spectrum_is_what_tells_dct_from_it():
    def spectrum(map_HW):
        return minmax(dct(map_HW - map_HW.mean()))

    of_dct = values("dct")
    assert of_dct == pytest.approx(numpy_values(outputs(STUDENT, 0), outputs(TEACHER, 1), transform=spectrum), rel=1e-5)
    assert of_dct["stage1"] != pytest.approx(values()["stage1"], rel=0.005)


def test_taking_off_the_mean_and_normalising_again_would_change_nothing():
    again = numpy_values(outputs(STUDENT, 0), outputs(TEACHER, 1), transform=lambda x: minmax(x - x.mean()))
    assert values() == pytest.approx(again, rel=1e-5)


def test_map_l2_is_zero_for_scaled_features_with_channels_in_another_order():
    teacher = outputs(STUDENT, 0)
    student = type(teacher)(
        teacher.logits_BK, tuple(3.0 * stage.flip(1) for stage in teacher.stages), teacher.pooled_BD
    )
    for value in values_of(create("map_l2", STUDENT, STUDENT, DATA)(student, teacher, batch())).values():
        assert value == pytest.approx(0.0, abs=1e-5)  # Rounding of the maps in float32.


def test_map_l2_gradient_is_right():
    student, teacher = (spec([(2, 4, 3)]), spec([(3, 4, 3)]))
    method = create("map_l2", student, teacher, DATA)
    start, target = (outputs(s, seed, batch_size=2, dtype=torch.float64) for seed, s in enumerate((student, teacher)))
    assert gradients_are_right(method, start, target, batch(2), "stages")
