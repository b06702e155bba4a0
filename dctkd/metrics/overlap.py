"""Overlap of activation maps: do student and teacher look at the same places?

Structural similarity (SSIM) of the min-max normalised activation maps, per image and stage, at every position of the
map. P1 measures the same on the images that the teacher gets right, and pads the maps with zeros, which look like
positions where both networks agree; here all images count and the maps are reflected at their borders.

Shapes: B images, C channels, H rows, W columns, S paired stages, N images of the split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd.functional.attention import activation_map, minmax_normalise, pool_to_smaller
from dctkd.metrics import Result
from dctkd.metrics.accuracy import sort_by_index

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2


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
    if first_BHW.ndim != 3 or first_BHW.shape != second_BHW.shape:
        shapes = f"{tuple(first_BHW.shape)} and {tuple(second_BHW.shape)}"
        raise ValueError(f"expected two stacks of maps of one shape (B, H, W), got {shapes}")
    height, width = first_BHW.shape[1:]
    window = min(WINDOW, height, width)
    window -= 1 - window % 2
    rows_HH = _window_matrix(height, window, first_BHW.device)
    columns_WW = _window_matrix(width, window, first_BHW.device).T
    first, second = first_BHW.double(), second_BHW.double()
    moments = torch.stack([first, second, first * first, second * second, first * second])
    mean_1, mean_2, square_1, square_2, product = (rows_HH @ moments @ columns_WW).unbind()
    variance_1, variance_2 = square_1 - mean_1 * mean_1, square_2 - mean_2 * mean_2
    covariance = product - mean_1 * mean_2
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1 * mean_1 + mean_2 * mean_2 + C1)
    structure = (2 * covariance + C2) / (variance_1 + variance_2 + C2)
    similarity_B = (luminance * structure).mean(dim=(1, 2)).clamp(-1.0, 1.0)
    # Rounding may leave equal maps a hair below 1.
    return similarity_B.masked_fill((first == second).all(dim=2).all(dim=1), 1.0)


def stage_overlap(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """Return the SSIM of the two activation maps of a paired stage, per image: shape (B,), float64.

    Mean squares over channels, the larger map average-pooled to the smaller, each scaled to [0, 1] by its own extremes
    (a constant map becomes zeros), then `ssim`.

    Args:
        student_BCHW: Feature maps, shape (B, C, H, W).
        teacher_BCHW: Feature maps, shape (B, C', H', W').
    """
    student_BHW, teacher_BHW = pool_to_smaller(activation_map(student_BCHW), activation_map(teacher_BCHW))
    return ssim(minmax_normalise(student_BHW), minmax_normalise(teacher_BHW))


class Overlap:
    """Collects the overlap of a student with its teacher, batch by batch, without waiting for the device."""

    def __init__(self) -> None:
        self._indices: list[Tensor] = []
        self._values: list[Tensor] = []
        self._has_positions: tuple[bool, ...] = ()

    @torch.no_grad()
    def update(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], index_B: Tensor) -> None:
        """Add a batch.

        Args:
            student_maps: Feature maps at the S paired stages, each (B, C, H, W), shallow to deep.
            teacher_maps: The teacher's, for the same images; channels and size may differ.
            index_B: Position of each image in its split, shape (B,), int64; each image once over all batches.

        Raises:
            ValueError: If the numbers of stages differ or are 0, or the shapes do not fit.
        """
        if len(student_maps) != len(teacher_maps) or not student_maps:
            got = f"{len(student_maps)} and {len(teacher_maps)}"
            raise ValueError(f"expected equally many stages of student and teacher, at least 1; got {got}")
        pairs = list(zip(student_maps, teacher_maps, strict=True))
        has_positions = tuple(_num_common_positions(student, teacher) > 1 for student, teacher in pairs)
        if self._values and has_positions != self._has_positions:
            raise ValueError("the stages of this batch are not those of the batches before")
        self._has_positions = has_positions
        self._values.append(torch.stack([stage_overlap(student, teacher) for student, teacher in pairs], dim=1))
        self._indices.append(index_B)

    def per_image(self) -> dict[str, NDArray[Any]]:
        """Return the SSIM of every image, sorted by index: columns index (int64), stage1, stage2, ... (float64).

        Raises:
            ValueError: If there are no images, or one was counted twice.
        """
        if not self._values:
            raise ValueError("no images were counted: call update() first")
        values_NS = torch.cat(self._values).cpu().numpy()
        columns = {f"stage{stage + 1}": values_NS[:, stage] for stage in range(values_NS.shape[1])}
        return sort_by_index({"index": torch.cat(self._indices).cpu().numpy(), **columns})

    def result(self, *, split: str = "test") -> list[Result]:
        """Return the mean over images of each stage, named stage1 to stageS, and the mean of these stages.

        A stage whose common map has a single position is left out, also of the mean: both maps are constant there and
        would always agree. So is a stage with a value that is not finite. The order of the images does not matter.

        Raises:
            ValueError: If there are no images, or one was counted twice.
        """
        columns = self.per_image()
        means = {
            f"stage{stage}": math.fsum(columns[f"stage{stage}"]) / len(columns["index"])
            for stage, has_positions in enumerate(self._has_positions, start=1)
            if has_positions
        }
        finite = {stage: value for stage, value in means.items() if math.isfinite(value)}
        if finite:
            finite["mean"] = math.fsum(finite.values()) / len(finite)
        return [Result("overlap_ssim", stage, split, value, "1") for stage, value in finite.items()]


def _num_common_positions(student_BCHW: Tensor, teacher_BCHW: Tensor) -> int:
    return math.prod(min(student_BCHW.shape[side], teacher_BCHW.shape[side]) for side in (2, 3))


def _window_matrix(size: int, window: int, device: torch.device) -> Tensor:
    """Matrix (size, size) that slides a normalised Gaussian window along one side, reflected at both ends."""
    offset_W = torch.arange(window, device=device) - window // 2
    weight_W = torch.exp(-0.5 * (offset_W.double() / SIGMA) ** 2)
    centre_S = torch.arange(size, device=device)
    source_SW = (centre_S.unsqueeze(1) + offset_W).abs()
    source_SW = (size - 1) - (size - 1 - source_SW).abs()
    is_source_SWS = source_SW.unsqueeze(2) == centre_S
    return torch.einsum("w,swt->st", weight_W / weight_W.sum(), is_source_SWS.double())
