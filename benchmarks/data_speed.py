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

from benchmarks.photographs import training_files, write_folder
from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from benchmarks.results import Section
from benchmarks.settings import Setting
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


def measure_data(setting: Setting) -> Section:
    """Compare the pixel cache with PIL: reading at both sizes, decoding and packing at the large one."""
    small, full = (16, 16) if setting.is_quick else (512, 300)
    repeats = setting.repeats(REPEATS)
    with _photographs(setting.photographs, number=small, size=(128, 128)) as (root, kind):
        ratios = [_reading(root, kind, SMALL, repeats, at_least=5.0)]
    # Always generated: real ones may be smaller than 256 pixels, and enlarging them is not what is asked.
    with _photographs(None, number=full, size=(500, 375)) as (root, kind):
        ratios += [_decoding(root, kind, repeats), _packing(root, kind, repeats)]
        ratios.append(_reading(root, kind, FULL, repeats, at_least=10.0))
    about = (
        "Images/s over those of PIL decode, resize, random crop, flip, normalise, on one core. Decoding is counted in "
        "seconds of a core, so that other jobs on the machine do not matter; the others on the clock."
    )
    return Section("The pixel cache against PIL", about, tuple(ratios))


def _decoding(root: Path, kind: str, repeats: int, recipe: InputRecipe = FULL) -> Ratio:
    """Compare what a worker does for an image (decode, hash) with open, convert, resize."""
    files = training_files(root)
    names = [path.relative_to(root).as_posix() for path in files]

    def decode_all() -> float:
        started = time.process_time()
        for first in range(0, len(names), MAX_CHUNK_IMAGES):
            decode_files(root, names[first : first + MAX_CHUNK_IMAGES], recipe.short_side)
        return time.process_time() - started

    actions = [lambda: _decode_with_pil(files, recipe, time.process_time), decode_all]
    interleave(actions, 1)
    pil, decoding = interleave(actions, repeats)
    value, low, high = ratio_of_medians(pil, decoding)
    detail = f"{len(files)} {kind}, {len(files) / float(np.median(decoding)):,.0f} images/s of a core"
    return Ratio(f"decode / PIL decode at {recipe.short_side}", value, low, high, at_least=0.9, detail=detail)


def _packing(root: Path, kind: str, repeats: int, recipe: InputRecipe = FULL) -> Ratio:
    """Compare a whole packing (decode, hash, write, flush to the disk) with open, convert, resize; both on one core."""
    files = training_files(root)

    def pack_all() -> float:
        target = root.parent / "timed"
        shutil.rmtree(target, ignore_errors=True)
        started = time.perf_counter()
        prepare("imagefolder", {}, root, recipe.short_side, "drop", target, 1)
        return time.perf_counter() - started

    actions = [lambda: _decode_with_pil(files, recipe, time.perf_counter), pack_all]
    interleave(actions, 1)
    pil, packing = interleave(actions, repeats)
    value, low, high = ratio_of_medians(pil, packing)
    detail = f"{len(files)} {kind}, one core, {len(files) / float(np.median(packing)):,.0f} images/s packed"
    name = f"packing / PIL decode at {recipe.short_side}"
    return Ratio(name, value, low, high, at_least=PACKING_AT_LEAST, detail=detail)


def _reading(root: Path, kind: str, recipe: InputRecipe, repeats: int, *, at_least: float) -> Ratio:
    torch.set_num_threads(1)
    files = training_files(root)
    cache = prepare("imagefolder", {}, root, recipe.short_side, "drop", root.parent / "cache", 2)
    actions = [lambda: _read_with_pil(files, recipe), lambda: _read_from_cache(cache, recipe)]
    interleave(actions, 1)
    pil, cached = interleave(actions, repeats)
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
    """Give the root of an imagefolder of one class; says what its images are."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "photographs"
        yield root, write_folder(root, folder, classes=1, per_class=number, size=size)
