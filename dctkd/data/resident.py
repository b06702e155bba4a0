"""All pixels of a dataset in device memory, from which a batch is one gather.

Suffix: B batch, S side of the crop, M crops of an epoch, P pixels of a split.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dctkd.data.inputs import Crops, InputRecipe, RawBatch, normalise
from dctkd.data.manifest import SPLITS, CacheSplit

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache

RESIDENT_SHARE = 0.25
"""Largest fraction of the device's free memory, before any network is built, that pixels may take."""
UPLOAD_BYTES = 64 * 2**20
"""Bytes that travel to the device at a time when a split is copied there."""


def is_small_enough(cache: PixelCache, free_bytes: int) -> bool:
    """Tell whether the pixels of all splits may live in device memory: at most RESIDENT_SHARE of what is free."""
    return sum(cache.pixels(split).nbytes for split in SPLITS) <= RESIDENT_SHARE * free_bytes


class ResidentSource:
    """A split's pixels are copied to the device when its first batch is asked for, and stay there.

    Splits whose pixels lie in one file (`train` and `held_out`) share the copy.
    """

    def __init__(self, cache: PixelCache, recipe: InputRecipe, device: torch.device) -> None:
        """Take batches from `cache`, which fits the recipe, on `device`."""
        self.cache, self.recipe, self.device = cache, recipe, device
        self._pixels: dict[int, Tensor] = {}

    def read(self, crops: Crops) -> Generator[RawBatch]:
        """Yield the batches of some crops, on the device. The host copies nothing but one table per call."""
        file = id(self.cache.pixels(crops.split))  # the cache keeps the array, so nothing else gets this number
        if file not in self._pixels:
            self._pixels[file] = self._upload(crops.split)
        pixels_P3, side = self._pixels[file], self.recipe.crop
        first_M, pitch_M, step_M = pixel_places(self.cache, crops, side)
        numbers = np.stack([first_M, pitch_M, step_M, self.cache.labels(crops.split)[crops.index_M], crops.index_M])
        table = torch.from_numpy(numbers).to(self.device)
        across_S = torch.arange(side, device=self.device)
        for rows in crops.batches:
            first_B, pitch_B, step_B, target_B, index_B = table[:, rows]
            place_BSS = gather_index(first_B, pitch_B, step_B, across_S)
            pixels_BSS3 = pixels_P3.index_select(0, place_BSS.view(-1)).view(*place_BSS.shape, 3)
            yield RawBatch(normalise(pixels_BSS3, self.recipe), target_B, index_B)

    def _upload(self, split: CacheSplit) -> Tensor:
        """Return the pixels of a split's file on the device, shape (P, 3), by way of a small buffer on the host."""
        pixels = self.cache.pixels(split)
        on_device = torch.empty(len(pixels), dtype=torch.uint8, device=self.device)
        buffer = torch.empty(min(UPLOAD_BYTES, len(pixels)), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for start in range(0, len(pixels), UPLOAD_BYTES):
            part = pixels[start : start + UPLOAD_BYTES]
            buffer.numpy()[: len(part)] = part
            on_device[start : start + len(part)] = buffer[: len(part)]  # blocks: the buffer is free afterwards
        return on_device.view(-1, 3)


def pixel_places(cache: PixelCache, crops: Crops, side: int) -> tuple[NDArray[int64], NDArray[int64], NDArray[int64]]:
    """Return where the pixels of crops lie, counted in pixels of three bytes from the start of the split.

    Returns:
        For each crop, int64, shape (M,): the place of its first pixel (the last of the row if it is mirrored), the
        distance from a row to the next, and from a pixel to its neighbour on the right: 1, or -1 if it is mirrored.
    """
    width_M = cache.sizes(crops.split)[crops.index_M, 1]
    flip_M = crops.flip_M.astype(np.int64)
    start_M = cache.offsets(crops.split)[crops.index_M] // 3
    first_M = start_M + crops.top_M * width_M + crops.left_M + flip_M * (side - 1)
    return first_M, width_M, 1 - 2 * flip_M


def gather_index(first_B: Tensor, pitch_B: Tensor, step_B: Tensor, across_S: Tensor) -> Tensor:
    """Return the place of each pixel of a batch, int64, shape (B, S, S): 8 bytes per pixel for the time of a gather."""
    down_BS1 = (first_B.unsqueeze(1) + pitch_B.unsqueeze(1) * across_S).unsqueeze(2)
    right_B1S = (step_B.unsqueeze(1) * across_S).unsqueeze(1)
    return down_BS1 + right_B1S
