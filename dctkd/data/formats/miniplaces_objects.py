"""The objects of MiniPlaces: polygons of 175 categories, drawn by hand on a few hundred of the validation images.

    objects/val/<8 digits>.xml      belongs to images/val/<8 digits>.jpg
    object_categories.txt           lines `armchair 1`; lies with the other lists

What the files hold, and what is made of it:

- No element encloses the others, so a file is no XML document by itself. `<class>` is the scene's class id, then come
  `<objects>`, each with the id of its category as `<class>` and one `<polygon>` of `<pt>` with `<x>` and `<y>`.
- Coordinates are whole pixels of the photograph as it is packed in `images`, counted from 1; pixels that a polygon's
  edge runs through belong to the object, or walls would leave a border around the image.
- Polygons are drawn on the photograph's own pixels and then resized by nearest neighbour (`dctkd.data.polygons`).
  Drawn on the resized image, edges would weigh more: from 128 to 72 pixels the median object would be 7 percent too
  large (nearest neighbour: 0 percent).
- The order of objects says nothing of what lies in front: of polygons that contain another one, a third come after it
  (wall after painting). Larger polygons are painted first, so that what hangs on a wall stays visible; of equal ones
  the later wins.
- An object marked `<deleted>1</deleted>`, as LabelMe does, is ignored; the official files have none.
- The dataset does not say which objects decide a scene.

A file that cannot be used in full is left out and listed: with half of its objects, the others would pass for
background. Suffix: P points, H rows, W columns.

Source: https://github.com/CSAILVision/miniplaces, README.md, "Object annotations".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from dctkd.data.annotations import BACKGROUND, Annotations
from dctkd.data.central_crop import central_corners
from dctkd.data.decode import MAX_LONG_SIDE, PIL_FORMATS
from dctkd.data.formats.miniplaces import LIST_FOLDERS, Options
from dctkd.data.formats.official_lists import find_folder, read_lines, split_number
from dctkd.data.polygons import Outlines, Polygon, draw_resized
from dctkd.errors import InputError

if TYPE_CHECKING:
    from numpy import uint16
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache

FOLDER, CATEGORIES = "objects", "object_categories.txt"
SURFACES = frozenset(
    {
        "building",
        "buildings",
        "ceiling",
        "field",
        "floor",
        "grass",
        "ground",
        "hill",
        "land",
        "mountain",
        "path",
        "road",
    }
    | {"rocky_mountain", "sand_beach", "sea_water", "sidewalk", "sky", "skyscraper", "snowy_mountain", "wall", "water"}
    | {"river_water", "road"}
)
"""Categories that are ground or surroundings. With them the median image is covered to 99 %, so that attention could
not fall on anything else; without them to about 30 %."""
MAX_FILE_BYTES = 2**22
"""The largest official file has 54 kB."""
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_DOCUMENT_TYPE = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)


def read_objects(cache: PixelCache, options: Options, root: Path | None, crop: int) -> Annotations | None:
    """Read the objects of the annotated test images.

    Args:
        cache: Packed MiniPlaces; its ids say which file belongs to which image.
        options: What of MiniPlaces was packed; the cache knows.
        root: Folder that it was packed from, or None.
        crop: Side of the network's input, in pixels, not above that of the images.

    Returns:
        None if there is no folder `objects` beside the folder `images`.
    """
    home = _find_home(root)
    if root is None or home is None:
        return None
    try:
        id_of_category, names = _read_categories(root, home)
    except InputError as error:
        # A measure more or less must not stop an evaluation; its absence is said aloud.
        return Annotations((BACKGROUND,), cache.num_images("test"), 0, _unknown(cache), lambda _: None, (str(error),))
    outlines: dict[int, Outlines] = {}
    problems = []
    labels = cache.labels("test").tolist()
    for index, image_id in enumerate(cache.ids("test")):
        name = annotation_path(image_id)
        try:
            if not (home / name).is_file():
                continue
            polygons = read_polygons(home / name, id_of_category, label=labels[index])
            with Image.open(home / "images" / image_id, formats=PIL_FORMATS) as image:
                outlines[index] = Outlines(image.height, image.width, polygons)
        except (OSError, ValueError, ElementTree.ParseError, Image.DecompressionBombError) as error:
            problems.append(f"{name}: {error}; the image counts as not annotated")
    sizes_N2 = cache.sizes("test")
    corners_N2 = central_corners(sizes_N2, crop)

    def draw(index: int) -> NDArray[uint16] | None:
        if index not in outlines:
            return None
        height, width = sizes_N2[index].tolist()
        top, left = corners_N2[index].tolist()
        mask_HW = draw_resized(outlines[index], height, width)
        return mask_HW[top : top + crop, left : left + crop].copy()

    return Annotations(
        names,
        cache.num_images("test"),
        len(outlines),
        _unknown(cache),
        draw,
        tuple(problems),
        frozenset(number for number, name in enumerate(names) if name in SURFACES),
    )


def annotation_path(image_id: str) -> str:
    """Return where the annotation of an image lies, relative to the dataset's folder.

    Example:
        >>> annotation_path("train/a/abbey/00000001.jpg")
        'objects/train/a/abbey/00000001.xml'
    """
    return f"{FOLDER}/{PurePosixPath(image_id).with_suffix('.xml').as_posix()}"


def read_polygons(path: Path, id_of_category: Mapping[int, int], *, label: int) -> tuple[Polygon, ...]:
    """Read one annotation, without document types or entities and so without what these can do.

    Args:
        path: The file.
        id_of_category: Object id by the category id of the file.
        label: The image's class, which the file repeats.

    Returns:
        Polygons in the order of the file, without deleted objects; at least one.

    Raises:
        OSError: If it cannot be read.
        ElementTree.ParseError: If it is not made of XML elements.
        ValueError: If it holds anything unexpected.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    # Comments in other encodings harm nothing: only numbers are read.
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    if _DOCUMENT_TYPE.search(text):
        raise ValueError("it declares a document type or entities, which are not read")
    # Inside an element the parser takes no document type in any other disguise either.
    tree = ElementTree.fromstring(f"<annotation>{_XML_DECLARATION.sub('', text)}</annotation>")
    scene = tree.findtext("class")
    if scene is not None and _whole_number(scene) != label:
        raise ValueError(f"it says class {scene.strip()}, but the lists say {label}")
    objects = [element for element in tree.iter(FOLDER) if (element.findtext("deleted") or "0").strip() != "1"]
    if not objects:
        raise ValueError("it lists no objects")
    return tuple(_polygon(element, id_of_category) for element in objects)


