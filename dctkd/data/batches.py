"""From the pixel cache to batches. Order, crops and flips are a pure function of seed, epoch and index.

Row i of an epoch's draws belongs to image i of the training split, so a crop does not depend on the batch size, on
where an epoch is resumed, or on how many other images there are. Bits come from Philox in its raw form, whose values
numpy keeps for ever.

Normalisation is a difference and a product in float32, each rounded once, so its bits depend neither on threads nor on
the processor. Suffix: B batch, C channels, H rows, W columns, N images of a split, R values of a row of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from dctkd.data.manifest import Split
from dctkd.errors import InputError
from dctkd.provenance import canonical_json

if TYPE_CHECKING:
    from numpy import bool_, int64, uint8, uint64
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache
from dctkd.data.central_crop import central_corners

_CPU = torch.device("cpu")


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
class Draws:
    """All chance in one training epoch.

    Attributes:
        order_N: The order in which images are seen, int64.
        top_N: First row of the crop of image i, in pixels, int64.
        left_N: First column of the crop of image i, in pixels, int64.
        flip_N: Whether image i is mirrored, after the crop.
    """

    order_N: NDArray[int64]
    top_N: NDArray[int64]
    left_N: NDArray[int64]
    flip_N: NDArray[bool_]


def draw_epoch(sizes_N2: NDArray[int64], *, crop: int, hflip: bool, seed: int, epoch: int) -> Draws:
    """Draw one training epoch: a uniform permutation, uniform crops (as torchvision's RandomCrop) and fair flips.

    Args:
        sizes_N2: Height and width of each image in pixels, at least `crop`, int64, shape (N, 2).
        crop: Side of the crop, in pixels.
        hflip: If False no image is mirrored; the crops are the same.
        seed: The run's seed.
        epoch: From 0.
    """
    num_images = len(sizes_N2)
    bits_N3 = _raw_bits("augment", seed, epoch, num_images * 3).reshape(num_images, 3)
    places_N2 = (sizes_N2 - crop + 1).astype(np.uint64)
    # The upper 32 bits times the number of places, divided by 2^32: uniform up to 2^-32, without a loop of rejections.
    offsets_N2 = ((bits_N3[:, :2] >> np.uint64(32)) * places_N2 >> np.uint64(32)).astype(np.int64)
    flip_N = (bits_N3[:, 2] >> np.uint64(63)).astype(np.bool_) & hflip
    order_N = np.argsort(_raw_bits("order", seed, epoch, num_images), kind="stable")
    return Draws(order_N, offsets_N2[:, 0], offsets_N2[:, 1], flip_N)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Return the number of training batches of an epoch.

    The last batch may be smaller. If it held a single image, on which BatchNorm cannot train, that image joins the one
    before.

    Example:
        >>> [steps_per_epoch(num_images, 4) for num_images in (8, 9, 10)]
        [2, 2, 3]
    """
    steps = -(-num_images // batch_size)
    return steps - 1 if steps > 1 and num_images % batch_size == 1 else steps


def train_batches(
    cache: PixelCache,
    recipe: InputRecipe,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    device: torch.device = _CPU,
    start: int = 0,
) -> Iterator[RawBatch]:
    """Yield the training batches of one epoch.

    Args:
        cache: Packed with the recipe's `short_side`.
        recipe: Crop, flip, mean and standard deviation.
        seed: The run's seed.
        epoch: From 0.
        batch_size: Images per batch; see `steps_per_epoch` for the last one.
        device: Where batches go; to a GPU they travel as uint8, from pinned memory.
        start: Number of batches of this epoch to leave out.

    Raises:
        InputError: If the cache was packed with another `short_side`, an image is smaller than the crop, or there is
            but one image.
    """
    assemble = _Assembler(cache, "train", recipe, device)
    num_images = cache.num_images("train")
    if num_images < 2:
        raise InputError(f"{cache.path}: training needs at least 2 images, got {num_images}")
    draws = draw_epoch(cache.sizes("train"), crop=recipe.crop, hflip=recipe.hflip, seed=seed, epoch=epoch)
    steps = steps_per_epoch(num_images, batch_size)
    for step in range(start, steps):
        stop = num_images if step == steps - 1 else (step + 1) * batch_size
        index_B = draws.order_N[step * batch_size : stop]
        yield assemble(index_B, draws.top_N[index_B], draws.left_N[index_B], draws.flip_N[index_B])


def test_batches(
    cache: PixelCache,
    recipe: InputRecipe,
    *,
    batch_size: int,
    device: torch.device = _CPU,  # noqa: PT028 (no test, in spite of its name)
) -> Iterator[RawBatch]:
    """Yield the test images in official order, with the central crop of torchvision's CenterCrop and without chance.

    Args:
        cache: Packed with the recipe's `short_side`.
        recipe: Crop, mean and standard deviation.
        batch_size: Images per batch; the last may hold fewer.
        device: Where batches go.

    Raises:
        InputError: If the cache was packed with another `short_side`, or an image is smaller than the crop.
    """
    assemble = _Assembler(cache, "test", recipe, device)
    corner_N2 = central_corners(cache.sizes("test"), recipe.crop)
    for start in range(0, len(corner_N2), batch_size):
        index_B = np.arange(start, min(start + batch_size, len(corner_N2)))
        yield assemble(index_B, corner_N2[index_B, 0], corner_N2[index_B, 1], np.zeros(len(index_B), dtype=np.bool_))


def normalise(pixels_BHWC: Tensor, recipe: InputRecipe) -> Tensor:
    """Return (x / 255 - mean) / std as (x - 255 mean) * (1 / (255 std)), in float32.

    Args:
        pixels_BHWC: uint8, contiguous, shape (B, H, W, 3), on any device.
        recipe: Mean and standard deviation.

    Returns:
        float32, shape (B, 3, H, W), in channels_last memory format, on the same device; fresh memory.
    """
    batch, height, width, channels = pixels_BHWC.shape
    # Whole rows: broadcasting over the 3 channels alone would run a loop of length 3, ten times slower.
    mean_R = torch.tensor(recipe.mean, dtype=torch.float64).mul(255).repeat(width).to(pixels_BHWC.device, torch.float32)
    scale_R = (
        torch.tensor(recipe.std, dtype=torch.float64)
        .mul(255)
        .reciprocal()
        .repeat(width)
        .to(pixels_BHWC.device, torch.float32)
    )
    rows = pixels_BHWC.view(batch * height, width * channels).to(torch.float32)
    # Two operations on purpose: in one, a compiler may fuse some of them, and bits would depend on vectors and threads.
    rows.sub_(mean_R).mul_(scale_R)
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class _Assembler:
    """Cuts crops out of a cache and makes batches of them."""

    def __init__(self, cache: PixelCache, split: Split, recipe: InputRecipe, device: torch.device) -> None:
        _check_fits(cache, split, recipe)
        self.recipe = recipe
        self.device = device
        self.pixels = cache.pixels(split)
        self.offsets_N = cache.offsets(split)
        self.sizes_N2 = cache.sizes(split)
        self.labels_N = cache.labels(split)

    def __call__(
        self, index_B: NDArray[int64], top_B: NDArray[int64], left_B: NDArray[int64], flip_B: NDArray[bool_]
    ) -> RawBatch:
        crop = self.recipe.crop
        pixels_BHWC = self._empty(len(index_B), crop, crop, 3, dtype=torch.uint8)
        self._gather(pixels_BHWC.numpy(), index_B, top_B, left_B, flip_B)
        images_BCHW = normalise(self._send(pixels_BHWC), self.recipe)
        return RawBatch(images_BCHW, self._send_numbers(self.labels_N[index_B]), self._send_numbers(index_B))

    def _gather(
        self,
        out_BHWC: NDArray[uint8],
        index_B: NDArray[int64],
        top_B: NDArray[int64],
        left_B: NDArray[int64],
        flip_B: NDArray[bool_],
    ) -> None:
        """Copy one crop per image, straight from the memory map."""
        crop, pixels = self.recipe.crop, self.pixels
        where = np.column_stack([self.offsets_N[index_B], self.sizes_N2[index_B], top_B, left_B, flip_B]).tolist()
        for out_HWC, (offset, height, width, top, left, flip) in zip(out_BHWC, where, strict=True):
            image_HWC = pixels[offset : offset + height * width * 3].reshape(height, width, 3)
            crop_HWC = image_HWC[top : top + crop, left : left + crop]
            if flip:
                for channel in range(3):  # three times as fast as copying mirrored pixels of three bytes each
                    out_HWC[:, :, channel] = crop_HWC[:, ::-1, channel]
            else:
                out_HWC[:] = crop_HWC

    def _empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def _send(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def _send_numbers(self, numbers_B: NDArray[int64]) -> Tensor:
        tensor = self._empty(len(numbers_B), dtype=torch.int64)
        tensor.numpy()[:] = numbers_B
        return self._send(tensor)


def _check_fits(cache: PixelCache, split: Split, recipe: InputRecipe) -> None:
    if recipe.short_side != cache.short_side:
        raise InputError(
            f"{cache.path}: packed with short_side {cache.short_side}, but the recipe says {recipe.short_side}; "
            "make the cache again"
        )
    sizes_N2 = cache.sizes(split)
    small_N = np.flatnonzero((sizes_N2 < recipe.crop).any(axis=1))
    if len(small_N):
        first = int(small_N[0])
        height, width = sizes_N2[first].tolist()
        raise InputError(
            f"{cache.path}: {len(small_N)} {split} images are smaller than the crop of {recipe.crop} pixels, first "
            f"{cache.ids(split)[first]} ({height} x {width}); lower input.crop or set input.short_side to at least "
            f"{recipe.crop}"
        )


def _raw_bits(purpose: str, seed: int, epoch: int, count: int) -> NDArray[uint64]:
    """Return the first numbers, uniform over 64 bits, of the stream that belongs to a purpose, a seed and an epoch."""
    key = np.frombuffer(sha256(canonical_json([purpose, seed, epoch]).encode()).digest()[:16], dtype="<u8")
    bits: NDArray[uint64] = np.random.Philox(key=key).random_raw(count)
    return bits
