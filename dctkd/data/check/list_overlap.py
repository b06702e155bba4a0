"""Whether a training and a test list name the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from dctkd.data.formats.official_lists import read_lines
from dctkd.data.manifest import Split
from dctkd.errors import InputError

NAMINGS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "path": lambda name: name,
        "path below the first folder": lambda name: name.partition("/")[2] or name,
        "file name": lambda name: name.rpartition("/")[2],
    }
)
"""What of a listed path is compared, from the most to the least specific."""


@dataclass(frozen=True)
class ImageList:
    """A list of images.

    Attributes:
        names: Paths as listed, with plain slashes, in order.
        labels: What stands behind each path: a class id, or None without one.
    """

    names: tuple[str, ...]
    labels: tuple[int | None, ...]


def read_image_list(path: Path) -> ImageList:
    """Read a list with one path per line, with or without a class id behind it.

    Raises:
        InputError: If it is no UTF-8 text or names no image.
    """
    names, labels = [], []
    for line in read_lines(path):
        name, _, last = line.text.replace("\t", " ").rpartition(" ")
        has_label = bool(name) and last.isdecimal()
        names.append(_plain(name.strip() if has_label else line.text))
        labels.append(int(last) if has_label else None)
    if not names:
        raise InputError(f"{path}: expected a list with one path per line, got an empty file; give another list")
    return ImageList(tuple(names), tuple(labels))


def shared_names(train: Sequence[str], test: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Count the images of a test list that a training list names too.

    Args:
        train: Listed paths.
        test: Listed paths, at least one.

    Returns:
        For each of NAMINGS: whether such names tell the images of a list apart, how many of the test list's are in the
        training list, and their share of it in percent. Names that do not tell images apart, as where each folder
        starts at 1.jpg anew, say nothing about images.

    Example:
        >>> shared_names(["train/a/1.jpg", "train/b/2.jpg"], ["val/a/1.jpg"])["path below the first folder"]
        {'is_unique': True, 'num_shared': 1, 'percent_of_test': 100.0}
    """
    table = {}
    for naming, shorten in NAMINGS.items():
        train_names, test_names = [shorten(name) for name in train], [shorten(name) for name in test]
        known = set(train_names)
        num_shared = sum(name in known for name in test_names)
        table[naming] = {
            "is_unique": len(known) == len(train_names) and len(set(test_names)) == len(test_names),
            "num_shared": num_shared,
            "percent_of_test": 100 * num_shared / len(test_names),
        }
    return table


def telling_overlap(table: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the most specific naming by which lists share images, or None if they share none.

    Args:
        table: As `shared_names` gives it.
    """
    return next((naming for naming, row in table.items() if row["is_unique"] and row["num_shared"]), None)


def compare_lists(train: ImageList, test: ImageList) -> dict[str, Any]:
    """Describe the overlap of two lists.

    Returns:
        JSON values: the lengths, `shared_names`, the naming that tells an overlap, whether both lists name exactly the
        same images by it, whether in the same order, and how many shared images have two labels.
    """
    table = shared_names(train.names, test.names)
    naming = telling_overlap(table)
    result: dict[str, Any] = {
        "num_train": len(train.names),
        "num_test": len(test.names),
        "by": table,
        "overlap_by": naming,
        "is_same_set": False,
        "is_same_order": False,
        "num_other_label": 0,
    }
    if naming is not None:
        shorten = NAMINGS[naming]
        train_names, test_names = [shorten(name) for name in train.names], [shorten(name) for name in test.names]
        label_of = dict(zip(train_names, train.labels, strict=True))
        result["is_same_set"] = set(train_names) == set(test_names)
        result["is_same_order"] = train_names == test_names
        result["num_other_label"] = sum(
            None not in (label, label_of.get(name)) and label != label_of[name]
            for name, label in zip(test_names, test.labels, strict=True)
        )
    return result


def place_in_splits(names: Sequence[str], splits: Mapping[Split, Sequence[str]]) -> dict[str, int] | None:
    """Count the images of a list that each split of a dataset holds, by file name.

    Args:
        names: Listed paths.
        splits: Listed paths of each split.

    Returns:
        Counts by split, and of the images in no split as `neither`; None where file names do not tell images apart.
    """
    shorten = NAMINGS["file name"]
    known = {split: {shorten(name) for name in listed} for split, listed in splits.items()}
    everything = [name for listed in known.values() for name in listed]
    if len(set(everything)) != sum(len(listed) for listed in splits.values()):
        return None
    counts: dict[str, int] = {split: sum(shorten(name) in listed for name in names) for split, listed in known.items()}
    inside = set(everything)
    return {**counts, "neither": sum(shorten(name) not in inside for name in names)}


def _plain(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).as_posix().lstrip("/")
