"""MIT Indoor Scenes: 67 classes, 5,360 training and 1,340 test images of the 15,620 in the archive.

    Images/<class>/<file>.jpg
    TrainImages.txt, TestImages.txt     lines `<class>/<file>.jpg`

Labels follow the class names of both lists, sorted by character code; the lists number no classes. The official id of
an image is its path in the list. The lists may lie beside `Images`, in the data root, or in a folder in either.

The 8,920 images that are in neither list are not used: no official split covers them. They count as one problem
`unlisted`, which says how many there are.

Source: Quattoni and Torralba 2009, "Recognizing Indoor Scenes", http://web.mit.edu/torralba/www/indoor.html.
"""

from __future__ import annotations

from pathlib import Path

from dctkd.data.formats.official_lists import (
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
from dctkd.data.manifest import Manifest, Split, class_problems
from dctkd.errors import InputError
from dctkd.strict import Strict

FOLDER = "Images"
LAYOUT = "the folder Images, and the lists TrainImages.txt and TestImages.txt"
LISTS: tuple[tuple[Split, str], ...] = (("train", "TrainImages.txt"), ("test", "TestImages.txt"))
EXPECTED_LINE = "<class>/<file>.jpg"


class Options(Strict):
    """What of MIT67 is used: all that the lists name; there is nothing to choose."""


def read_manifest(root: Path, options: Options) -> Manifest:
    """List what a copy of MIT67 consists of.

    Args:
        root: Folder of the layout above, or the folder around it.
        options: Not used.

    Returns:
        Training entries, then test entries, each in the order of its list.

    Raises:
        InputError: If a folder or list is missing or malformed, or a listed path leaves the dataset's folder.
    """
    require_folder(root, LAYOUT)
    home = find_folder(root, lambda folder: (folder / FOLDER).is_dir(), "the folder Images")
    lines = [
        (split, where, class_name, f"{class_name}/{file}")
        for split, list_name in LISTS
        for where, class_name, file in _read_list(find_list(root, home, list_name, f"lines {EXPECTED_LINE}"))
    ]
    classes = tuple(sorted({class_name for _, _, class_name, _ in lines}))
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    listings = [Listing(where, name, label_of[class_name], split) for split, where, class_name, name in lines]
    present = files_below(home, [FOLDER])
    entries, problems = collect_entries(listings, home, folder=FOLDER, present=present, num_classes=len(classes))
    problems += summarise_unlisted(present, listings, FOLDER)
    kept = tuple(entries)
    return Manifest("mit67", classes, kept, (*problems, *class_problems(classes, kept)), home)


def _read_list(path: Path) -> list[tuple[str, str, str]]:
    """Return where it stands, class and file of each line."""
    lines = []
    for line in read_lines(path):
        class_name, slash, file = plain_path(line, line.text).partition("/")
        if not slash or "/" in file:
            raise InputError(
                f"{path}:{line.number}: expected a line '{EXPECTED_LINE}', got {line.text!r}; mend the list"
            )
        lines.append((line.where, class_name, file))
    return lines
