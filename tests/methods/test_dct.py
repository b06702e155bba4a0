"""dct against scipy in float64, its invariants, and what the released variant cannot see."""

import numpy as np
import pytest
import scipy.fft
import torch
from torch.autograd import gradcheck

from dctkd.methods import create
from dctkd.methods.base import Batch, DataSpec
from dctkd.models import ModelSpec, Outputs, StageSpec

STUDENT = ((6, 8, 8), (5, 4, 4), (4, 3, 5))
TEACHER = ((9, 4, 4), (7, 4, 4), (8, 3, 5))
DATA = DataSpec(3, 3, (0, 1, 2))


def spec(stages):
    return ModelSpec(num_classes=3, stages=tuple(StageSpec(*stage) for stage in stages), pooled_dim=4)


def outputs(stages, seed, batch_size=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(batch_size, *stage, generator=generator, dtype=dtype) for stage in stages)
    return Outputs(torch.zeros(batch_size, 3), maps, torch.zeros(batch_size, 4))


def batch(batch_size=3, sample_weight_B=None):
    index_B = torch.arange(batch_size)
    return Batch(torch.zeros(batch_size, 3, 8, 8), index_B % 3, index_B, 0, 0.0, sample_weight_B)


def dct():
    return create("dct", spec(STUDENT), spec(TEACHER), DATA)


def minmax(x):
    return (x - x.min()) / (x.max() - x.min())


def spectrum(map_HW):
    normalised = minmax(map_HW)
    return minmax(scipy.fft.dctn(normalised - normalised.mean(), type=2, norm="ortho"))


def numpy_terms(student, teacher):
    """One value per sample and stage, from the formula."""
    terms = []
    for feature_s, feature_t in zip(student.stages, teacher.stages, strict=True):
        map_s, map_t = ((f.double().numpy() ** 2).mean(axis=1) for f in (feature_s, feature_t))
        if map_s.shape[1] > map_t.shape[1]:
            map_s = map_s.reshape(len(map_s), 4, 2, 4, 2).mean(axis=(2, 4))
        terms.append(np.array([np.linalg.norm(spectrum(s) - spectrum(t)) for s, t in zip(map_s, map_t, strict=True)]))
    return terms


def test_dct_matches_the_reference_formula():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = dct()(student, teacher, batch())
    expected = [e.mean() for e in numpy_terms(student, teacher)]
    assert list(terms) == ["stage1", "stage2", "stage3"]
    np.testing.assert_allclose([term.item() for term in terms.values()], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["dct", "dct_release", "dct_main", "map_l2", "dft_magnitude"])
def test_a_size_normalised_distance_is_the_root_of_a_mean_over_the_positions_of_the_smaller_map(name):
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    plain, normalised = (
        create(name, spec(STUDENT), spec(TEACHER), DATA, size_normalised=flag)(student, teacher, batch())
        for flag in (False, True)
    )
    for term, root in zip(("stage1", "stage2", "stage3"), (4.0, 4.0, np.sqrt(15)), strict=True):
        assert normalised[term].item() == pytest.approx(plain[term].item() / root, rel=1e-6)


def test_dct_of_images_that_the_teacher_gets_wrong_lowers_the_mean_as_in_p1():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    terms = dct()(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))
    expected = [(e[0] + e[2]) / 3 for e in numpy_terms(student, teacher)]
    np.testing.assert_allclose([term.item() for term in terms.values()], expected, rtol=1e-5)


def blob(row, column):
    rows, columns = np.mgrid[:14, :14]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4.0)


def term_of_maps(student_HW, teacher_HW):
    one = ModelSpec(num_classes=3, stages=(StageSpec(1, 14, 14),), pooled_dim=4)
    nothing = (torch.zeros(1, 3), torch.zeros(1, 4))
    maps = [torch.from_numpy(np.sqrt(m)).float().view(1, 1, 14, 14) for m in (student_HW, teacher_HW)]
    networks = [Outputs(nothing[0], (m,), nothing[1]) for m in maps]
    return create("dct", one, one, DATA)(*networks, batch(1))["stage1"].item()


def test_dct_sees_blobs_in_opposite_corners_that_the_released_transform_hardly_tells_apart():
    def released(map_HW):
        normalised = minmax(map_HW)
        return minmax(np.fft.fft2(normalised - normalised.mean()).real)

    corner, opposite = blob(3, 3), blob(11, 11)
    assert np.linalg.norm(released(corner) - released(opposite)) == pytest.approx(0.17, abs=0.005)
    assert np.linalg.norm(spectrum(corner) - spectrum(opposite)) == pytest.approx(2.336, abs=0.001)
    assert term_of_maps(corner, opposite) == pytest.approx(2.336, abs=0.001)


def test_dct_sees_a_reflected_map_to_which_the_released_transform_is_blind():
    map_HW = np.random.default_rng(0).random((14, 14))
    reflected_HW = np.roll(map_HW[::-1, ::-1], 1, axis=(0, 1))
    released = [np.fft.fft2(minmax(m) - minmax(m).mean()).real for m in (map_HW, reflected_HW)]
    np.testing.assert_allclose(released[0], released[1], atol=1e-12)
    assert term_of_maps(map_HW, reflected_HW) > 1.0


def test_dct_is_zero_for_scaled_features_with_channels_in_another_order():
    teacher = outputs(STUDENT, 0)
    student = Outputs(teacher.logits_BK, tuple(3.0 * stage.flip(1) for stage in teacher.stages), teacher.pooled_BD)
    for term in create("dct", spec(STUDENT), spec(STUDENT), DATA)(student, teacher, batch()).values():
        torch.testing.assert_close(term, torch.zeros(()), rtol=0, atol=1e-5)  # Rounding of the maps.


def test_dct_of_equal_features_is_zero_with_a_finite_gradient():
    teacher = outputs(STUDENT, 0)
    student = Outputs(teacher.logits_BK, tuple(s.clone().requires_grad_() for s in teacher.stages), teacher.pooled_BD)
    terms = create("dct", spec(STUDENT), spec(STUDENT), DATA)(student, teacher, batch())
    sum(terms.values()).backward()
    assert all(term.item() == 0.0 for term in terms.values())
    assert all(stage.grad.isfinite().all() for stage in student.stages)


def test_dct_does_not_compare_rounding_noise_of_constant_maps():
    constant_HW = np.ones((14, 14))
    noisy_HW = constant_HW + 2.0**-22 * (np.random.default_rng(0).random((14, 14)) > 0.5)
    assert term_of_maps(noisy_HW, constant_HW) == 0.0


def test_dct_of_a_one_by_one_stage_is_zero():
    one = ModelSpec(num_classes=3, stages=(StageSpec(2, 1, 1),), pooled_dim=4)
    student, teacher = outputs(((2, 1, 1),), 0), outputs(((2, 1, 1),), 1)
    assert create("dct", one, one, DATA)(student, teacher, batch())["stage1"].item() == 0.0


def test_dct_gradient_is_right():
    student_stages, teacher_stages = ((2, 4, 2), (1, 2, 3)), ((3, 2, 2), (2, 2, 3))
    teacher, start = outputs(teacher_stages, 1, 2, torch.float64), outputs(student_stages, 0, 2, torch.float64)
    method = create("dct", spec(student_stages), spec(teacher_stages), DATA)

    def total(*stages):
        return sum(method(Outputs(start.logits_BK, stages, start.pooled_BD), teacher, batch(2)).values())

    assert gradcheck(total, tuple(stage.requires_grad_() for stage in start.stages))
