"""Crops cut from the memory-mapped cache by the host: the source of batches on a CPU.

Suffix: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dctkd.data.inputs import Crops, InputRecipe, RawBatch, normalise

if TYPE_CHECKING:
    from numpy import bool_, int64, uint8
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache


class HostSource:
    """Pixels stay in the cache's file; each batch is cut, mirrored and normalised on the CPU when it is asked for."""

    def __init__(self, cache: PixelCache, recipe: InputRecipe) -> None:
        """Take batches from `cache`, which fits the recipe."""
        self.cache, self.recipe = cache, recipe

    def read(self, crops: Crops) -> Generator[RawBatch]:
        """Yield the batches of some crops, on the CPU."""
        gather = Gatherer(self.cache, crops, self.recipe.crop)
        labels_N = self.cache.labels(crops.split)
        for rows in crops.batches:
            index_B = crops.index_M[rows]
            target_B = torch.from_numpy(labels_N[index_B])
            yield RawBatch(self._images(gather, crops, rows), target_B, torch.from_numpy(index_B.copy()))

    def _images(self, gather: Gatherer, crops: Crops, rows: slice) -> Tensor:
        """Return some rows' images; apart, so that no batch's bytes are held any more when the next is asked for."""
        side, flip_B = self.recipe.crop, crops.flip_M[rows]
        pixels_BHWC = torch.empty((len(flip_B), side, side, 3), dtype=torch.uint8)
        gather(pixels_BHWC.numpy(), rows, flip_B)
        return normalise(pixels_BHWC, self.recipe)


class Gatherer:
    """Copies crops of one split straight from the memory map."""

    def __init__(self, cache: PixelCache, crops: Crops, side: int) -> None:
        """Take crops of `side` pixels."""
        self.pixels, self.crops, self.side = cache.pixels(crops.split), crops, side
        self.offsets_N, self.sizes_N2 = cache.offsets(crops.split), cache.sizes(crops.split)

    def __call__(self, out_BHWC: NDArray[uint8], rows: slice, flip_B: NDArray[bool_]) -> None:
        """Copy the crops of some rows, mirrored where `flip_B` says so, to `out_BHWC`, uint8, (B, side, side, 3)."""
        side, pixels = self.side, self.pixels
        for out_HWC, (offset, height, width, top, left, flip) in zip(out_BHWC, self._where(rows, flip_B), strict=True):
            image_HWC = pixels[offset : offset + height * width * 3].reshape(height, width, 3)
            crop_HWC = image_HWC[top : top + side, left : left + side]
            if flip:
                for channel in range(3):  # three times as fast as copying mirrored pixels of three bytes each
                    out_HWC[:, :, channel] = crop_HWC[:, ::-1, channel]
            else:
                out_HWC[:] = crop_HWC

    def _where(self, rows: slice, flip_B: NDArray[bool_]) -> list[list[int]]:
        index_B: NDArray[int64] = self.crops.index_M[rows]
        corner = self.crops.top_M[rows], self.crops.left_M[rows]
        found: list[list[int]] = np.column_stack(
            [self.offsets_N[index_B], self.sizes_N2[index_B], *corner, flip_B]
        ).tolist()
        return found
