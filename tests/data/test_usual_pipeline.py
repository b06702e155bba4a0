"""What a network sees equals what torchvision's ImageFolder loader and transforms make of a file, bit for bit."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import default_loader
from torchvision.transforms import functional as tvf

from dctkd.data import batches
from dctkd.data.batches import draw_epoch, train_batches
from dctkd.data.manifest import Entry, Manifest
from dctkd.data.packing import pack
from dctkd.errors import InputError

SHORT_SIDE, CROP = 256, 224
# Height, width. At short side 256 the long side would be 341.3, 384.4, 298.8, 511.0 and, enlarged, 340.5: it is cut.
SIZES = [(375, 500), (500, 333), (257, 300), (258, 515), (133, 100)]


@dataclass(frozen=True)
class Recipe:
    """Mean 0 and deviation 1/255 leave pixels as they are."""

    short_side: int | None = SHORT_SIDE
    crop: int = CROP
    hflip: bool = True
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)


def picture(height, width):
    """Return colour noise over gradients."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray((np.asarray(coarse.resize((width, height))) + noise).clip(0, 255).astype(np.uint8))


def sixteen_bit(image):
    return Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 5)


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


# Name: how the picture is changed, the file's extension, and what it is saved with.
KINDS = {
    "RGB": (lambda image: image, "jpg", {"quality": 90}),
    "progressive, subsampled": (lambda image: image, "jpg", {"progressive": True, "subsampling": 2}),
    "grey": (lambda image: image.convert("L"), "jpg", {}),
    "grey with alpha": (lambda image: image.convert("LA"), "png", {}),
    "palette": (lambda image: image.quantize(64), "png", {}),
    "palette with transparent shades": (lambda image: image.quantize(64), "png", {"transparency": bytes(range(64))}),
    "palette with a transparent colour": (lambda image: image.quantize(64), "png", {"transparency": 3}),
    "GIF with a transparent colour": (lambda image: image.quantize(64), "gif", {"transparency": 3}),
    "CMYK": (lambda image: image.convert("CMYK"), "jpg", {}),
    "16-bit grey": (sixteen_bit, "png", {}),
    "16-bit TIFF": (sixteen_bit, "tif", {}),
    "rotated by EXIF": (lambda image: image, "jpg", rotated()),
    "1-bit": (lambda image: image.convert("1"), "png", {}),
    "RGBA": (lambda image: image.convert("RGBA").rotate(10), "png", {}),
    "RGB with a transparent colour": (lambda image: image, "png", {"transparency": (1, 2, 3)}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    for kind, (change, extension, options) in KINDS.items():
        for number, size in enumerate(SIZES):
            change(picture(*size)).save(root / f"{kind} {number}.{extension}", **options)
    return root


def pack_both(root, target, paths):
    """Pack the same files as training and as test images."""
    entries = tuple(Entry(f"{split}/{path}", path, 0, split) for split in ("train", "test") for path in paths)
    return pack(Manifest("files", ("scene",), entries, (), root), target, short_side=SHORT_SIDE)


@pytest.fixture(scope="module")
def caches(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    paths = {kind: [f"{kind} {number}.{KINDS[kind][1]}" for number in range(len(SIZES))] for kind in KINDS}
    return {kind: (paths[kind], pack_both(root, folder / kind, paths[kind])) for kind in KINDS}


def load(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's advice on palettes with transparency
        return default_loader(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_training_crops_equal_torchvision(root, caches, kind):
    paths, cache = caches[kind]
    draws = draw_epoch(cache.sizes("train"), crop=CROP, hflip=True, seed=3, epoch=1)
    (batch,) = train_batches(cache, Recipe(), seed=3, epoch=1, batch_size=len(paths))
    for image_CHW, index in zip(batch.images_BCHW, batch.index_B.tolist(), strict=True):
        expected = tvf.resize(load(root / paths[index]), SHORT_SIDE)
        expected = tvf.crop(expected, int(draws.top_N[index]), int(draws.left_N[index]), CROP, CROP)
        expected = tvf.hflip(expected) if draws.flip_N[index] else expected
        assert torch.equal(image_CHW, tvf.pil_to_tensor(expected).float()), paths[index]


@pytest.mark.parametrize("kind", KINDS)
def test_test_crops_equal_torchvision(root, caches, kind):
    paths, cache = caches[kind]
    (batch,) = batches.test_batches(cache, Recipe(), batch_size=len(paths))
    expected = [tvf.center_crop(tvf.resize(load(root / path), SHORT_SIDE), [CROP, CROP]) for path in paths]
    assert torch.equal(batch.images_BCHW, torch.stack([tvf.pil_to_tensor(image) for image in expected]).float())


def test_sizes_are_those_that_the_comment_says(caches):
    _, cache = caches["RGB"]
    assert cache.sizes("test").tolist() == [[256, 341], [384, 256], [256, 298], [256, 511], [340, 256]]


@pytest.mark.parametrize("path", ["RGB 0.jpg", "palette 0.png", "16-bit TIFF 0.tif"])
def test_a_truncated_file_is_refused_as_torchvision_refuses_it(root, tmp_path, path):
    data = (root / path).read_bytes()
    (tmp_path / path).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(OSError):  # noqa: PT011 (its words differ by format)
        load(tmp_path / path)
    with pytest.raises(InputError, match="it cannot be"):
        pack_both(tmp_path, tmp_path / "cache", [path])
