"""Batches from the pixel cache against decoding the same photographs with PIL in every epoch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from dctkd.config import InputRecipe
from dctkd.data.batches import train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.prepare import prepare

NUM_PHOTOGRAPHS = 512
BATCH_SIZE = 64
REPEATS = 8
RECIPE = InputRecipe(short_side=72, crop=64)


def measure_cache_against_pil(photographs: Path | None) -> Ratio:
    """Return images/s from the cache over images/s of PIL decode, Resize(72), RandomCrop(64), flip, normalise."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        files = _link(photographs, root) if photographs else _generate(root)
        cache = prepare("imagefolder", {}, root, RECIPE.short_side, "drop", Path(folder) / "cache", 2)
        actions = [lambda: _read_with_pil(files), lambda: _read_from_cache(cache)]
        interleave(actions, 1)
        pil, cached = interleave(actions, REPEATS)
    value, low, high = ratio_of_medians(pil, cached)
    kind = "real photographs" if photographs else "generated 160x128 JPEGs"
    detail = f"{len(files)} {kind}, one core, {len(files) / float(np.median(cached)):,.0f} images/s from the cache"
    return Ratio("cache read / PIL decode", value, low, high, at_least=5.0, detail=detail)


def _read_with_pil(files: list[Path]) -> float:
    transform = v2.Compose(
        [
            v2.Resize(RECIPE.short_side),
            v2.RandomCrop(RECIPE.crop),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(RECIPE.mean, RECIPE.std),
        ]
    )
    started = time.perf_counter()
    for start in range(0, len(files), BATCH_SIZE):
        torch.stack([transform(Image.open(path).convert("RGB")) for path in files[start : start + BATCH_SIZE]])
    return time.perf_counter() - started


def _read_from_cache(cache: PixelCache) -> float:
    started = time.perf_counter()
    for _ in train_batches(cache, RECIPE, seed=0, epoch=0, batch_size=BATCH_SIZE):
        pass
    return time.perf_counter() - started


def _generate(root: Path) -> list[Path]:
    """Write JPEGs of smooth noise, whose files are about as large as a photograph's of that size."""
    generator = np.random.Generator(np.random.Philox(0))
    for split, number in (("train", NUM_PHOTOGRAPHS), ("test", 1)):
        folder = root / split / "scene"
        folder.mkdir(parents=True)
        for index in range(number):
            coarse = generator.integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((160, 128), Image.Resampling.BICUBIC).save(
                folder / f"{index:04d}.jpg", quality=90
            )
    return sorted((root / "train" / "scene").iterdir())


def _link(photographs: Path, root: Path) -> list[Path]:
    found = sorted(photographs.rglob("*.jpg"))[: NUM_PHOTOGRAPHS + 1]
    for split, files in (("train", found[:-1]), ("test", found[-1:])):
        folder = root / split / "scene"
        folder.mkdir(parents=True)
        for index, path in enumerate(files):
            (folder / f"{index:04d}.jpg").symlink_to(path.resolve())
    return sorted((root / "train" / "scene").iterdir())
