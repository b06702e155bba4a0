"""From the pixel cache to batches. Order, crops and flips are a pure function of seed, epoch and index.

Row i of an epoch's draws belongs to image i of the training split, so a crop does not depend on the batch size, on
where an epoch is resumed, or on how many other images there are. Bits come from Philox in its raw form, whose values
numpy keeps for ever. Which way pixels take to the device is decided in pixel_source.py and changes none of them.

Suffix: B batch, C channels, H rows, W columns, N images of a split.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from dctkd.data.central_crop import central_corners
from dctkd.data.host import HostSource
from dctkd.data.inputs import Crops, InputRecipe, PixelSource, RawBatch
from dctkd.data.manifest import CacheSplit
from dctkd.errors import InputError
from dctkd.provenance import canonical_json

if TYPE_CHECKING:
    from numpy import bool_, int64, uint64
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache


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


def batch_rows(num_images: int, batch_size: int) -> list[slice]:
    """Return the rows of each training batch of an epoch, in the order in which its images are seen."""
    steps = steps_per_epoch(num_images, batch_size)
    starts = [step * batch_size for step in range(steps)]
    return [slice(*rows) for rows in zip(starts, [*starts[1:], num_images], strict=False)]


@dataclass(frozen=True)
class Part:
    """Which part of every batch a process takes.

    Attributes:
        rank: Number of the process, from 0.
        num_ranks: Processes that share a batch.
    """

    rank: int = 0
    num_ranks: int = 1

    def rows_of(self, batch: slice) -> tuple[slice, bool]:
        """Return this process's rows of a training batch, and whether they count.

        Every piece has two images at least, as batch normalisation needs them. Processes for which none are left take
        the first two, which do not count: all of them must pass something through the network.

        Example:
            >>> [Part(rank, 3).rows_of(slice(0, 7)) for rank in range(3)]
            [(slice(0, 2, None), True), (slice(2, 4, None), True), (slice(4, 7, None), True)]
            >>> [Part(rank, 3).rows_of(slice(0, 5)) for rank in range(3)]
            [(slice(0, 2, None), True), (slice(2, 5, None), True), (slice(0, 2, None), False)]
        """
        num_images = batch.stop - batch.start
        busy = max(min(self.num_ranks, num_images // 2), 1)
        if self.rank >= busy:
            return slice(batch.start, batch.start + min(num_images, 2)), False
        first, last = (batch.start + num_images * rank // busy for rank in (self.rank, self.rank + 1))
        return slice(first, last), True


WHOLE = Part()


def train_batches(
    cache: PixelCache,
    recipe: InputRecipe,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    source: PixelSource | None = None,
    start: int = 0,
    part: Part = WHOLE,
) -> Generator[RawBatch]:
    """Yield the training batches of one epoch.

    Args:
        cache: Packed with the recipe's `short_side`.
        recipe: Crop, flip, mean and standard deviation.
        seed: The run's seed.
        epoch: From 0.
        batch_size: Images per batch; see `steps_per_epoch` for the last one.
        source: The way of the pixels (`choose_source`), of the same cache and recipe; None: cut on the CPU, for it.
        start: Number of batches of this epoch to leave out.
        part: Yield only these images of each batch; pixels of others are not read.

    Raises:
        InputError: If the cache was packed with another `short_side`, an image is smaller than the crop, or there is
            but one image.
    """
    _check_fits(cache, "train", recipe)
    num_images = cache.num_images("train")
    if num_images < 2:
        raise InputError(f"{cache.path}: training needs at least 2 images, got {num_images}")
    draws = draw_epoch(cache.sizes("train"), crop=recipe.crop, hflip=recipe.hflip, seed=seed, epoch=epoch)
    order_N = draws.order_N
    crops = Crops(
        split="train",
        index_M=order_N,
        top_M=draws.top_N[order_N],
        left_M=draws.left_N[order_N],
        flip_M=draws.flip_N[order_N],
        batches=[part.rows_of(rows)[0] for rows in batch_rows(num_images, batch_size)[start:]],
    )
    yield from (source or HostSource(cache, recipe)).read(crops)


def test_batches(
    cache: PixelCache,
    recipe: InputRecipe,
    *,
    batch_size: int,
    source: PixelSource | None = None,  # noqa: PT028 (no test, in spite of its name)
    part: Part = WHOLE,  # noqa: PT028
    split: CacheSplit = "test",  # noqa: PT028
) -> Generator[RawBatch]:
    """Yield the test images in official order, with the central crop of torchvision's CenterCrop and without chance.

    Args:
        cache: Packed with the recipe's `short_side`.
        recipe: Crop, mean and standard deviation.
        batch_size: Images per batch; the last may hold fewer.
        source: As for `train_batches`.
        part: Yield only every so many-th batch, the first being the one of this rank.
        split: Of another split, in the same way, if it is not `test`.

    Raises:
        InputError: If the cache was packed with another `short_side`, or an image is smaller than the crop.
    """
    _check_fits(cache, split, recipe)
    corner_N2 = central_corners(cache.sizes(split), recipe.crop)
    num_images = len(corner_N2)
    rows = [slice(start, min(start + batch_size, num_images)) for start in range(0, num_images, batch_size)]
    crops = Crops(
        split=split,
        index_M=np.arange(num_images),
        top_M=corner_N2[:, 0],
        left_M=corner_N2[:, 1],
        flip_M=np.zeros(num_images, dtype=np.bool_),
        batches=rows[part.rank :: part.num_ranks],
    )
    yield from (source or HostSource(cache, recipe)).read(crops)


def _check_fits(cache: PixelCache, split: CacheSplit, recipe: InputRecipe) -> None:
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
