"""MiniPlaces: 100 scene classes of Places2 at 128 x 128 pixels, 100,000 training and 10,000 validation images.

    images/train/<letter>/<class>/<8 digits>.jpg    images/val/<8 digits>.jpg
    train.txt, val.txt       lines `<path below images> <class id>`
    categories.txt           lines `/a/abbey 0`

The lists may also lie in `development_kit/data`, where the repository of the course (MIT 6.869) keeps them. The
official id of an image is its path in the list; the validation images are the test split.

Source: http://places.csail.mit.edu (Zhou et al. 2017, "Places: A 10 Million Image Database for Scene Recognition").
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from dctkd.data.formats.official_lists import (
    Listing,
    collect_entries,
    files_below,
    find_folder,
    plain_path,
    read_lines,
    require_folder,
    split_number,
)
from dctkd.data.manifest import Manifest, Problem, Split, class_problems
from dctkd.errors import InputError
from dctkd.strict import Strict

LAYOUT = "the folder images, and the lists train.txt, val.txt and categories.txt"
LIST_FOLDERS = (".", "development_kit/data")
FOLDERS: tuple[tuple[Split, str], ...] = (("train", "train"), ("test", "val"))
"""Split, and the name of its folder and list."""


class Options(Strict):
    """What of MiniPlaces is used."""

    num_classes: int | None = Field(
        None, ge=2, description="keep the first classes of categories.txt; null keeps all 100"
    )


def read_manifest(root: Path, options: Options) -> Manifest:
    """List what a copy of MiniPlaces consists of.

    Args:
        root: Folder of the layout above, or the folder around it.
        options: What is used.

    Returns:
        Training entries, then test entries, each in the order of its list.

    Raises:
        InputError: If a folder or list is missing or malformed, or a listed path leaves the dataset's folder.
    """
    require_folder(root, LAYOUT)
    home = find_folder(root, lambda folder: (folder / "images").is_dir(), "the folder images")
    lists = _find_lists(root, home)
    classes = _read_classes(lists / "categories.txt")
    listings = [listing for split, name in FOLDERS for listing in _read_list(lists / f"{name}.txt", split)]
    present = files_below(home, [f"images/{name}" for _, name in FOLDERS])
    entries, problems = collect_entries(listings, home, folder="images", present=present, num_classes=len(classes))
    unlisted = sorted(present - {f"images/{listing.name}" for listing in listings})
    problems += [Problem("unlisted", path, "it is in no list and is not used") for path in unlisted]
    if options.num_classes is not None:
        if options.num_classes > len(classes):
            raise InputError(
                f"{lists / 'categories.txt'}: options.num_classes is {options.num_classes}, but it has {len(classes)}"
            )
        classes = classes[: options.num_classes]
    kept = tuple(entry for entry in entries if entry.label < len(classes))
    return Manifest("miniplaces", classes, kept, (*problems, *class_problems(classes, kept)), home)


def _find_lists(root: Path, home: Path) -> Path:
    """Return the folder of train.txt; it need not be that of the images."""
    for base in dict.fromkeys((home, root)):
        for name in LIST_FOLDERS:
            if (base / name / "train.txt").is_file():
                return base / name
    return find_folder(
        root, lambda folder: (folder / "train.txt").is_file(), "the official lists train.txt, val.txt, categories.txt"
    )


def _read_classes(path: Path) -> tuple[str, ...]:
    """Read categories.txt: `/a/abbey 0` is class 0, `abbey`."""
    names: dict[int, str] = {}
    for line in read_lines(path):
        name, label = split_number(line, "/<letter>/<class> <class id>")
        if label in names or name in names.values():
            raise InputError(f"{path}: class {name!r} or class id {label} is listed twice; mend the list")
        names[label] = name
    if not names or sorted(names) != list(range(len(names))):
        raise InputError(
            f"{path}: expected the class ids 0, 1, 2 and so on without a gap, got {sorted(names)[:5]}...; mend the list"
        )
    return tuple(re.sub(r"^/?[a-z]/", "", names[label]) for label in range(len(names)))


def _read_list(path: Path, split: Split) -> list[Listing]:
    listings = []
    for line in read_lines(path):
        name, label = split_number(line, "<path> <class id>")
        listings.append(Listing(line.where, plain_path(line, name), label, split))
    return listings
