"""The objects of ADE20K: what each pixel of a validation image shows, of the 150 categories of SceneParse150.

    annotations/validation/ADE_val_<8 digits>.png   belongs to images/validation/ADE_val_<8 digits>.jpg
    objectInfo150.txt                               columns Idx, Ratio, Train, Val, maybe Stuff, Name, between tabs

What the files hold, and what is made of it:

- A mask is a PNG image of one byte per pixel (grey or palette), as large as the photograph: 0 is whatever none of the
  150 categories covers, 1 to 150 are the rows of objectInfo150.txt. A name is the first of a row's synonyms.
- A mask is resized by nearest neighbour to the size that its image was packed at, as PIL does it.
- The organisers' list of 2016 has no column `Stuff`, a later one has: 35 of the categories are stuff (wall, sky,
  road, house), so ground or surroundings and no objects. Without the column they are known by their ids (`STUFF`).
- The dataset does not say which objects decide a scene.

All validation images have a mask, so a missing one is a problem too, as is one of another size than the photograph,
one that does not decode and one with other ids. All are read beforehand: whether a mask can be used is known only
then. They are kept cropped and compressed, a few kilobytes each. Suffix: H rows, W columns, N images.

Source: https://github.com/CSAILVision/sceneparsing, README.md and objectInfo150.txt; the column Stuff:
https://github.com/CSAILVision/semantic-segmentation-pytorch, data/object150_info.csv.
"""

from __future__ import annotations

import re
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from dctkd.data.annotations import BACKGROUND, Annotations
from dctkd.data.central_crop import central_corners
from dctkd.data.decode import resized_size
from dctkd.data.formats.ade20k import FOLDERS, Options, find_home
from dctkd.data.formats.official_lists import Line, find_list, read_lines
from dctkd.errors import InputError

if TYPE_CHECKING:
    from numpy import uint8, uint16
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache

FOLDER = f"annotations/{FOLDERS['test']}"
CATEGORIES = "objectInfo150.txt"
NUM_CATEGORIES = 150
STUFF = frozenset(
    {1, 2, 3, 4, 6, 7, 10, 12, 14, 17, 22, 26, 27, 29, 30, 47, 49, 52, 53, 55, 60, 61, 62, 69, 80, 85, 92, 95, 97}
    | {102, 106, 110, 114, 129, 141}
)
"""Ids that `Stuff` marks, for lists without that column."""
MODES = ("L", "P")
"""PIL's names of images with one byte per pixel: grey values or numbers of colours."""


def read_objects(cache: PixelCache, options: Options, root: Path | None, crop: int) -> Annotations | None:
    """Read what the validation images show.

    Args:
        cache: Packed ADE20K; its ids say which mask belongs to which image, its sizes how large the mask becomes.
        options: Not used.
        root: Folder that it was packed from, or None.
        crop: Side of the network's input, in pixels, not above that of the images.

    Returns:
        None if there is no folder `annotations/validation` beside the folder `images`.
    """
    home = _find_home(root)
    if root is None or home is None:
        return None
    names, surfaces, complaint = _names_and_surfaces(root, home)
    masks, problems = _read_masks(cache, home / FOLDER, crop)

    def draw(index: int) -> NDArray[uint16] | None:
        if index not in masks:
            return None
        return np.frombuffer(zlib.decompress(masks[index]), dtype=np.uint8).reshape(crop, crop).astype(np.uint16)

    return Annotations(
        names,
        cache.num_images("test"),
        len(masks),
        (frozenset(),) * len(cache.classes),
        draw,
        (*complaint, *problems),
        surfaces,
    )


def _names_and_surfaces(root: Path, home: Path) -> tuple[tuple[str, ...], frozenset[int], tuple[str, ...]]:
    """Return names by object id, the ids of surfaces, and what there is to complain about."""
    try:
        return *read_categories(find_list(root, home, CATEGORIES, "names of the objects")), ()
    except InputError as error:
        # Ids mean the same without their names, so every measure can still be taken.
        names = (BACKGROUND, *(f"object {number}" for number in range(1, NUM_CATEGORIES + 1)))
        return names, STUFF, (f"{error}; objects go by their numbers",)


