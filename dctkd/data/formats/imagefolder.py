"""One folder per class: the user's own photographs.

    train/<class>/<any name>.jpg    test/<class>/<any name>.jpg  (or val/)

Classes are the folders' names in alphabetical order. The official id of an image is `<split>/<class>/<path>`; the order
is alphabetical.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import Field

from dctkd.data.formats.official_lists import files_below, find_folder, require_folder
from dctkd.data.manifest import Entry, Manifest, Problem, Split, class_problems
from dctkd.errors import InputError
from dctkd.strict import Strict

LAYOUT = "the folders train/<class> and test/<class> (or val/<class>)"
TEST_FOLDERS = ("test", "val")
EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
"""Names of images end so, in small or capital letters."""


class Options(Strict):
    """Which folders are used."""

    test_folder: str | None = Field(
        None, pattern=r"^[^/.][^/]*$", description="folder of the test split; null: test or val, whichever exists"
    )


def read_manifest(root: Path, options: Options) -> Manifest:
    """List the images in a tree of class folders.

    Args:
        root: Folder that holds `train`, or the folder around it.
        options: Which folders are used.

    Raises:
        InputError: If the root, `train` or the test folder is missing, if both `test` and `val` exist and none is
            chosen, or if there is no class.
    """
    require_folder(root, LAYOUT)
    home = find_folder(root, lambda folder: (folder / "train").is_dir(), "the folder train")
    folders: tuple[tuple[Split, str], ...] = (("train", "train"), ("test", _test_folder(home, options)))
    class_folders = [child for _, folder in folders for child in (home / folder).iterdir() if _is_class(child)]
    label_of = {name: label for label, name in enumerate(sorted({child.name for child in class_folders}))}
    if not label_of:
        raise InputError(f"{home / 'train'}: expected one folder per class, found none")
    linked = [child.relative_to(home).as_posix() for child in class_folders if child.is_symlink()]
    present = sorted(files_below(home, [*(folder for _, folder in folders), *linked]))
    entries: list[Entry] = []
    problems: list[Problem] = []
    for split, folder in folders:
        for path in (path for path in present if path.startswith(f"{folder}/")):
            if (entry := _entry(path, split, label_of)) is not None:
                entries.append(entry)
            else:
                problems.append(Problem("unlisted", path, "it is no image in a class folder and is not used"))
    classes = tuple(label_of)
    return Manifest("imagefolder", classes, tuple(entries), (*problems, *class_problems(classes, tuple(entries))), home)


def _test_folder(home: Path, options: Options) -> str:
    names = TEST_FOLDERS if options.test_folder is None else (options.test_folder,)
    found = [name for name in names if (home / name).is_dir()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{home}: holds both {' and '.join(found)}; choose one by options.test_folder")
    raise InputError(f"{home}: no test images; expected the folder {' or '.join(names)} beside train")


def _is_class(child: Path) -> bool:
    return child.is_dir() and not child.name.startswith(".")


def _entry(path: str, split: Split, label_of: Mapping[str, int]) -> Entry | None:
    """Return the entry of an image `<folder>/<class>/...`, or None if the file is something else."""
    _, *inner = PurePosixPath(path).parts
    if len(inner) < 2 or PurePosixPath(path).suffix.lower() not in EXTENSIONS:
        return None
    return Entry("/".join([split, *inner]), path, label_of[inner[0]], split)
