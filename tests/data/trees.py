"""Small copies of datasets in their official layouts, with what real copies hold: odd names, odd files, odd lists.

Every builder returns the root and needs no other fixture. Photographs differ from one another, and the same call makes
the same tree. Names with blanks, `+` and capital letters, and classes with a slash, are always there; odd files come
with `spoil`, odd lists with `rewrite_list`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

SIZES = ((53, 80), (80, 53), (64, 64), (48, 97), (100, 60), (49, 47))
"""Height and width of photographs, in turn, in pixels."""
MIT67_CLASSES = ("airport_inside", "bar + grill", "children_room", "inside bus")
MIT67_ORDER = ("inside bus", "airport_inside", "children_room", "bar + grill")
"""Lists name classes in an order of their own."""
SUN397_CLASSES = ("/a/abbey", "/a/athletic_field/outdoor", "/a/athletic_field/indoor", "/y/youth hostel + bar")
ADE20K_TRAINED = ("airport_terminal", "misc", "bathroom", "poolroom/home")
ADE20K_UNTRAINED = "waterfall block"
"""The scene that only a validation image shows."""
NUM_CATEGORIES = 150
STUFF = (1, 3)
"""Categories that the made-up objectInfo150.txt marks."""


def save_photograph(path: Path, number: int) -> Path:
    """Write photograph `number`, noise over a gradient, as JPEG whatever the name says."""
    height, width = SIZES[number % len(SIZES)]
    noise = np.random.default_rng(number).integers(0, 120, (height, width, 3))
    pixels = (noise + np.linspace(0, 135, width)[None, :, None]).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG", quality=90)
    return path


def write_list(path: Path, lines: Iterable[str], *, line_end: str = "\n", start: bytes = b"") -> Path:
    """Write lines as UTF-8; `start` may be a byte order mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + "".join(line + line_end for line in lines).encode())
    return path


def rewrite_list(
    path: Path, change: Callable[[list[str]], list[str]] = list, *, line_end: str = "\n", start: bytes = b""
) -> Path:
    """Apply a function to the lines of a list; alone, change how lines end."""
    return write_list(path, change(path.read_text().splitlines()), line_end=line_end, start=start)


def _save_as(name: str, mode: str = "RGB") -> Callable[[Path], None]:
    def spoil_file(path: Path) -> None:
        with Image.open(path) as image:
            converted = image.convert("L") if mode == "I;16" else image.convert(mode)
        if mode == "I;16":
            converted = Image.fromarray(np.asarray(converted).astype(np.uint16) * 257)
        converted.save(path, name)

    return spoil_file


