"""Looking at one file of a dataset: does it decode, to which pixels, and what about it is unusual.

A file is decoded as it is for the pixel cache, at its original size. Only a hash of the pixels is kept, so that the
files of the largest dataset fit into memory many times over.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from PIL import ExifTags, Image

from dctkd.data.decode import PIL_FORMATS, Decoded, decode_file

MIN_SHORT_SIDE = 32
"""Pixels; an image whose short side has fewer is called small."""
MAX_ASPECT = 4.0
"""Long side over short side; an image beyond it is called elongated."""
DIGEST_BYTES = 16
"""Bytes kept of the SHA-256 of shape and pixels: among 2^20 images two agree by chance with probability 2^-89."""

FINDINGS: Mapping[str, str] = MappingProxyType(
    {
        "zero_bytes": "the file is empty",
        "unreadable": "the file does not decode to an image, or not to the end",
        "misnamed": "the content is of another format than the name's ending says; it is read by its content",
        "sixteen_bit": "more than 8 bits per value, which PIL clips to 0 to 255",
        "grey": "one channel; converted to RGB, all three are equal",
        "palette": "colours from a palette; converted to RGB",
        "cmyk": "four print colours; converted to RGB without a colour profile",
        "other_mode": "an unusual colour mode; converted to RGB",
        "alpha": "a transparency channel or colour, which is dropped, not blended",
        "several_frames": "an animation or a series; the first frame is used",
        "rotated": "EXIF asks viewers to rotate or mirror it; the pixels are used as they are stored",
        "small": f"the short side has fewer than {MIN_SHORT_SIDE} pixels",
        "elongated": f"more than {MAX_ASPECT:g} times as long as the short side; a central crop shows little of it",
    }
)
"""Kinds of findings and what they mean. The first two keep an image from being used, the others do not."""

FATAL_FINDINGS = frozenset({"zero_bytes", "unreadable"})
_KIND_OF_MODE: Mapping[str, str | None] = MappingProxyType(
    {
        **dict.fromkeys(("RGB", "RGBA", "RGBX", "RGBa"), None),
        **dict.fromkeys(("1", "L", "LA", "La"), "grey"),
        **dict.fromkeys(("P", "PA"), "palette"),
        "CMYK": "cmyk",
    }
)
_MODES_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about one file.

    Attributes:
        kind: One of FINDINGS.
        message: What is so about this file.
    """

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is known of one file.

    Attributes:
        num_bytes: Size of the file; 0 also if it cannot be asked for.
        format: PIL's name of the content's format, for instance JPEG; empty if it is none.
        mode: PIL's name of the stored colour mode, for instance L; empty if unknown.
        height: Rows as stored, in pixels; 0 if it does not decode.
        width: Columns as stored, in pixels; 0 if it does not decode.
        digest: DIGEST_BYTES bytes of the hash of size and RGB pixels; empty if it does not decode.
        findings: What is unusual.
    """

    num_bytes: int
    format: str
    mode: str
    height: int
    width: int
    digest: bytes
    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        """Whether the whole file decodes."""
        return bool(self.digest)


def inspect_files(paths: Sequence[str], root: Path) -> list[Inspection]:
    """Inspect files; runs in worker processes.

    Args:
        paths: Files, relative to the root.
        root: Folder that they lie in; only read.

    Returns:
        In the order of the paths.
    """
    return [inspect_file(root, path) for path in paths]


def inspect_file(root: Path, path: str) -> Inspection:
    """Decode one file to its last pixel and say what is unusual about it.

    Args:
        root: Folder that the path is relative to; only read.
        path: The file.

    Returns:
        The inspection; a file that cannot be used is a finding, never an error.
    """
    num_bytes = _size(root / path)
    with warnings.catch_warnings():
        # PIL warns of damaged metadata, which does not reach the pixels, and of very large images, which are welcome.
        warnings.simplefilter("ignore")
        decoded = decode_file(root, path, None)
        if not isinstance(decoded, Decoded):
            kind, message = ("zero_bytes", "0 bytes") if num_bytes == 0 else ("unreadable", decoded.message)
            return Inspection(num_bytes or 0, "", "", 0, 0, b"", (Finding(kind, message),))
        with Image.open(root / path, formats=PIL_FORMATS) as image:
            height, width = decoded.pixels_HWC.shape[:2]
            remarks = [Finding(remark.kind, remark.message) for remark in decoded.remarks]
            findings = (*remarks, *_findings_of_header(image), *_findings_of_size(height, width))
            digest = bytes.fromhex(decoded.digest)[:DIGEST_BYTES]
            return Inspection(num_bytes or 0, image.format or "", image.mode, height, width, digest, findings)


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes, or None if there is none, which is another thing than an empty one."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _findings_of_header(image: Image.Image) -> Iterator[Finding]:
    mode = image.mode
    is_deep = mode[:1] in ("I", "F")  # decoding has remarked on it
    kind = None if is_deep else _KIND_OF_MODE.get(mode, "other_mode")
    if kind is not None:
        yield Finding(kind, f"mode {mode}")
    if mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        yield Finding("alpha", f"mode {mode}")
    if getattr(image, "is_animated", False):
        yield Finding("several_frames", "the first is used")
    if (orientation := _orientation(image)) != 1:
        yield Finding("rotated", f"EXIF orientation {orientation}")


def _findings_of_size(height: int, width: int) -> Iterator[Finding]:
    short_side, long_side = sorted((height, width))
    if short_side < MIN_SHORT_SIDE:
        yield Finding("small", f"{width} x {height} pixels")
    if long_side > MAX_ASPECT * short_side:
        yield Finding("elongated", f"{width} x {height} pixels")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 if there is none or it is none of the standard's values."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # PIL answers damaged metadata with almost any exception; no viewer rotates by it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
