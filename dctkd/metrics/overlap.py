"""Overlap of activation maps: do student and teacher look at the same places?

Structural similarity (SSIM) of the min-max normalised activation maps, per image and stage, at every position of the
map. P1 measures the same on the images that the teacher gets right, and pads the maps with zeros, which look like
positions where both networks agree; here all images count and the maps are reflected at their borders.

`MAP_METRICS` holds further measures of two stacks of maps, SSIM with P1's padding among them. Each takes (B, H, W)
from 1 x 1 up with values in [0, 1], computes in float64, compares image by image, whatever else is in the batch, and
does not mind which map comes first. It is finite for every pair of maps, constant ones included, and NaN only where a
map holds a NaN. Normalised maps of one position are zeros and agree by every measure: leave such stages out.

Shapes: B images, C channels, H rows, W columns, P = H W positions, S paired stages, N images of the split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

from dctkd.functional.attention import minmax_normalise, pool_to_smaller

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
TOP_AREA_FRACTION = 0.2
"""Part of the positions that counts as where a map is highest."""


def ssim(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return the mean structural similarity of two stacks of maps with values in [0, 1], per image.

    The window is Gaussian, 11 x 11, sigma 1.5 positions, and is centred on every position; the maps are reflected at
    their borders. On a map with a shorter side the window shrinks to the largest odd size that fits, with the same
    sigma and weights that again sum to 1; a 1 x 1 window (sides below 3) compares values only. Two constant maps are
    compared by their values: equal ones give 1. Computed in float64.

    Args:
        first_BHW: Maps, shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Similarity in [-1, 1], shape (B,), float64; exactly 1 for equal maps, NaN only for maps that hold a NaN.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Source:
        Wang et al. 2004, doi:10.1109/TIP.2003.819861, section III.B, with K1 = 0.01, K2 = 0.03, data range 1;
        borders as in torchmetrics, whose values these are for sides from 11 up.

    Example:
        >>> ssim(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
        tensor([1.], dtype=torch.float64)
    """
    first, second = _checked_pair(first_BHW, second_BHW)
    window = min(WINDOW, *first.shape[1:])
    window -= 1 - window % 2
    rows_HH, columns_WW = (_window_matrix(size, window, first.device) for size in first.shape[1:])
    return _mean_similarity(first, second, rows_HH, columns_WW.T)


def ssim_release(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return the mean structural similarity as P1's release computes it, with zeros around the maps, per image.

    The window is always 11 x 11 (sigma 1.5 positions), also on smaller maps, which are padded with 5 zeros on each
    side; the padding counts as positions where both maps are 0. Apart from that as `ssim`.

    Args:
        first_BHW: Maps with values in [0, 1], shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Similarity in [-1, 1], shape (B,), float64; exactly 1 for equal maps.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Source:
        pytorch_ssim by Po-Hsun Su (window_size 11), which the code of P1 calls; formula as in `ssim`.

    Example:
        >>> ssim_release(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
        tensor([1.], dtype=torch.float64)
    """
    first, second = _checked_pair(first_BHW, second_BHW)
    rows_HH, columns_WW = (_zero_padded_window_matrix(size, first.device) for size in first.shape[1:])
    return _mean_similarity(first, second, rows_HH, columns_WW.T)


def pearson(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return Pearson's correlation of two stacks of maps over their positions, per image.

    A constant map, as `minmax_normalise` defines it, has no correlation: the value is 1 if both maps are constant and
    0 if one is.

    Args:
        first_BHW: Maps, shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Correlation in [-1, 1], shape (B,), float64.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Example:
        >>> pearson(torch.tensor([[[0.0, 0.5, 1.0]]]), torch.tensor([[[1.0, 0.5, 0.0]]]))
        tensor([-1.], dtype=torch.float64)
    """
    # Scaled first: the mean of a map with a tiny span would otherwise be rounded by more than the span.
    pair = (minmax_normalise(map_BHW).flatten(1) for map_BHW in _checked_pair(first_BHW, second_BHW))
    first_BP, second_BP = (map_BP - map_BP.mean(dim=1, keepdim=True) for map_BP in pair)
    return _cosine_of_rows(first_BP, second_BP)


def cosine(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return the cosine of the angle between two maps as vectors of their positions, per image.

    A map of zeros has no direction: the value is 1 if both maps are all zeros and 0 if one is.

    Args:
        first_BHW: Maps with values in [0, 1], shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Cosine in [0, 1], shape (B,), float64.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Example:
        >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.6, 0.8]]])).round(decimals=4)
        tensor([0.6000], dtype=torch.float64)
    """
    first, second = _checked_pair(first_BHW, second_BHW)
    return _cosine_of_rows(first.flatten(1), second.flatten(1))


def js_divergence(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two maps as distributions over positions, per image; 0: equal.

    A distribution is the map divided by its sum; a map of zeros counts as uniform. With m the mean of both, the value
    is the mean of KL(first || m) and KL(second || m).

    Args:
        first_BHW: Maps with values in [0, 1], shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Divergence in bits, in [0, 1], shape (B,), float64; 1 if no position is above 0 in both.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Source:
        Lin 1991, doi:10.1109/18.61115, section IV, with equal weights.

    Example:
        >>> js_divergence(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([1.], dtype=torch.float64)
    """
    first_BP, second_BP = (_as_distribution(map_BHW) for map_BHW in _checked_pair(first_BHW, second_BHW))
    total_BP = first_BP + second_BP
    total_BP = total_BP.masked_fill(total_BP == 0, 1.0)
    nats_BP = torch.xlogy(first_BP, 2 * first_BP / total_BP) + torch.xlogy(second_BP, 2 * second_BP / total_BP)
    return (nats_BP.sum(dim=1) / (2 * math.log(2))).clamp(0.0, 1.0)


