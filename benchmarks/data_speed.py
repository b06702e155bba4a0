"""The pixel cache against PIL: made at the cost of decoding once, read at far less than decoding in every epoch."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from dctkd.config import InputRecipe
from dctkd.data.batches import train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.decode import decode_files
from dctkd.data.decode_pool import MAX_CHUNK_IMAGES
from dctkd.data.prepare import prepare

BATCH_SIZE = 64
REPEATS = 8
SMALL = InputRecipe(short_side=72, crop=64)
"""MiniPlaces: 128 x 128 pixels, many and small."""
FULL = InputRecipe(short_side=256, crop=224)
"""SUN397 and ADE20K: photographs of a few hundred pixels."""
PACKING_AT_LEAST = 0.6
"""Loose: the disk, and whoever else uses it, are in this ratio; the one of decoding, per core, has the tight bound."""


def measure_cache_against_pil(photographs: Path | None) -> Ratio:
    """Return images/s from the cache over images/s of PIL decode, Resize(72), RandomCrop(64), flip, normalise."""
    with _photographs(photographs, number=512, size=(160, 128)) as (root, kind):
        return _reading(root, kind, SMALL, at_least=5.0)


def measure_full_scale(photographs: Path | None) -> list[Ratio]:
    """Return three ratios to PIL at short side 256: decoding, packing, and reading as `measure_cache_against_pil` does.

    Decoding is counted in seconds of a core, so that other jobs on the machine do not matter; the others on the clock.
    """
    with _photographs(photographs, number=300, size=(500, 375)) as (root, kind):
        return [_decoding(root, kind, FULL), _packing(root, kind, FULL), _reading(root, kind, FULL, at_least=10.0)]


def _decoding(root: Path, kind: str, recipe: InputRecipe) -> Ratio:
    """Compare what a worker does for an image (decode, hash) with open, convert, resize."""
    files = _files(root)
    names = [path.relative_to(root).as_posix() for path in files]

    def decode_all() -> float:
        started = time.process_time()
        for first in range(0, len(names), MAX_CHUNK_IMAGES):
            decode_files(root, names[first : first + MAX_CHUNK_IMAGES], recipe.short_side)
        return time.process_time() - started

    actions = [lambda: _decode_with_pil(files, recipe, time.process_time), decode_all]
    interleave(actions, 1)
    pil, decoding = interleave(actions, REPEATS)
    value, low, high = ratio_of_medians(pil, decoding)
    detail = f"{len(files)} {kind}, {len(files) / float(np.median(decoding)):,.0f} images/s of a core"
    return Ratio(f"decode / PIL decode at {recipe.short_side}", value, low, high, at_least=0.9, detail=detail)


def _packing(root: Path, kind: str, recipe: InputRecipe) -> Ratio:
    """Compare a whole packing (decode, hash, write, flush to the disk) with open, convert, resize; both on one core."""
    files = _files(root)

    def pack_all() -> float:
        target = root.parent / "timed"
        shutil.rmtree(target, ignore_errors=True)
        started = time.perf_counter()
        prepare("imagefolder", {}, root, recipe.short_side, "drop", target, 1)
        return time.perf_counter() - started

    actions = [lambda: _decode_with_pil(files, recipe, time.perf_counter), pack_all]
    interleave(actions, 1)
    pil, packing = interleave(actions, REPEATS)
    value, low, high = ratio_of_medians(pil, packing)
    detail = f"{len(files)} {kind}, one core, {len(files) / float(np.median(packing)):,.0f} images/s packed"
    name = f"packing / PIL decode at {recipe.short_side}"
    return Ratio(name, value, low, high, at_least=PACKING_AT_LEAST, detail=detail)


def _reading(root: Path, kind: str, recipe: InputRecipe, *, at_least: float) -> Ratio:
    torch.set_num_threads(1)
    files = _files(root)
    cache = prepare("imagefolder", {}, root, recipe.short_side, "drop", root.parent / "cache", 2)
    actions = [lambda: _read_with_pil(files, recipe), lambda: _read_from_cache(cache, recipe)]
    interleave(actions, 1)
    pil, cached = interleave(actions, REPEATS)
    value, low, high = ratio_of_medians(pil, cached)
    detail = f"{len(files)} {kind}, one core, {len(files) / float(np.median(cached)):,.0f} images/s from the cache"
    name = f"cache read / PIL decode at {recipe.short_side}"
    return Ratio(name, value, low, high, at_least=at_least, detail=detail)


def _decode_with_pil(files: list[Path], recipe: InputRecipe, clock: Callable[[], float]) -> float:
    resize = v2.Resize(recipe.short_side)
    started = clock()
    for path in files:
        resize(Image.open(path).convert("RGB"))
    return clock() - started


def _read_with_pil(files: list[Path], recipe: InputRecipe) -> float:
    transform = v2.Compose(
        [
            v2.Resize(recipe.short_side),
            v2.RandomCrop(recipe.crop),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(recipe.mean, recipe.std),
        ]
    )
    started = time.perf_counter()
    for start in range(0, len(files), BATCH_SIZE):
        torch.stack([transform(Image.open(path).convert("RGB")) for path in files[start : start + BATCH_SIZE]])
    return time.perf_counter() - started


def _read_from_cache(cache: PixelCache, recipe: InputRecipe) -> float:
    started = time.perf_counter()
    for _ in train_batches(cache, recipe, seed=0, epoch=0, batch_size=BATCH_SIZE):
        pass
    return time.perf_counter() - started


@contextmanager
def _photographs(folder: Path | None, *, number: int, size: tuple[int, int]) -> Iterator[tuple[Path, str]]:
    """Give the root of an imagefolder with `number` training images and one test image; says what they are."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "photographs"
        if folder is not None:
            _link(folder, root, number)
            yield root, "real photographs"
        else:
            _generate(root, number, size)
            yield root, f"generated {size[0]}x{size[1]} JPEGs"


def _files(root: Path) -> list[Path]:
    return sorted((root / "train" / "scene").iterdir())


def _generate(root: Path, number: int, size: tuple[int, int]) -> None:
    """Write JPEGs of smooth noise, whose files are about as large as a photograph's of that size."""
    generator = np.random.Generator(np.random.Philox(0))
    for split, count in (("train", number), ("test", 1)):
        folder = root / split / "scene"
        folder.mkdir(parents=True)
        for index in range(count):
            coarse = generator.integers(0, 256, size=(size[1] // 4, size[0] // 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:04d}.jpg", quality=90)


def _link(photographs: Path, root: Path, number: int) -> None:
    found = sorted(photographs.rglob("*.jpg"))[: number + 1]
    for split, files in (("train", found[:-1]), ("test", found[-1:])):
        folder = root / split / "scene"
        folder.mkdir(parents=True)
        for index, path in enumerate(files):
            (folder / f"{index:04d}.jpg").symlink_to(path.resolve())
