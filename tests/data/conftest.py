"""Small trees of photographs in the official layouts, with everything that real copies hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

SIZES = [(53, 80), (80, 53), (64, 64), (41, 97), (100, 60), (47, 47)]
CLASSES = ("/a/abbey", "/a/athletic_field/outdoor", "/b/bar + grill")


@pytest.fixture(autouse=True)
def _one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photograph(number: int, mode: str = "RGB") -> Image.Image:
    """Return noise over a gradient, ragged sizes, the same for the same number."""
    height, width = SIZES[number % len(SIZES)]
    noise = np.random.default_rng(number).integers(0, 120, (height, width, 3))
    gradient = np.linspace(0, 135, width)[None, :, None]
    image = Image.fromarray((noise + gradient).astype(np.uint8))
    if mode == "P":
        return image.quantize(40)
    return image.convert(mode)


@pytest.fixture
def save_photograph() -> Callable[..., Path]:
    """Write photograph `number` to a path; the format is the name's unless given."""

    def save(path: Path, number: int, *, mode: str = "RGB", format: str | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number, mode).save(path, format or {"jpg": "JPEG"}.get(path.suffix[1:].lower(), path.suffix[1:]))
        return path

    return save


@pytest.fixture
def make_miniplaces(save_photograph) -> Callable[..., Path]:
    """Write a MiniPlaces tree with three classes and return its root."""

    def make(root: Path, *, num_train: int = 4, num_val: int = 2) -> Path:
        train, val, number = [], [], 0
        for label, name in enumerate(CLASSES):
            for index in range(num_train):
                train.append(f"train{name}/{index + 1:08d}.jpg {label}")
        for index in range(num_val * len(CLASSES)):
            val.append(f"val/{index + 1:08d}.jpg {index % len(CLASSES)}")
        for line in (*train, *val):
            save_photograph(root / "images" / line.rsplit(" ", 1)[0], number := number + 1)
        write_list(root / "train.txt", train)
        write_list(root / "val.txt", val)
        write_list(root / "categories.txt", [f"{name} {label}" for label, name in enumerate(CLASSES)])
        return root

    return make


def write_list(path: Path, lines: list[str], *, line_end: str = "\n") -> None:
    path.write_bytes("".join(line + line_end for line in lines).encode())


@pytest.fixture
def edit_list() -> Callable[..., None]:
    """Apply a function to the lines of a list."""

    def edit(path: Path, change: Callable[[list[str]], list[str]], *, line_end: str = "\n") -> None:
        write_list(path, change(path.read_text().splitlines()), line_end=line_end)

    return edit


@pytest.fixture
def make_rendered():
    """Return both splits of a rendered dataset with random pixels."""
    from dctkd.data.manifest import Rendered

    def make(num_train: int = 10, num_test: int = 5, side: int = 12, seed: int = 0, num_classes: int = 3):
        rng = np.random.default_rng(seed)
        return {
            split: Rendered(
                images=rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
                labels=np.arange(count, dtype=np.int64) % num_classes,
                masks=rng.integers(0, 4, (count, side, side), dtype=np.uint8),
                class_names=tuple(f"class{label}" for label in range(num_classes)),
                mask_names=("background", "disc", "square", "bar"),
            )
            for split, count in (("train", num_train), ("test", num_test))
        }

    return make


@pytest.fixture
def leftovers() -> Callable[[Path], list[str]]:
    """List everything in a folder, hidden files included."""
    return lambda folder: sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
