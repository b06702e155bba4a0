"""ADE20K with scene labels: 20,210 training and 2,000 validation images of 1,055 scenes.

    images/training/ADE_train_<8 digits>.jpg, images/validation/ADE_val_<8 digits>.jpg
    sceneCategories.txt                         lines `ADE_train_00000001 airport_terminal`
    annotations/validation/ADE_val_<8 digits>.png, objectInfo150.txt    objects, see `ade20k_objects`

The archive calls this folder `ADEChallengeData2016`. Labels follow the scene names of both splits, sorted by
character code; the list numbers no classes. The official id of an image is its name in the list, which has no
extension, so the file may end as any image does; of several, `.jpg` counts. The validation images are the test split.

The official lists leave classes without images: 1,040 of the scenes have training images, 672 have validation images,
and 15 are met in validation only. A class that the list itself gives no training image is reported as
`untrained_class` and does not block: nothing is missing from the copy, and published numbers are over these classes
too. A class whose training images the list does name, but which cannot be used, is an `empty_class` and blocks.

Source: Zhou et al. 2017, "Scene Parsing through ADE20K Dataset", http://sceneparsing.csail.mit.edu.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from dctkd.data.formats.imagefolder import EXTENSIONS
from dctkd.data.formats.official_lists import (
    Line,
    Listing,
    collect_entries,
    files_below,
    find_folder,
    find_list,
    read_lines,
    require_folder,
)
from dctkd.data.manifest import SPLITS, Manifest, Problem, Split, class_problems
from dctkd.errors import InputError
from dctkd.strict import Strict

LAYOUT = "the folder ADEChallengeData2016 with the folder images and the list sceneCategories.txt"
FOLDERS: Mapping[Split, str] = MappingProxyType({"train": "training", "test": "validation"})
SCENES = "sceneCategories.txt"
EXPECTED_LINE = "ADE_<train or val>_<8 digits> <scene>"
_LINE = re.compile(r"(ADE_(train|val)_[0-9]{8})\s+(\S.*)")


class Options(Strict):
    """What of ADE20K is used: all that the list names; there is nothing to choose."""


def read_manifest(root: Path, options: Options) -> Manifest:
    """List what a copy of ADE20K consists of.

    Args:
        root: Folder of the layout above, or the folder around it.
        options: Not used.

    Returns:
        Training entries, then test entries, each in the order of the list.

    Raises:
        InputError: If a folder or list is missing or malformed.
    """
    require_folder(root, LAYOUT)
    home = find_home(root)
    lines = [_read_line(line) for line in read_lines(find_list(root, home, SCENES, f"lines {EXPECTED_LINE}"))]
    classes = tuple(sorted({scene for _, _, scene, _ in lines}))
    label_of = {scene: label for label, scene in enumerate(classes)}
    present = files_below(home, [f"images/{folder}" for folder in FOLDERS.values()])
    path_of = _images(present)
    listings = []
    for wanted in SPLITS:
        for where, name, scene, split in lines:
            if split == wanted:
                stem = f"{FOLDERS[split]}/{name}"
                listings.append(Listing(where, name, label_of[scene], split, path_of.get(stem, f"{stem}.jpg")))
    entries, problems = collect_entries(listings, home, folder="images", present=present, num_classes=len(classes))
    unlisted = sorted(present - {f"images/{listing.path}" for listing in listings})
    problems += [Problem("unlisted", path, "it is in no list and is not used") for path in unlisted]
    trained = {scene for _, _, scene, split in lines if split == "train"}
    problems += [
        Problem("untrained_class", f"class {scene}", "the official list gives it no training image")
        for scene in classes
        if scene not in trained
    ]
    kept = tuple(entries)
    return Manifest("ade20k", classes, kept, (*problems, *class_problems(classes, kept, known=problems)), home)


def find_home(root: Path) -> Path:
    """Return the folder that holds `images`: the root or a folder in it.

    Raises:
        InputError: If there is none, or more than one.
    """
    folders = [f"images/{folder}" for folder in FOLDERS.values()]
    return find_folder(
        root, lambda home: all((home / folder).is_dir() for folder in folders), f"the folders {' and '.join(folders)}"
    )


def _read_line(line: Line) -> tuple[str, str, str, Split]:
    """Return where a line stands, the name of its image, scene and split. Such names cannot leave a folder."""
    found = _LINE.fullmatch(line.text)
    if found is None:
        raise InputError(
            f"{line.path}:{line.number}: expected a line '{EXPECTED_LINE}', got {line.text!r}; mend the list"
        )
    return line.where, found[1], found[3], "train" if found[2] == "train" else "test"


def _images(present: set[str]) -> dict[str, str]:
    """Map `training/<name>` to the path below `images` of the file of that name, whatever its extension."""
    path_of: dict[str, str] = {}
    for path in sorted(present, key=lambda path: (not path.endswith(".jpg"), path)):
        below = path.removeprefix("images/")
        stem, _, extension = below.rpartition(".")
        if f".{extension.lower()}" in EXTENSIONS:
            path_of.setdefault(stem, below)
    return path_of
