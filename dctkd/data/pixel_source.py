"""Which way pixels take to the device, decided once per job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from dctkd.data.host import HostSource
from dctkd.data.inputs import InputRecipe, PixelSource
from dctkd.data.prefetch import CudaLane, PrefetchSource
from dctkd.data.resident import ResidentSource, is_small_enough

if TYPE_CHECKING:
    from dctkd.data.cache import PixelCache

logger = logging.getLogger(__name__)


def choose_source(
    cache: PixelCache, recipe: InputRecipe, device: torch.device, *, may_be_resident: bool = True
) -> PixelSource:
    """Return where batches come from: a CPU cuts them itself, a GPU holds all pixels or has them sent ahead.

    The choice changes no bit of the pixels.

    Args:
        cache: Packed with the recipe's `short_side`.
        recipe: Crop, mean and standard deviation.
        device: Where batches go.
        may_be_resident: False leaves a GPU's memory to the networks, however small the dataset is.
    """
    if device.type != "cuda":
        return HostSource(cache, recipe)
    if may_be_resident and is_small_enough(cache, free_bytes(device)):
        logger.info("%s: all pixels are held in GPU memory", cache.path)
        return ResidentSource(cache, recipe, device)
    logger.info("%s: pixels are cut on the host and sent ahead to the GPU", cache.path)
    return PrefetchSource(cache, recipe, CudaLane(device))


def free_bytes(device: torch.device) -> int:
    """Return how many bytes of a GPU's memory nobody uses."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