def _rotate(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the viewer should turn it by 90 degrees
    with Image.open(path) as image:
        image.load()
    image.save(path, "JPEG", exif=exif)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


USABLE = MappingProxyType(
    {
        "png": _save_as("PNG"),
        "gif": _save_as("GIF", "P"),
        "bmp": _save_as("BMP"),
        "sixteen_bit": _save_as("PNG", "I;16"),
        "grey": _save_as("JPEG", "L"),
        "cmyk": _save_as("JPEG", "CMYK"),
        "palette": _save_as("PNG", "P"),
        "rotated": _rotate,
    }
)
"""What a photograph may be turned into and still decodes; the first four and `palette` are not what their name says."""
UNUSABLE = MappingProxyType({"truncated": _cut, "empty": _empty})
"""What a photograph may be turned into so that it does not decode."""


def spoil(path: Path, how: str) -> None:
    """Turn a photograph, in place and under its name, into one of USABLE or UNUSABLE."""
    {**USABLE, **UNUSABLE}[how](path)


def make_mit67(
    root: Path, *, classes: Sequence[str] = MIT67_ORDER, num_train: int = 2, num_test: int = 1, num_unlisted: int = 3
) -> Path:
    """Write MIT67: `Images/<class>/<file>` and both lists beside it, in the order of the classes given."""
    lists: dict[str, list[str]] = {"TrainImages.txt": [], "TestImages.txt": []}
    number = 0
    for class_name in classes:
        for list_name, count, stem in (("TrainImages.txt", num_train, "a b+"), ("TestImages.txt", num_test, "T_")):
            for index in range(count):
                name = f"{class_name}/{stem}{index:04d}.{'JPG' if index == 0 else 'jpg'}"
                save_photograph(root / "Images" / name, number := number + 1)
                lists[list_name].append(name)
    for index in range(num_unlisted):
        save_photograph(root / "Images" / classes[0] / f"unlisted_{index}.jpg", number := number + 1)
    for list_name, lines in lists.items():
        write_list(root / list_name, lines)
    return root


def make_sun397(
    root: Path,
    *,
    classes: Sequence[str] = SUN397_CLASSES,
    num_train: int = 2,
    num_test: int = 1,
    partitions: Sequence[int] = (1, 2),
    list_folder: str = "Partitions",
) -> Path:
    """Write SUN397: `SUN397/<letter>/...` with ClassName.txt, and the lists of some partitions in a folder beside it.

    The second partition trains on what the first tests on, as far as it goes. Each class has one image in no list.
    """
    lists: dict[str, list[str]] = {}
    number = 0
    for class_name in classes:
        count = num_train + num_test
        names = [f"{class_name}/sun_{chr(97 + index % 26)}{index:04d}.jpg" for index in range(count + 1)]
        for name in names:
            save_photograph(root / "SUN397" / name[1:], number := number + 1)
        for partition in partitions:
            turned = names[:count] if partition == 1 else names[:count][::-1]
            lists.setdefault(f"Training_{partition:02d}.txt", []).extend(turned[:num_train])
            lists.setdefault(f"Testing_{partition:02d}.txt", []).extend(turned[num_train:])
    write_list(root / "SUN397" / "ClassName.txt", classes)
    for list_name, lines in lists.items():
        write_list(root / list_folder / list_name, lines)
    return root


def make_ade20k(root: Path, *, num_train: int = 2, num_val: int = 6, has_stuff_column: bool = True) -> Path:
    """Write ADE20K: `ADEChallengeData2016/images/...`, the scenes, masks of all images and the list of objects.

    Scenes are ADE20K_TRAINED in training; validation shows the first of them and, in its last image, one that no
    training image shows. Masks hold the ids 0 to 4 in vertical stripes, each a fifth as wide as the photograph.
    """
    home = root / "ADEChallengeData2016"
    lines, number = [], 0
    train = [scene for scene in ADE20K_TRAINED for _ in range(num_train)]
    val = [ADE20K_TRAINED[index % 2] for index in range(num_val - 1)] + [ADE20K_UNTRAINED]
    for folder, short, scenes in (("training", "train", train), ("validation", "val", val)):
        (home / "annotations" / folder).mkdir(parents=True)
        for index, scene in enumerate(scenes):
            name = f"ADE_{short}_{index + 1:08d}"
            save_photograph(home / "images" / folder / f"{name}.jpg", number := number + 1)
            height, width = SIZES[number % len(SIZES)]
            mask = np.broadcast_to((np.arange(width) * 5 // width).astype(np.uint8), (height, width))
            Image.fromarray(mask.copy()).save(home / "annotations" / folder / f"{name}.png")
            lines.append(f"{name} {scene}")
    write_list(home / "sceneCategories.txt", lines)
    write_list(home / "objectInfo150.txt", object_info(has_stuff_column=has_stuff_column))
    return root


def object_info(*, has_stuff_column: bool = True) -> list[str]:
    """Return the lines of objectInfo150.txt with its odd blanks; object 3 is called `thing3`, with a synonym."""
    header = ["Idx", "Ratio", "Train", "Val", *(["Stuff"] if has_stuff_column else []), "Name"]
    rows = ["\t".join(header)]
    for number in range(1, NUM_CATEGORIES + 1):
        stuff = [str(int(number in STUFF))] if has_stuff_column else []
        rows.append("\t".join([f"{number} ", "0.0100", "10", "1", *stuff, f"thing{number} , another name "]))
    return rows
