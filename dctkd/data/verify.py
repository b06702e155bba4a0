"""Whether a pixel cache still holds what its fingerprint says: every image is read and hashed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dctkd.data.cache import PixelCache, fingerprint_of
from dctkd.data.decode import digest_of_pixels
from dctkd.data.manifest import SPLITS, Split
from dctkd.errors import InputError
from dctkd.late_files import latency_of, patiently
from dctkd.worker_pool import map_chunks

CHUNK_IMAGES = 256


def verify_cache(path: Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> PixelCache:
    """Compute the fingerprint of a cache anew, from its pixels, masks, labels, ids and class names.

    Reads the cache once; takes as long as the disk or SHA-256 needs for that. On a file system that machines share,
    what does not fit is read again until late files had their time to be seen.

    Args:
        path: Folder of the cache.
        workers: Processes that hash; changes speed only.
        progress: Called with the number of images done and of all images.

    Returns:
        The cache, opened.

    Raises:
        InputError: If there is no cache, or it is not what was packed.
    """
    return patiently(lambda: _verify(path, workers, progress), path, latency_of(path))


def _verify(path: Path, workers: int, progress: Callable[[int, int], None] | None) -> PixelCache:
    cache = PixelCache.open(path)
    images: list[tuple[Split, int]] = [(split, index) for split in SPLITS for index in range(cache.num_images(split))]
    chunks = [images[first : first + CHUNK_IMAGES] for first in range(0, len(images), CHUNK_IMAGES)]
    digests: list[str] = []
    try:
        ids = [image_id for split in SPLITS for image_id in cache.ids(split)]
        labels = [label for split in SPLITS for label in cache.labels(split).tolist()]
        for digest in map_chunks(partial(_digests, path), chunks, workers=workers):
            digests.append(digest)
            if progress is not None:
                progress(len(digests), len(images))
        fingerprint = fingerprint_of(
            (
                (image_id, label, split, digest)
                for image_id, label, (split, _), digest in zip(ids, labels, images, digests, strict=True)
            ),
            classes=cache.classes,
            mask_names=cache.mask_names,
            short_side=cache.short_side,
        )
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{path}: {_DAMAGED} ({error}); {_WHAT_TO_DO}") from error
    if fingerprint != cache.fingerprint:
        raise InputError(
            f"{path}: {_DAMAGED}: its fingerprint says {cache.fingerprint[:16]}, its content gives {fingerprint[:16]}; "
            f"{_WHAT_TO_DO}"
        )
    return cache


_DAMAGED = "this pixel cache was damaged or changed after it was packed"
_WHAT_TO_DO = "delete the folder and make it again"


def _digests(path: Path, images: Sequence[tuple[Split, int]]) -> list[str]:
    """Hash images; opens the cache for each chunk, so that a worker does not hold what it has mapped before."""
    cache = PixelCache.open(path)
    return [digest_of_pixels(cache.image(split, index), cache.mask(split, index)) for split, index in images]