def iou_of_top_area(first_BHW: Tensor, second_BHW: Tensor) -> Tensor:
    """Return the intersection over union of the positions where each map is highest, per image.

    These are k = max(1, round(0.2 H W)) positions. Where values tie for the last places, the tied positions share
    these places in equal parts, so that no corner of the map is preferred; intersection and union are then sums of
    the smaller and of the larger part at each position. All positions of a constant map tie: two constant maps give
    1, a constant map and one without ties k / (2 H W - k), about 1/9, which is what chance gives.

    Args:
        first_BHW: Maps, shape (B, H, W), from 1 x 1 up.
        second_BHW: Maps of the same shape.

    Returns:
        Ratio in [0, 1], shape (B,), float64.

    Raises:
        ValueError: If the shapes differ or are not (B, H, W).

    Example:
        >>> iou_of_top_area(torch.tensor([[[0.1, 0.9]]]), torch.tensor([[[0.0, 0.0]]]))  # (1, 0) and (1/2, 1/2)
        tensor([0.3333], dtype=torch.float64)
    """
    first_BP, second_BP = (_part_of_top_area(map_BHW) for map_BHW in _checked_pair(first_BHW, second_BHW))
    return torch.minimum(first_BP, second_BP).sum(dim=1) / torch.maximum(first_BP, second_BP).sum(dim=1)


MAP_METRICS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {
        "ssim": ssim,
        "ssim_release": ssim_release,
        "pearson": pearson,
        "cosine": cosine,
        "js_divergence": js_divergence,
        "iou_top20": iou_of_top_area,
    }
)
"""Measures of two stacks of maps by name. High values mean alike, but a js_divergence of 0 does."""


def compare_maps(student_BHW: Tensor, teacher_BHW: Tensor) -> dict[str, Tensor]:
    """Return every measure of `MAP_METRICS` for two stacks of maps, each of shape (B,), float64.

    The larger map is average-pooled to the smaller, then each is scaled to [0, 1] by its own extremes (a constant map
    becomes zeros).

    Args:
        student_BHW: Maps, such as those of `activation_map`, shape (B, H, W), float32 or wider.
        teacher_BHW: Maps of the same images, shape (B, H', W').

    Raises:
        ValueError: If the inputs do not have three dimensions, or the batch sizes differ.

    Example:
        >>> compare_maps(torch.tensor([[[1.0, 2.0], [1.0, 2.0]]]), torch.tensor([[[5.0, 3.0]]]))["pearson"]
        tensor([-1.], dtype=torch.float64)
    """
    if student_BHW.ndim != 3 or teacher_BHW.ndim != 3:
        shapes = f"{tuple(student_BHW.shape)} and {tuple(teacher_BHW.shape)}"
        raise ValueError(f"expected two stacks of maps of shape (B, H, W), got {shapes}")
    pair = pool_to_smaller(student_BHW, teacher_BHW)
    student, teacher = (minmax_normalise(map_BHW).double() for map_BHW in pair)
    return {name: metric(student, teacher) for name, metric in MAP_METRICS.items()}


def _checked_pair(first_BHW: Tensor, second_BHW: Tensor) -> tuple[Tensor, Tensor]:
    if first_BHW.ndim != 3 or first_BHW.shape != second_BHW.shape:
        shapes = f"{tuple(first_BHW.shape)} and {tuple(second_BHW.shape)}"
        raise ValueError(f"expected two stacks of maps of one shape (B, H, W), got {shapes}")
    return first_BHW.double(), second_BHW.double()


