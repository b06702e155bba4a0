"""Overlap of activation maps: measures against torchmetrics, scipy and NumPy, their limits, and the bookkeeping."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from scipy.signal.windows import gaussian
from scipy.spatial import distance
from scipy.stats import pearsonr
from torchmetrics.functional.image import structural_similarity_index_measure

from dctkd.functional.attention import activation_map
from dctkd.metrics.overlap import (
    MAP_METRICS,
    compare_maps,
    cosine,
    iou_of_top_area,
    js_divergence,
    pearson,
    ssim,
    ssim_release,
)

torch.set_num_threads(1)


def _maps(batch_size, height, width, seed=0):
    return torch.rand(batch_size, height, width, generator=torch.Generator().manual_seed(seed))


def _features(channels, size, seed, batch_size=12):
    return torch.randn(batch_size, channels, size, size, generator=torch.Generator().manual_seed(seed))


def _stage_ssim(student_BCHW, teacher_BCHW):
    """SSIM of the activation maps of two stages, as the evaluation of a run compares them."""
    return compare_maps(activation_map(student_BCHW), activation_map(teacher_BCHW))["ssim"]


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
    assert _stage_ssim(feature_BCHW, feature_BCHW.clone()).tolist() == [1.0] * 12


def test_equal_maps_are_exactly_one_also_where_rounding_is_against_it():
    maps_BHW = _maps(13, 5, 5, seed=6)  # the formula alone gives 1 - 1.1e-16 for one of these on some CPUs
    assert ssim(maps_BHW, maps_BHW.clone()).tolist() == [1.0] * 13


def test_the_scale_of_the_features_does_not_matter():
    feature_BCHW = _features(5, 7, seed=0)
    np.testing.assert_allclose(_stage_ssim(feature_BCHW, 3 * feature_BCHW), 1.0, rtol=1e-6)  # float32 maps


def test_two_constant_maps_agree():
    assert _stage_ssim(torch.ones(2, 3, 8, 8), torch.full((2, 5, 8, 8), 7.0)).tolist() == [1.0, 1.0]


def test_a_constant_map_is_compared_as_zeros():
    feature_BCHW = _features(5, 14, seed=0, batch_size=1)
    map_HW = feature_BCHW.square().mean(dim=1)[0].double().numpy()
    map_HW = (map_HW - map_HW.min()) / (map_HW.max() - map_HW.min())
    expected = _ssim_of_scipy(map_HW, np.zeros((14, 14)), 11)
    np.testing.assert_allclose(_stage_ssim(feature_BCHW, torch.ones(1, 2, 14, 14)), [expected], rtol=1e-5)
    assert abs(expected) < 0.1


def test_a_map_in_the_other_corner_overlaps_less_than_a_blurred_one():
    teacher = torch.zeros(1, 1, 14, 14)
    teacher[..., 2:6, 2:6] = 1.0
    blurred = torch.nn.functional.avg_pool2d(teacher, 3, stride=1, padding=1)
    assert _stage_ssim(teacher.flip(2, 3), teacher).item() < _stage_ssim(blurred, teacher).item() < 1


def test_the_larger_map_is_average_pooled_to_the_smaller():
    student, teacher = _features(4, 14, seed=0), _features(6, 7, seed=1)
    map_BHW = torch.nn.functional.avg_pool2d(student.square().mean(dim=1), 2)
    pooled = map_BHW.sqrt().unsqueeze(1)  # one channel whose square is the pooled map
    torch.testing.assert_close(_stage_ssim(student, teacher), _stage_ssim(pooled, teacher), rtol=1e-4, atol=1e-6)


STUDENT = [_features(4, 14, seed=0), _features(8, 7, seed=1)]
TEACHER = [_features(6, 14, seed=2), _features(12, 7, seed=3)]


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        ssim(torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))


def _zero_padded_ssim(first_HW, second_HW):
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    first, second = np.pad(first_HW, 5), np.pad(second_HW, 5)
    values = []
    for row in range(first_HW.shape[0]):
        for column in range(first_HW.shape[1]):
            a, b = (padded[row : row + 11, column : column + 11] for padded in (first, second))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a, variance_b = (weights * a * a).sum() - mean_a**2, (weights * b * b).sum() - mean_b**2
            covariance = (weights * a * b).sum() - mean_a * mean_b
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(luminance * (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4))
    return np.mean(values)


SIZES = [(1, 1), (1, 2), (2, 2), (3, 3), (5, 4), (7, 7), (16, 13)]


@pytest.mark.parametrize("size", SIZES)
def test_ssim_of_the_release_slides_an_unshrunk_window_over_zero_padded_maps(size):
    first, second = _maps(2, *size).double(), _maps(2, *size, seed=1).double()
    expected = [_zero_padded_ssim(a, b) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(ssim_release(first, second), expected, rtol=1e-11)


def _rows(function, first, second):
    return [function(a, b) for a, b in zip(first.flatten(1).numpy(), second.flatten(1).numpy(), strict=True)]


@pytest.mark.parametrize("size", SIZES[1:])
def test_pearson_agrees_with_scipy(size):
    first, second = _maps(4, *size).double(), _maps(4, *size, seed=1).double()
    expected = _rows(lambda a, b: pearsonr(a, b).statistic, first, second)
    np.testing.assert_allclose(pearson(first, second), expected, rtol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_cosine_agrees_with_scipy(size):
    first, second = _maps(4, *size).double(), _maps(4, *size, seed=1).double()
    expected = _rows(lambda a, b: 1 - distance.cosine(a, b), first, second)
    np.testing.assert_allclose(cosine(first, second), expected, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_js_divergence_agrees_with_scipy(size):
    first, second = _maps(4, *size).double(), _maps(4, *size, seed=1).double()
    first[1, 0, 0] = second[2] = 0.0  # one position, one whole map
    first[3] = first[3] * (first[3] > 0.5)
    first[3, 0, 0] = 0.7
    second_or_uniform = second.clone()
    second_or_uniform[2] = 1.0
    if size == (1, 1):
        first[1] = 1.0  # scipy has no value for a sum of 0
    expected = _rows(lambda a, b: distance.jensenshannon(a, b, base=2) ** 2, first, second_or_uniform)
    np.testing.assert_allclose(js_divergence(first, second), expected, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    ("size", "k"), [((1, 1), 1), ((2, 2), 1), ((3, 3), 2), ((4, 4), 3), ((7, 7), 10), ((16, 13), 42)]
)
def test_iou_compares_the_sets_of_the_k_highest_positions(size, k):
    first, second = _maps(6, *size), _maps(6, *size, seed=1)

    def iou_of_sets(a, b):
        tops = [set(np.argsort(values)[-k:]) for values in (a, b)]
        return len(tops[0] & tops[1]) / len(tops[0] | tops[1])

    np.testing.assert_allclose(iou_of_top_area(first, second), _rows(iou_of_sets, first, second), rtol=1e-12)


def test_positions_that_tie_for_the_last_places_of_the_top_area_share_them():
    first = torch.tensor([[[0.9, 0.5, 0.5], [0.5, 0.1, 0.1], [0.0, 0.0, 0.0]]])  # k = 2: parts 1, 1/3, 1/3, 1/3
    second = torch.tensor([[[0.1, 0.8, 0.2], [0.3, 0.4, 0.8], [0.0, 0.0, 0.0]]])  # parts 1 at two positions
    expected = (1 / 3) / (1 + 1 + 1 / 3 + 1 / 3 + 1)
    np.testing.assert_allclose(iou_of_top_area(first, second), [expected], rtol=1e-12)


def test_ties_in_the_top_area_prefer_no_corner():
    tied, other = (_maps(8, 6, 6) * 3).round(), _maps(8, 6, 6, seed=1)
    flipped = iou_of_top_area(tied.flip(1, 2), other.flip(1, 2))
    torch.testing.assert_close(flipped, iou_of_top_area(tied, other), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "both", "one"),
    [("pearson", 1.0, 0.0), ("cosine", 1.0, 0.0), ("js_divergence", 0.0, 0.35899), ("iou_top20", 1.0, 1 / 7)],
)
def test_maps_of_zeros_have_the_documented_values(name, both, one):
    zeros, one_hot = torch.zeros(1, 2, 2), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    # 2 x 2: uniform against one position, m = (5, 1, 1, 1) / 8; the top area is 1 position against 1/4 everywhere.
    one = 0.5 * (3 / 4 * 1 + 1 / 4 * math.log2(2 / 5)) + 0.5 * math.log2(8 / 5) if name == "js_divergence" else one
    values = [MAP_METRICS[name](zeros, zeros).item(), MAP_METRICS[name](zeros, one_hot).item()]
    assert values == pytest.approx([both, one], rel=1e-12)


def test_pearson_of_constant_maps_is_one_for_two_and_zero_for_one():
    constant, other = torch.full((1, 3, 3), 0.3), _maps(1, 3, 3)
    values = [pearson(constant, 2 * constant), pearson(constant, other), pearson(other, constant)]
    assert torch.cat(values).tolist() == [1.0, 0.0, 0.0]


def test_a_constant_map_counts_as_constant_also_where_rounding_is_against_it():
    levels = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)  # the mean of equal values may differ from them
    assert not pearson(levels.view(99, 1, 1).expand(99, 7, 3), _maps(99, 7, 3).double()).any()


@pytest.mark.parametrize("name", ["cosine", "js_divergence"])
def test_the_scale_of_a_map_does_not_matter(name):
    first, second = _maps(3, 4, 4).double(), _maps(3, 4, 4, seed=1).double()
    expected = MAP_METRICS[name](first, second)
    np.testing.assert_allclose(MAP_METRICS[name](1e-200 * first, second), expected, rtol=1e-12)


def test_disjoint_maps_are_a_whole_bit_apart():
    first = torch.tensor([[[0.3, 0.7], [0.0, 0.0]]])
    np.testing.assert_allclose(js_divergence(first, first.flip(1)), [1.0], rtol=1e-12)


METRICS = pytest.mark.parametrize("name", sorted(MAP_METRICS))
ALIKE = {name: 0.0 if name == "js_divergence" else 1.0 for name in MAP_METRICS}


def _extreme_maps(height, width):
    """Every pair of maps that measures stumble over, as two stacks."""
    zeros = torch.zeros(height, width, dtype=torch.float64)
    last_only, tiny = zeros.clone(), zeros.clone()
    last_only[-1, -1], tiny[0, 0] = 1.0, 5e-324
    random = _maps(1, height, width)[0].double()
    maps = [zeros, zeros + 1, zeros + 0.3, last_only, 1 - last_only, tiny, 1e-200 * random, random]
    return torch.stack([a for a in maps for _ in maps]), torch.stack([b for _ in maps for b in maps])


@METRICS
@pytest.mark.parametrize("size", SIZES)
def test_measures_are_finite_and_in_range_for_extreme_maps(name, size):
    values = MAP_METRICS[name](*_extreme_maps(*size))
    low = -1.0 if name in {"ssim", "ssim_release", "pearson"} else 0.0
    assert ((values >= low) & (values <= 1.0)).all()


@METRICS
@pytest.mark.parametrize("size", SIZES)
def test_measures_do_not_mind_which_map_comes_first(name, size):
    first, second = _extreme_maps(*size)
    assert torch.equal(MAP_METRICS[name](first, second), MAP_METRICS[name](second, first))


@METRICS
@pytest.mark.parametrize("size", SIZES)
def test_equal_maps_are_exactly_alike(name, size):
    maps_BHW = torch.cat([_maps(20, *size).double(), _extreme_maps(*size)[0]])
    assert (MAP_METRICS[name](maps_BHW, maps_BHW.clone()) == ALIKE[name]).all()


@METRICS
def test_measures_of_an_image_do_not_depend_on_its_batch(name):
    first, second = (_maps(9, 8, 8, seed=seed).double() for seed in (0, 1))
    first[4] = first[4].round()  # ties
    backwards = torch.arange(8, -1, -1)
    whole = MAP_METRICS[name](first, second)
    alone = torch.cat([MAP_METRICS[name](first[[image]], second[[image]]) for image in backwards.tolist()])
    torch.testing.assert_close(alone.flip(0), whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        MAP_METRICS[name](first[backwards], second[backwards]).flip(0), whole, rtol=1e-12, atol=1e-14
    )


@METRICS
def test_a_nan_in_a_map_shows_in_its_own_image_only(name):
    first, second = _maps(3, 4, 4), _maps(3, 4, 4, seed=1)
    first[1, 2, 3] = math.nan
    assert MAP_METRICS[name](first, second).isnan().tolist() == [False, True, False]


@METRICS
def test_measures_of_half_precision_maps_are_those_of_their_float64_values(name):
    first, second = _maps(3, 5, 5).bfloat16(), _maps(3, 5, 5, seed=1).bfloat16()
    expected = MAP_METRICS[name](first.double(), second.double())
    torch.testing.assert_close(MAP_METRICS[name](first, second), expected, rtol=0, atol=0)


@METRICS
def test_measures_refuse_maps_of_different_shapes(name):
    with pytest.raises(ValueError, match=r"one shape \(B, H, W\), got \(2, 3, 3\) and \(2, 3, 4\)"):
        MAP_METRICS[name](torch.zeros(2, 3, 3), torch.zeros(2, 3, 4))


def test_maps_are_compared_by_every_measure_in_float64():
    values = compare_maps(_maps(3, 4, 4), _maps(3, 8, 2, seed=1))
    assert list(values) == ["ssim", "ssim_release", "pearson", "cosine", "js_divergence", "iou_top20"]
    assert {(value.dtype, tuple(value.shape)) for value in values.values()} == {(torch.float64, (3,))}


def test_compared_maps_are_pooled_to_the_smaller_and_then_scaled_by_their_own_extremes():
    student, teacher = 3 + 5 * _maps(4, 8, 8).double(), 0.2 * _maps(4, 4, 4, seed=1).double()
    pooled = student.numpy().reshape(4, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(4, 16)
    pair = [
        (maps - maps.min(axis=1, keepdims=True)) / np.ptp(maps, axis=1, keepdims=True)
        for maps in (pooled, teacher.numpy().reshape(4, 16))
    ]
    expected = [1 - distance.cosine(a, b) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(compare_maps(student, teacher)["cosine"], expected, rtol=1e-12)


def test_maps_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match=r"shape \(B, H, W\), got \(2, 1, 3, 3\) and \(2, 1, 3, 3\)"):
        compare_maps(torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="one batch size"):
        compare_maps(torch.zeros(2, 3, 3), torch.zeros(1, 3, 3))
