"""Overlap of activation maps: SSIM against torchmetrics and scipy, its limits, and its bookkeeping."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from scipy.signal.windows import gaussian
from torchmetrics.functional.image import structural_similarity_index_measure

from dctkd.metrics.overlap import Overlap, ssim, stage_overlap

torch.set_num_threads(1)


def _maps(batch_size, height, width, seed=0):
    return torch.rand(batch_size, height, width, generator=torch.Generator().manual_seed(seed))


def _features(channels, size, seed, batch_size=12):
    return torch.randn(batch_size, channels, size, size, generator=torch.Generator().manual_seed(seed))


def _ssim_of_scipy(first_HW, second_HW, window):
    weights = np.outer(gaussian(window, 1.5), gaussian(window, 1.5))
    weights /= weights.sum()

    def local(values_HW):
        return convolve2d(np.pad(values_HW, window // 2, mode="reflect"), weights, mode="valid")

    mean_1, mean_2 = local(first_HW), local(second_HW)
    variance_1, variance_2 = local(first_HW**2) - mean_1**2, local(second_HW**2) - mean_2**2
    covariance = local(first_HW * second_HW) - mean_1 * mean_2
    c1, c2 = 1e-4, 9e-4
    numerator = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return (numerator / ((mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2))).mean()


@pytest.mark.parametrize("size", [(11, 11), (14, 14), (28, 17)])
def test_ssim_agrees_with_torchmetrics(size):
    first, second = _maps(3, *size).double(), _maps(3, *size, seed=1).double()
    second = 0.5 * first + 0.5 * second
    expected = structural_similarity_index_measure(
        first.unsqueeze(1), second.unsqueeze(1), sigma=1.5, reduction="none", data_range=1.0
    )
    torch.testing.assert_close(ssim(first, second), expected, rtol=1e-6, atol=0)  # its window is float32


@pytest.mark.parametrize(
    ("size", "window"), [((1, 1), 1), ((2, 2), 1), ((3, 3), 3), ((4, 9), 3), ((7, 7), 7), ((10, 14), 9), ((12, 56), 11)]
)
def test_on_small_maps_the_window_shrinks_to_the_largest_odd_size_that_fits(size, window):
    first, second = _maps(2, *size), _maps(2, *size, seed=1)
    expected = [
        _ssim_of_scipy(a.double().numpy(), b.double().numpy(), window) for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(ssim(first, second), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 14, 56])
def test_equal_maps_have_an_overlap_of_exactly_one(size):
    feature_BCHW = _features(5, size, seed=0)
    assert stage_overlap(feature_BCHW, feature_BCHW.clone()).tolist() == [1.0] * 12


def test_equal_maps_are_exactly_one_also_where_rounding_is_against_it():
    maps_BHW = _maps(13, 5, 5, seed=6)  # the formula alone gives 1 - 1.1e-16 for one of these on some CPUs
    assert ssim(maps_BHW, maps_BHW.clone()).tolist() == [1.0] * 13


def test_the_scale_of_the_features_does_not_matter():
    feature_BCHW = _features(5, 7, seed=0)
    np.testing.assert_allclose(stage_overlap(feature_BCHW, 3 * feature_BCHW), 1.0, rtol=1e-6)  # float32 maps


def test_two_constant_maps_agree():
    assert stage_overlap(torch.ones(2, 3, 8, 8), torch.full((2, 5, 8, 8), 7.0)).tolist() == [1.0, 1.0]


def test_a_constant_map_is_compared_as_zeros():
    feature_BCHW = _features(5, 14, seed=0, batch_size=1)
    map_HW = feature_BCHW.square().mean(dim=1)[0].double().numpy()
    map_HW = (map_HW - map_HW.min()) / (map_HW.max() - map_HW.min())
    expected = _ssim_of_scipy(map_HW, np.zeros((14, 14)), 11)
    np.testing.assert_allclose(stage_overlap(feature_BCHW, torch.ones(1, 2, 14, 14)), [expected], rtol=1e-5)
    assert abs(expected) < 0.1


def test_a_map_in_the_other_corner_overlaps_less_than_a_blurred_one():
    teacher = torch.zeros(1, 1, 14, 14)
    teacher[..., 2:6, 2:6] = 1.0
    blurred = torch.nn.functional.avg_pool2d(teacher, 3, stride=1, padding=1)
    assert stage_overlap(teacher.flip(2, 3), teacher).item() < stage_overlap(blurred, teacher).item() < 1


def test_the_larger_map_is_average_pooled_to_the_smaller():
    student, teacher = _features(4, 14, seed=0), _features(6, 7, seed=1)
    map_BHW = torch.nn.functional.avg_pool2d(student.square().mean(dim=1), 2)
    pooled = map_BHW.sqrt().unsqueeze(1)  # one channel whose square is the pooled map
    torch.testing.assert_close(stage_overlap(student, teacher), stage_overlap(pooled, teacher), rtol=1e-4, atol=1e-6)


def _overlap(student_maps, teacher_maps, *, batch_size, order):
    overlap = Overlap()
    for chosen in order.split(batch_size):
        overlap.update([map_[chosen] for map_ in student_maps], [map_[chosen] for map_ in teacher_maps], chosen)
    return overlap


STUDENT = [_features(4, 14, seed=0), _features(8, 7, seed=1)]
TEACHER = [_features(6, 14, seed=2), _features(12, 7, seed=3)]


def test_the_result_is_the_mean_over_images_and_stages():
    results = _overlap(STUDENT, TEACHER, batch_size=5, order=torch.arange(12)).result()
    expected = [stage_overlap(s, t).mean().item() for s, t in zip(STUDENT, TEACHER, strict=True)]
    values = {result.stage: result.value for result in results}
    assert values == pytest.approx({"stage1": expected[0], "stage2": expected[1], "mean": sum(expected) / 2}, rel=1e-12)
    assert {(result.metric, result.split, result.unit) for result in results} == {("overlap_ssim", "test", "1")}


def test_the_result_does_not_depend_on_the_order_of_batches():
    forward = _overlap(STUDENT, TEACHER, batch_size=4, order=torch.arange(12))
    backward = _overlap(STUDENT, TEACHER, batch_size=4, order=torch.arange(12).view(3, 4).flip(0).flatten())
    assert forward.result() == backward.result()


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_result_does_not_depend_on_the_batch_size(batch_size):
    whole = _overlap(STUDENT, TEACHER, batch_size=12, order=torch.arange(12))
    parts = _overlap(STUDENT, TEACHER, batch_size=batch_size, order=torch.arange(12))
    for one, other in zip(whole.result(), parts.result(), strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-6)  # the maps themselves are float32 sums


def test_values_per_image_are_sorted_by_index():
    order = torch.arange(11, -1, -1)
    columns = _overlap(STUDENT, TEACHER, batch_size=12, order=order).per_image()
    assert columns["index"].tolist() == list(range(12))
    np.testing.assert_allclose(columns["stage2"], stage_overlap(STUDENT[1], TEACHER[1]), rtol=1e-6)


def test_a_stage_with_one_position_is_left_out():
    student, teacher = [*STUDENT, _features(4, 1, seed=4)], [*TEACHER, _features(4, 2, seed=5)]
    results = _overlap(student, teacher, batch_size=12, order=torch.arange(12)).result()
    assert results == _overlap(STUDENT, TEACHER, batch_size=12, order=torch.arange(12)).result()
    assert [result.stage for result in results] == ["stage1", "stage2", "mean"]


def test_a_stage_with_a_nan_is_left_out():
    broken = STUDENT[0].clone()
    broken[3, 0, 0, 0] = math.nan
    results = _overlap([broken, STUDENT[1]], TEACHER, batch_size=12, order=torch.arange(12)).result()
    assert [result.stage for result in results] == ["stage2", "mean"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="equally many stages of student and teacher, at least 1; got 2 and 1"):
        Overlap().update(STUDENT, TEACHER[:1], torch.arange(12))
    with pytest.raises(ValueError, match="at least 1; got 0 and 0"):
        Overlap().update([], [], torch.arange(12))
    with pytest.raises(ValueError, match="one shape"):
        ssim(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="no images were counted"):
        Overlap().result()
    twice = _overlap(STUDENT, TEACHER, batch_size=12, order=torch.arange(12))
    twice.update(STUDENT, TEACHER, torch.arange(12))
    with pytest.raises(ValueError, match="counted twice"):
        twice.result()
