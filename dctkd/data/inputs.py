"""What a network is fed with: the recipe, a batch, which crops are seen, and the step from pixels to floats.

Normalisation is a difference and a product in float32, each rounded once, so its bits depend neither on threads nor on
the processor. Suffix: B batch, C channels, H rows, W columns, M crops of an epoch, R values of a row of pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from dctkd.data.manifest import CacheSplit

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray


class InputRecipe(Protocol):
    """How an image becomes a network's input; dctkd.config.InputRecipe is one."""

    @property
    def short_side(self) -> int | None:
        """Pixels that the short side was resized to when packing; None: sizes were kept."""
        ...

    @property
    def crop(self) -> int:
        """Side of the square crop, in pixels."""
        ...

    @property
    def hflip(self) -> bool:
        """Whether training images are mirrored with probability 0.5."""
        ...

    @property
    def mean(self) -> tuple[float, float, float]:
        """Per channel, of pixels in [0, 1]."""
        ...

    @property
    def std(self) -> tuple[float, float, float]:
        """Per channel, of pixels in [0, 1]."""
        ...


@dataclass(frozen=True)
class RawBatch:
    """A batch on its device.

    Attributes:
        images_BCHW: Normalised, float32, shape (B, 3, crop, crop), in channels_last memory format.
        target_B: Labels, int64.
        index_B: Positions in the split's official order, int64.
    """

    images_BCHW: Tensor
    target_B: Tensor
    index_B: Tensor


@dataclass(frozen=True)
class Crops:
    """Which crops of a split's images are seen, in the order in which they are seen.

    Attributes:
        split: The split.
        index_M: Position of the image in the split's official order, int64.
        top_M: First row of the crop, in pixels, int64.
        left_M: First column of the crop, in pixels, int64.
        flip_M: Whether the crop is mirrored.
        batches: The rows of each batch.
    """

    split: CacheSplit
    index_M: NDArray[int64]
    top_M: NDArray[int64]
    left_M: NDArray[int64]
    flip_M: NDArray[bool_]
    batches: Sequence[slice]


class PixelSource(Protocol):
    """Where pixels lie, and how they reach the device on which a network computes."""

    def read(self, crops: Crops) -> Generator[RawBatch]:
        """Yield the batches of some crops. Every source gives the same pixels; close the iterator to give it up."""
        ...


def normalise(pixels_BHWC: Tensor, recipe: InputRecipe) -> Tensor:
    """Return (x / 255 - mean) / std as (x - 255 mean) * (1 / (255 std)), in float32.

    Args:
        pixels_BHWC: uint8, contiguous, shape (B, H, W, 3), on any device.
        recipe: Mean and standard deviation.

    Returns:
        float32, shape (B, 3, H, W), in channels_last memory format, on the same device; fresh memory.
    """
    batch, height, width, channels = pixels_BHWC.shape
    mean_R, scale_R = _row_constants(tuple(recipe.mean), tuple(recipe.std), width, pixels_BHWC.device)
    rows = pixels_BHWC.view(batch * height, width * channels).to(torch.float32)
    # Two operations on purpose: in one, a compiler may fuse some of them, and bits would depend on vectors and threads.
    rows.sub_(mean_R).mul_(scale_R)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _row_constants(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return 255 mean and 1 / (255 std) for whole rows: broadcasting over 3 channels alone is ten times slower.

    Kept: making them anew would stop the host for a copy to the GPU in every step.
    """
    with torch.inference_mode(False):
        scale_R = torch.tensor(std, dtype=torch.float64).mul(255).reciprocal().repeat(width)
        mean_R = torch.tensor(mean, dtype=torch.float64).mul(255).repeat(width)
        return mean_R.to(device, torch.float32), scale_R.to(device, torch.float32)
