"""The pixel cache: every image decoded once, ragged uint8, memory-mapped. Opening it loads neither torch nor PIL.

    <cache>/fingerprint.json            small header: fingerprint, classes, resizing, what was asked for
    <cache>/manifest.json               ids, paths, labels and problems; read only when asked for
    <cache>/<split>/pixels.bin          images one after the other, H x W x 3
    <cache>/<split>/index.npy           int64 (N, 4): offset in pixels.bin in bytes, height, width, label
    <cache>/<split>/masks.bin           rendered datasets only: object ids, H x W, at a third of the offsets

The *fingerprint* covers official ids, labels, splits, cached pixels, class names and the resize recipe, so it is
independent of where the photographs lie and of who packed them. Suffix: H rows, W columns, C channels, N images.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dctkd.data.manifest import SPLITS, CacheSplit, Problem, Split
from dctkd.errors import InputError
from dctkd.provenance import canonical_json, sha256_of

if TYPE_CHECKING:
    from numpy import bool_, int64, uint8
    from numpy.typing import NDArray

SCHEMA = 1
HEADER, MANIFEST, PIXELS, INDEX, MASKS = "fingerprint.json", "manifest.json", "pixels.bin", "index.npy", "masks.bin"


@dataclass(frozen=True)
class _SplitArrays:
    """Views into the files of one split.

    Attributes:
        rows_N: Positions of these images among those of the files, int64; None: all of them.
    """

    index_N4: NDArray[int64]
    pixels: NDArray[uint8]
    masks: NDArray[uint8] | None
    rows_N: NDArray[int64] | None = None


@dataclass(frozen=True)
class PixelCache:
    """A packed dataset, read-only. Use `PixelCache.open`.

    Attributes:
        path: Its folder.
        fingerprint: Hex SHA-256 that identifies the dataset as it was packed.
        classes: Class names; the position is the label.
        mask_names: Names of the object ids in masks; empty without masks.
        short_side: Pixels that short sides were resized to; None if sizes were kept.
        request: What the cache was made from, as `prepare` recorded it.
    """

    path: Path
    fingerprint: str
    classes: tuple[str, ...]
    mask_names: tuple[str, ...]
    short_side: int | None
    request: Mapping[str, Any]
    _arrays: Mapping[CacheSplit, _SplitArrays]

    @classmethod
    def open(cls, path: Path) -> PixelCache:
        """Open a cache; maps its files and reads none of the pixels.

        Raises:
            InputError: If there is no cache or it is not whole.
        """
        header = read_header(path)
        if header is None:
            raise InputError(f"{path}: no pixel cache there; make it with: dctkd data")
        try:
            arrays: dict[CacheSplit, _SplitArrays] = {
                split: _map_split(path / split, header["splits"][split]) for split in SPLITS
            }
            return cls(
                path=path,
                fingerprint=header["fingerprint"],
                classes=tuple(header["classes"]),
                mask_names=tuple(header["mask_names"]),
                short_side=header["short_side"],
                request=header["request"],
                _arrays=arrays,
            )
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: this pixel cache is not whole ({error}); delete it and make it again") from error

    def num_images(self, split: CacheSplit) -> int:
        """Return the number of images in a split."""
        return len(self._arrays[split].index_N4)

    def labels(self, split: CacheSplit) -> NDArray[int64]:
        """Return the labels of a split, int64, shape (N,)."""
        return np.ascontiguousarray(self._arrays[split].index_N4[:, 3])

    def sizes(self, split: CacheSplit) -> NDArray[int64]:
        """Return height and width of each image in pixels, int64, shape (N, 2)."""
        return np.ascontiguousarray(self._arrays[split].index_N4[:, 1:3])

    def offsets(self, split: CacheSplit) -> NDArray[int64]:
        """Return where each image starts in `pixels`, in bytes, int64, shape (N,)."""
        return np.ascontiguousarray(self._arrays[split].index_N4[:, 0])

    def pixels(self, split: CacheSplit) -> NDArray[uint8]:
        """Return all pixels of the file that a split lies in, as one flat read-only view."""
        return self._arrays[split].pixels

    def image(self, split: CacheSplit, index: int) -> NDArray[uint8]:
        """Return a read-only view of an image, RGB, uint8, shape (H, W, 3)."""
        arrays = self._arrays[split]
        offset, height, width, _ = arrays.index_N4[index].tolist()
        return arrays.pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def mask(self, split: CacheSplit, index: int) -> NDArray[uint8] | None:
        """Return a read-only view of an image's object ids, uint8, shape (H, W); None if the dataset has no masks."""
        arrays = self._arrays[split]
        if arrays.masks is None:
            return None
        offset, height, width, _ = arrays.index_N4[index].tolist()
        return arrays.masks[offset // 3 : offset // 3 + height * width].reshape(height, width)

    def ids(self, split: CacheSplit) -> list[str]:
        """Return the official ids of a split, in order."""
        ids: list[str] = self._manifest["splits"]["test" if split == "test" else "train"]["id"]
        rows_N = self._arrays[split].rows_N
        return ids if rows_N is None else [ids[row] for row in rows_N.tolist()]

    @property
    def holds_out(self) -> bool:
        """Tell whether some of the training images are a split of their own, `held_out`."""
        return "held_out" in self._arrays

    def holding_out(self, is_held_out_N: NDArray[bool_]) -> PixelCache:
        """Return the cache with its training images cut in two splits, `train` and `held_out`, both in official order.

        Both are counted from 0. Their pixels stay one: `pixels` returns the same array for both.

        Args:
            is_held_out_N: Whether training image i of this cache goes to `held_out`, shape (N,).
        """
        whole = self._arrays["train"]
        parts: dict[CacheSplit, NDArray[int64]] = {
            "train": np.flatnonzero(~is_held_out_N),
            "held_out": np.flatnonzero(is_held_out_N),
        }
        cut = {split: replace(whole, index_N4=whole.index_N4[rows_N], rows_N=rows_N) for split, rows_N in parts.items()}
        return replace(self, _arrays={**self._arrays, **cut})

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out of the dataset or is worth knowing."""
        return tuple(Problem(**problem) for problem in self._manifest["problems"])

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((self.path / MANIFEST).read_bytes())
        return manifest


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a cache, or None if there is no finished cache of this schema."""
    try:
        header = json.loads((path / HEADER).read_bytes())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and header.get("schema") == SCHEMA else None


def fingerprint_of(
    records: Iterable[tuple[str, int, Split, str]],
    *,
    classes: Iterable[str],
    mask_names: Iterable[str],
    short_side: int | None,
) -> str:
    """Return the fingerprint of a dataset.

    Args:
        records: Official id, label, split and digest of the cached pixels (`decode.digest_of_pixels`) of each image:
            training images, then test images, each in official order.
        classes: Class names.
        mask_names: Names of object ids.
        short_side: The resize recipe.
    """
    images = sha256()
    for record in records:
        images.update(canonical_json(record).encode())
    recipe = {"short_side": short_side, "interpolation": "bilinear"}
    return sha256_of(
        {"images": images.hexdigest(), "classes": list(classes), "mask_names": list(mask_names), "resize": recipe}
    )


def _map_split(folder: Path, expected: Mapping[str, Any]) -> _SplitArrays:
    index_N4 = np.asarray(np.load(folder / INDEX, mmap_mode="r", allow_pickle=False))
    if index_N4.shape != (expected["num_images"], 4):
        raise ValueError(f"{folder / INDEX} has shape {index_N4.shape}, expected ({expected['num_images']}, 4)")
    pixels = _map_bytes(folder / PIXELS, expected["pixels_bytes"])
    masks = _map_bytes(folder / MASKS, expected["pixels_bytes"] // 3) if expected["has_masks"] else None
    return _SplitArrays(index_N4, pixels, masks)


def _map_bytes(path: Path, expected_bytes: int) -> NDArray[uint8]:
    if path.stat().st_size != expected_bytes:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, expected {expected_bytes}")
    # A plain array over the map: slicing a np.memmap costs several times as much.
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