def _mean_similarity(first: Tensor, second: Tensor, rows_HH: Tensor, columns_WW: Tensor) -> Tensor:
    """Mean SSIM with the windowed means that the two matrices take, from the left and from the right."""
    moments = torch.stack([first, second, first * first, second * second, first * second])
    mean_1, mean_2, square_1, square_2, product = (rows_HH @ moments @ columns_WW).unbind()
    variance_1, variance_2 = square_1 - mean_1 * mean_1, square_2 - mean_2 * mean_2
    covariance = product - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1 * mean_1 + mean_2 * mean_2 + C1)
    structure = (2 * covariance + C2) / (variance_1 + variance_2 + C2)
    similarity_B = (luminance * structure).mean(dim=(1, 2)).clamp(-1.0, 1.0)
    # Rounding may leave equal maps a hair below 1.
    return similarity_B.masked_fill((first == second).all(dim=2).all(dim=1), 1.0)


def _cosine_of_rows(first_BP: Tensor, second_BP: Tensor) -> Tensor:
    """Cosine of each pair of rows; 1 if both are zeros, 0 if one is."""
    first_BP, second_BP = _divided_by_largest(first_BP), _divided_by_largest(second_BP)
    square_1, square_2 = first_BP.square().sum(dim=1), second_BP.square().sum(dim=1)
    are_both_zero_B, is_any_zero_B = (square_1 == 0) & (square_2 == 0), (square_1 == 0) | (square_2 == 0)
    length_B = (square_1 * square_2).sqrt().masked_fill(is_any_zero_B, 1.0)
    return ((first_BP * second_BP).sum(dim=1) / length_B).clamp(-1.0, 1.0).masked_fill(are_both_zero_B, 1.0)


def _divided_by_largest(map_BP: Tensor) -> Tensor:
    """Rows whose largest magnitude is 1, or zeros: the squares of tiny values would underflow."""
    largest_B1 = map_BP.abs().amax(dim=1, keepdim=True)
    return map_BP / largest_B1.masked_fill(largest_B1 == 0, 1.0)


def _as_distribution(map_BHW: Tensor) -> Tensor:
    """Maps divided by their sums, shape (B, P)."""
    map_BP = map_BHW.flatten(1)
    map_BP = map_BP.masked_fill((map_BP == 0).all(dim=1, keepdim=True), 1.0)
    return map_BP / map_BP.sum(dim=1, keepdim=True)


def _part_of_top_area(map_BHW: Tensor) -> Tensor:
    """Part of each position, in [0, 1], that belongs to the top area: shape (B, P), each row sums to k."""
    map_BP = map_BHW.flatten(1)
    k = max(1, round(TOP_AREA_FRACTION * map_BP.shape[1]))
    lowest_B1 = map_BP.topk(k, dim=1).values[:, -1:]
    is_above_BP, is_tied_BP = map_BP > lowest_B1, map_BP == lowest_B1
    num_left_B1 = k - is_above_BP.sum(dim=1, keepdim=True)
    part_BP = is_above_BP + is_tied_BP * (num_left_B1 / is_tied_BP.sum(dim=1, keepdim=True).double())
    return part_BP.masked_fill(map_BP.isnan().any(dim=1, keepdim=True), math.nan)


def _window_matrix(size: int, window: int, device: torch.device) -> Tensor:
    """Matrix (size, size) that slides a normalised Gaussian window along one side, reflected at both ends."""
    offset_W = torch.arange(window, device=device) - window // 2
    weight_W = torch.exp(-0.5 * (offset_W.double() / SIGMA) ** 2)
    centre_S = torch.arange(size, device=device)
    source_SW = (centre_S.unsqueeze(1) + offset_W).abs()
    source_SW = (size - 1) - (size - 1 - source_SW).abs()
    is_source_SWS = source_SW.unsqueeze(2) == centre_S
    return torch.einsum("w,swt->st", weight_W / weight_W.sum(), is_source_SWS.double())


def _zero_padded_window_matrix(size: int, device: torch.device) -> Tensor:
    """Matrix (size, size) that slides the normalised window of 11 along one side, with zeros beyond both ends."""
    position_S = torch.arange(size, device=device)
    offset_SS = (position_S - position_S.unsqueeze(1)).double()
    offset_W = torch.arange(WINDOW, device=device).double() - WINDOW // 2
    total = torch.exp(-0.5 * (offset_W / SIGMA) ** 2).sum()
    weight_SS = torch.exp(-0.5 * (offset_SS / SIGMA) ** 2) / total
    return weight_SS.masked_fill(offset_SS.abs() > WINDOW // 2, 0.0)
