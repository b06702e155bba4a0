"""From a photograph to cached pixels, exactly as torchvision's usual pipeline does it with PIL.

That is: convert to RGB, resize the short side. EXIF rotation is not applied; the usual pipeline does not do it either.
Suffix: H rows, W columns, C channels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from dctkd.data.manifest import Problem

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

PIL_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Formats that are opened, whatever a file is called; others (among them those that start a program) are refused."""

FORMATS_OF_EXTENSION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", "MPO")),
        **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
        **dict.fromkeys((".ppm", ".pgm"), ("PPM",)),
        **{f".{name.lower()}": (name,) for name in ("PNG", "BMP", "GIF", "WEBP")},
    }
)
MAX_LONG_SIDE = 65_535
"""Pixels; what is longer after resizing is a damaged header or a strip that would fill the memory."""


@dataclass(frozen=True)
class Decoded:
    """One image as it goes into the cache.

    Attributes:
        pixels_HWC: RGB, uint8, shape (H, W, 3).
        digest: Hex SHA-256 of shape and pixels.
        remarks: Problems that do not keep the image from being used.
    """

    pixels_HWC: NDArray[uint8]
    digest: str
    remarks: tuple[Problem, ...] = ()


def resized_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Return height and width, in pixels, after the short side is resized; None keeps the size.

    Raises:
        ValueError: If the long side would exceed MAX_LONG_SIDE.

    Source:
        torchvision.transforms.functional.resize: the long side is cut, not rounded, to whole pixels.

    Example:
        >>> resized_size(100, 199, 50)
        (50, 99)
    """
    if short_side is None:
        return height, width
    long_side = int(short_side * max(height, width) / min(height, width))
    if long_side > MAX_LONG_SIDE:
        raise ValueError(f"{height} x {width} pixels are too long and thin: resized, its long side has {long_side}")
    return (short_side, long_side) if height <= width else (long_side, short_side)


def digest_of_pixels(pixels_HWC: NDArray[uint8], mask_HW: NDArray[uint8] | None = None) -> str:
    """Return the hex SHA-256 over the height, the width, the pixels row by row and, if there is one, the mask."""
    height, width = pixels_HWC.shape[:2]
    digest = sha256(f"{height}x{width}\n".encode())
    digest.update(np.ascontiguousarray(pixels_HWC).data)
    if mask_HW is not None:
        digest.update(np.ascontiguousarray(mask_HW).data)
    return digest.hexdigest()


def decode_files(root: Path, paths: Sequence[str], short_side: int | None) -> list[Decoded | Problem]:
    """Decode photographs; runs in worker processes.

    Args:
        root: Folder that paths are relative to.
        paths: Files.
        short_side: Pixels, or None to keep sizes.

    Returns:
        In the order of the paths: an image, or the problem `unreadable`.
    """
    with warnings.catch_warnings():
        # PIL warns of damaged metadata, which does not reach the pixels, and of very large images, which are welcome.
        warnings.simplefilter("ignore")
        return [decode_file(root, path, short_side) for path in paths]


def decode_file(root: Path, path: str, short_side: int | None) -> Decoded | Problem:
    """Decode one photograph; see `decode_files`."""
    try:
        with Image.open(root / path, formats=PIL_FORMATS) as image:
            remarks = tuple(_remarks(image, path))
            image.load()
            rgb = image if image.mode == "RGB" else image.convert("RGB")  # converting RGB to RGB would copy it
            height, width = resized_size(rgb.height, rgb.width, short_side)
            if (rgb.height, rgb.width) != (height, width):
                rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
            pixels_HWC = np.asarray(rgb)
    except MemoryError:
        raise  # the machine's fault, not the file's
    except UnidentifiedImageError:
        return Problem("unreadable", path, f"it is no image of a known format ({', '.join(PIL_FORMATS)})")
    except OSError as error:
        return Problem("unreadable", path, f"it cannot be read: {error.strerror or error}")
    except Exception as error:  # PIL's decoders answer damaged files with almost any exception
        return Problem("unreadable", path, f"it cannot be decoded: {type(error).__name__}: {error}")
    return Decoded(pixels_HWC, digest_of_pixels(pixels_HWC), remarks)


def size_of_file(root: Path, path: str, short_side: int | None) -> int | None:
    """Return how many bytes an image will take in the cache, from its header alone; None if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(root / path, formats=PIL_FORMATS) as image:
                height, width = resized_size(image.height, image.width, short_side)
    except Exception:  # decoding it, later, reports what is wrong with it
        return None
    return height * width * 3


def _remarks(image: Image.Image, path: str) -> list[Problem]:
    remarks = []
    expected = FORMATS_OF_EXTENSION.get(Path(path).suffix.lower())
    if expected is not None and image.format not in expected:
        remarks.append(Problem("misnamed", path, f"it is a {image.format} image"))
    if image.mode[:1] in ("I", "F"):
        remarks.append(Problem("sixteen_bit", path, f"PIL clips its values (mode {image.mode}) to 0 to 255"))
    return remarks