def _find_home(root: Path | None) -> Path | None:
    """Return the dataset's folder, found by its images as when packing, if it has annotations."""
    if root is None or not root.is_dir():
        return None
    try:
        home = find_folder(root, lambda folder: (folder / "images").is_dir(), "the folder images")
    except InputError:
        return None  # the photographs are gone, or no longer only once there, since they were packed
    return home if (home / FOLDER).is_dir() else None


def _read_categories(root: Path, home: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return the object id of each category id, and the names of object ids: background, then sorted names."""
    folders = [base / name for base in (home, root) for name in LIST_FOLDERS]
    folders += [child for child in sorted(root.iterdir()) if child.is_dir()]
    path = next((folder / CATEGORIES for folder in folders if (folder / CATEGORIES).is_file()), None)
    if path is None:
        raise InputError(f"{home}: there are objects but no {CATEGORIES}; put it beside train.txt to have them read")
    categories: dict[int, str] = {}
    for line in read_lines(path):
        name, number = split_number(line, "<category> <category id>")
        if number in categories:
            raise InputError(f"{path}: category id {number} is listed twice; mend the list")
        categories[number] = name.strip().lower()
    names = (BACKGROUND, *sorted(set(categories.values()) - {BACKGROUND}))
    ids = {name: object_id for object_id, name in enumerate(names)}
    return {number: ids[name] for number, name in categories.items()}, names


def _polygon(element: ElementTree.Element, id_of_category: Mapping[int, int]) -> Polygon:
    category = _whole_number(element.findtext("class"))
    if category not in id_of_category:
        raise ValueError(f"an object has category id {category}, which {CATEGORIES} does not list")
    outlines = element.findall("polygon")
    if len(outlines) != 1:
        raise ValueError(f"an object has {len(outlines)} polygons, expected 1")
    points_P2 = np.array(
        [[float(point.findtext(axis) or "nan") for axis in ("x", "y")] for point in outlines[0].findall("pt")]
    )
    if len(points_P2) < 3:
        raise ValueError(f"a polygon has {len(points_P2)} points, expected at least 3")
    if not (np.abs(points_P2) <= MAX_LONG_SIDE).all():
        raise ValueError(f"a polygon has a coordinate that is missing or beyond {MAX_LONG_SIDE} pixels")
    return Polygon(id_of_category[category], points_P2 - 1)


def _whole_number(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise ValueError(f"expected a class id, got {text!r}") from None


def _unknown(cache: PixelCache) -> tuple[frozenset[int], ...]:
    """No class is said to be decided by any object."""
    return (frozenset(),) * len(cache.classes)