def _read_masks(cache: PixelCache, folder: Path, crop: int) -> tuple[dict[int, bytes], list[str]]:
    """Return the compressed crop of each usable mask by the position of its image, and sentences on the others."""
    masks: dict[int, bytes] = {}
    problems: list[str] = []
    missing: list[str] = []
    sizes_N2 = cache.sizes("test")
    corners_N2 = central_corners(sizes_N2, crop)
    for index, image_id in enumerate(cache.ids("test")):
        path = folder / f"{image_id}.png"
        if not path.is_file():
            missing.append(path.name)
            continue
        height, width = sizes_N2[index].tolist()
        top, left = corners_N2[index].tolist()
        try:
            mask_HW = read_mask(path, height, width, short_side=cache.short_side)
        except ValueError as error:
            problems.append(f"{FOLDER}/{path.name}: {error}; the image counts as not annotated")
        else:
            masks[index] = zlib.compress(mask_HW[top : top + crop, left : left + crop].tobytes(), level=1)
    if missing:
        problems.append(
            f"{FOLDER}: {len(missing)} of {len(sizes_N2)} masks do not exist, the first of them {missing[0]}; "
            "their images count as not annotated"
        )
    return masks, problems


def read_mask(path: Path, height: int, width: int, *, short_side: int | None) -> NDArray[uint8]:
    """Read a mask at the size of the packed image.

    Args:
        path: A PNG image.
        height: Rows of the packed image, in pixels.
        width: Columns of the packed image, in pixels.
        short_side: Pixels that short sides were resized to when packing; None kept sizes.

    Returns:
        Object ids, uint8, shape (height, width).

    Raises:
        ValueError: If it is no such image, or its size or ids cannot be right.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata and of large images; their size is checked below
            with Image.open(path, formats=("PNG",)) as image:
                if image.mode not in MODES:
                    raise ValueError(f"its mode is {image.mode}, expected one byte per pixel ({' or '.join(MODES)})")
                if resized_size(image.height, image.width, short_side) != (height, width):
                    raise ValueError(
                        f"it has {image.height} x {image.width} pixels, which does not become the {height} x {width} "
                        "of its packed image"
                    )
                if (largest := np.asarray(image).max()) > NUM_CATEGORIES:
                    raise ValueError(f"it has object id {largest}, expected 0 to {NUM_CATEGORIES}")
                # Palette or not: NEAREST takes numbers as they are.
                return np.array(image.resize((width, height), Image.Resampling.NEAREST))
    except (MemoryError, ValueError):
        raise
    except UnidentifiedImageError:
        raise ValueError("it is no PNG image") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from error
    except Exception as error:  # PIL's decoders answer damaged files with almost any exception
        raise ValueError(f"it cannot be decoded: {type(error).__name__}: {error}") from error


def read_categories(path: Path) -> tuple[tuple[str, ...], frozenset[int]]:
    """Read objectInfo150.txt.

    Args:
        path: The list; columns are known by the names in its first line.

    Returns:
        Names by object id, `background` first; ids of what is no object but ground or surroundings.

    Raises:
        InputError: If a column or a category is missing, or a line does not fit.
    """
    lines = list(read_lines(path))
    columns = [name.strip().lower() for name in lines[0].text.split("\t")] if lines else []
    name_of: dict[int, str] = {}
    surfaces = set()
    for line in lines[1:]:
        cells = dict(zip(columns, (cell.strip() for cell in line.text.split("\t")), strict=False))
        number = _category_id(line, cells)
        name_of[number] = re.split(r"[,;]", cells["name"])[0].strip()
        if cells.get("stuff", "1" if number in STUFF else "0") == "1":
            surfaces.add(number)
    numbers = range(1, NUM_CATEGORIES + 1)
    if absent := [number for number in numbers if number not in name_of]:
        raise InputError(f"{path}: category {absent[0]} is missing, expected 1 to {NUM_CATEGORIES}; mend the list")
    return (BACKGROUND, *(name_of[number] for number in numbers)), frozenset(surfaces)


def _category_id(line: Line, cells: dict[str, str]) -> int:
    """Return the number of a row that has all that is needed."""
    number = cells.get("idx", "")
    if not number.isdecimal() or not 1 <= int(number) <= NUM_CATEGORIES or not cells.get("name"):
        raise InputError(
            f"{line.path}:{line.number}: expected the columns Idx (1 to {NUM_CATEGORIES}) and Name, between tabs, "
            f"got {line.text!r}; mend the list"
        )
    return int(number)


def _find_home(root: Path | None) -> Path | None:
    """Return the dataset's folder, found by its images as when packing, if it has masks."""
    if root is None or not root.is_dir():
        return None
    try:
        home = find_home(root)
    except InputError:
        return None  # the photographs are gone, or no longer only once there, since they were packed
    return home if (home / FOLDER).is_dir() else None
