"""SUN397: 397 scene classes, 10 official partitions of 19,850 training and 19,850 test images of the 108,754.

    <letter>/<class>/sun_<id>.jpg, <letter>/<class>/<subclass>/sun_<id>.jpg
    ClassName.txt                                       lines `/a/abbey`, `/a/athletic_field/outdoor`
    Training_01.txt, Testing_01.txt ... Testing_10.txt  lines `/a/abbey/sun_<id>.jpg`

The archive calls the folder of the letters `SUN397`; it may be the data root or lie in it. The lists may lie beside
the letters, in the data root, or in a folder in either, such as `Partitions`. In every partition a class has 50
training and 50 test images.

The label is the position in ClassName.txt. The class of an image is its folder; its name leaves out the letter
(`athletic_field/outdoor`). The official id is the path in the list, without the slash that it starts with: paths
start at the folder of the letters, never at that of the system.

The images that a partition does not name are not used. They count as one problem `unlisted`, which says how many
there are: 69,054 in a complete copy.

Source: Xiao et al. 2010, "SUN Database: Large-scale Scene Recognition from Abbey to Zoo",
https://vision.princeton.edu/projects/2010/SUN/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from dctkd.data.formats.official_lists import (
    Line,
    Listing,
    collect_entries,
    files_below,
    find_folder,
    find_list,
    plain_path,
    read_lines,
    require_folder,
    summarise_unlisted,
)
from dctkd.data.manifest import Manifest, Problem, Split, class_problems
from dctkd.errors import InputError
from dctkd.strict import Strict

NUM_PARTITIONS = 10
LAYOUT = "the folder SUN397 with the folders a to z, and the lists ClassName.txt, Training_01.txt and Testing_01.txt"
CLASSES = "ClassName.txt"
LISTS: tuple[tuple[Split, str], ...] = (("train", "Training"), ("test", "Testing"))
_LETTER = re.compile(r"[a-z]")


class Options(Strict):
    """What of SUN397 is used."""

    partition: int = Field(1, ge=1, le=NUM_PARTITIONS, description="number of the official partition, 1 to 10")


def read_manifest(root: Path, options: Options) -> Manifest:
    """List what a partition of a copy of SUN397 consists of.

    Args:
        root: Folder that holds the folders `a` to `z`, or the folder around it.
        options: Which partition is used.

    Returns:
        Training entries, then test entries, each in the order of its list.

    Raises:
        InputError: If a folder or list is missing or malformed, or a listed path leaves the dataset's folder.
    """
    require_folder(root, LAYOUT)
    home = find_folder(root, _has_letters, "the folders a, b, ... z")
    label_of = _read_classes(find_list(root, home, CLASSES, "lines /<letter>/<class>"))
    listings: list[Listing] = []
    problems: list[Problem] = []
    for split, name in LISTS:
        path = find_list(
            root, home, f"{name}_{options.partition:02d}.txt", "of Partitions.zip, lines /<letter>/<class>/<file>.jpg"
        )
        read, unknown = _read_list(path, split, label_of)
        listings += read
        problems += unknown
    present = files_below(home, sorted({folder.partition("/")[0] for folder in label_of}))
    entries, found = collect_entries(listings, home, folder="", present=present, num_classes=len(label_of))
    problems += [*found, *summarise_unlisted(present, listings, "")]
    classes = tuple(re.sub(r"^[a-z]/", "", folder) for folder in label_of)
    kept = tuple(entries)
    return Manifest("sun397", classes, kept, (*problems, *class_problems(classes, kept)), home)


def _has_letters(folder: Path) -> bool:
    return any(_LETTER.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())


def _read_classes(path: Path) -> dict[str, int]:
    """Read ClassName.txt: the label of each folder `a/abbey`."""
    label_of: dict[str, int] = {}
    for line in read_lines(path):
        folder = _below(line)
        if folder in label_of:
            raise InputError(f"{path}:{line.number}: class {line.text!r} is listed twice; mend the list")
        label_of[folder] = len(label_of)
    if not label_of:
        raise InputError(f"{path}: expected lines '/<letter>/<class>', got none; mend the list")
    return label_of


def _read_list(path: Path, split: Split, label_of: Mapping[str, int]) -> tuple[list[Listing], list[Problem]]:
    """Return what a list says, and the lines of classes that ClassName.txt does not list."""
    listings: list[Listing] = []
    unknown: list[Problem] = []
    for line in read_lines(path):
        name = _below(line)
        folder = name.rpartition("/")[0]
        if folder in label_of:
            listings.append(Listing(line.where, name, label_of[folder], split))
        else:
            message = f"{name} is of class {folder!r}, which {CLASSES} does not list"
            unknown.append(Problem("label_range", line.where, message))
    return listings, unknown


def _below(line: Line) -> str:
    """Return the path of a line without the slash that official lists start it with; a second one is refused."""
    return plain_path(line, line.text.removeprefix("/"))
