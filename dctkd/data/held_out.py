"""The part of the training images that is not trained on, to choose an epoch or a weight without the test images.

Which images that are is a pure function of their official ids, their classes and the fraction: all runs of a dataset
that hold out the same fraction hold out the same images, and those of a smaller fraction are among those of a larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from dctkd.errors import InputError

if TYPE_CHECKING:
    from numpy import bool_, int64
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache


def num_held_out(num_images: int, fraction: float) -> int:
    """Return how many of a class's training images are held out: the fraction of them, halves rounded up.

    At least one image is left to train on, as the fraction is less than one half.

    Args:
        num_images: Training images of the class.
        fraction: Above 0, below 0.5; taken as it is written in decimal digits.

    Example:
        >>> [num_held_out(num_images, 0.1) for num_images in (1, 4, 5, 14, 15)]
        [0, 0, 1, 1, 2]
    """
    return int((Decimal(str(fraction)) * num_images).to_integral_value(ROUND_HALF_UP))


def choose_held_out(ids: Sequence[str], labels_N: NDArray[int64], fraction: float) -> NDArray[bool_]:
    """Choose of every class the images whose official ids have the smallest SHA-256.

    Args:
        ids: Official ids of the training images, each once.
        labels_N: Their classes, from 0, int64, shape (N,).
        fraction: Of every class's images; see `num_held_out`.

    Returns:
        Whether image i is held out, shape (N,).
    """
    ranks = sorted(range(len(ids)), key=lambda row: sha256(ids[row].encode("utf-8", "surrogatepass")).digest())
    left = [num_held_out(count, fraction) for count in np.bincount(labels_N).tolist()]
    is_held_out_N = np.zeros(len(ids), dtype=np.bool_)
    for row in ranks:
        label = int(labels_N[row])
        if left[label]:
            left[label] -= 1
            is_held_out_N[row] = True
    return is_held_out_N


def hold_out(cache: PixelCache, fraction: float | None) -> PixelCache:
    """Return the cache with a fraction of every class's training images as a split of its own, `held_out`.

    Args:
        cache: The whole dataset.
        fraction: Above 0, below 0.5; None leaves the cache as it is.

    Raises:
        InputError: If no class has enough images to hold one out.
    """
    if fraction is None:
        return cache
    is_held_out_N = choose_held_out(cache.ids("train"), cache.labels("train"), fraction)
    if not is_held_out_N.any():
        most = int(np.bincount(cache.labels("train"), minlength=1).max())
        raise InputError(
            f"{cache.path}: held_out_fraction {fraction:g} holds out no image, because no class has more than {most} "
            f"training images; take at least {0.5 / max(most, 1):.3g} or null"
        )
    return cache.holding_out(is_held_out_N)
