"""Folders of images, as the format `imagefolder` and torchvision's ImageFolder read them: real ones, or generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

THUMBNAIL = 200


def write_folder(root: Path, photographs: Path | None, *, classes: int, per_class: int, size: tuple[int, int]) -> str:
    """Make `root/train/<class>/` and `root/test/<class>/`, with one test image per class.

    Real photographs are taken at equal distances from the sorted list of all below the folder, so that each class is a
    run of neighbours; labels mean nothing.

    Args:
        root: Folder to make.
        photographs: Folder with JPEGs, at any depth, which are linked; None: they are generated.
        classes: Number of classes.
        per_class: Training images of each class.
        size: Width and height of generated images, in pixels.

    Returns:
        What the images are, in words.

    Raises:
        ValueError: If there are too few photographs.
    """
    count = classes * (per_class + 1)
    found = None if photographs is None else _spread(photographs, count)
    generator = np.random.Generator(np.random.Philox(0))
    for index in range(count):
        label, number = divmod(index, per_class + 1)
        path = root / ("test" if number == per_class else "train") / f"class{label:03d}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if found is None:
            _generate(path, size, generator)
        else:
            path.symlink_to(found[index].resolve())
    return f"generated {size[0]}x{size[1]} JPEGs" if found is None else "real photographs"


def training_files(root: Path) -> list[Path]:
    """Return the training images of such a folder, sorted."""
    return sorted((root / "train").rglob("*.jpg"))


def _spread(photographs: Path, count: int) -> list[Path]:
    found = sorted(photographs.rglob("*.jpg"))
    if len(found) < count:
        raise ValueError(
            f"{photographs}: expected at least {count} .jpg files, found {len(found)}; give another folder"
        )
    return [found[index * len(found) // count] for index in range(count)]


def _generate(path: Path, size: tuple[int, int], generator: np.random.Generator) -> None:
    """Write smooth noise, whose file is about as large as a photograph's of that size.

    Thumbnails such as MiniPlaces' (128x128, 4.5 kB) are compressed more than photographs of some hundred pixels.
    """
    grain, quality = (8, 80) if max(size) <= THUMBNAIL else (4, 90)
    coarse = generator.integers(0, 256, size=(size[1] // grain, size[0] // grain, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=quality)
