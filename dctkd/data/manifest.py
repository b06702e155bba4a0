"""What a dataset consists of, before a pixel is read: entries, classes, and the problems met on the way.

Membership comes from the dataset's official lists. A reader leaves out what cannot be used and lists it as a problem,
so every problem is seen in one go; `check_problems` then decides, by `on_problem`, whether to go on without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from dctkd.errors import UNPRINTABLE, InputError, printable

if TYPE_CHECKING:
    from numpy import int64, uint8
    from numpy.typing import NDArray

Split = Literal["train", "test"]
CacheSplit = Literal["train", "held_out", "test"]
"""What a network may be fed with: `held_out` is the part of the training images that is not trained on, if any."""
OnProblem = Literal["fail", "drop"]

SPLITS: tuple[Split, ...] = ("train", "test")

PROBLEM_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "a list names a file that does not exist",
        "unreadable": "the file does not decode to an image",
        "duplicate": "a file is listed more than once; its first listing counts",
        "label_range": "a list gives a class id that does not exist",
        "empty_class": "a class has no training image",
        "untrained_class": "the official lists give a class test images but no training image",
        "unlisted": "a file lies among the images but in no list",
        "misnamed": "a readable image whose name ends as another format's",
        "untested_class": "a class has no test image",
        "same_pixels": "an image has the same cached pixels as one before it",
        "sixteen_bit": "a 16 or 32-bit image, which PIL clips to 8 bits",
    }
)
"""Kinds of problems and what they mean."""

BLOCKING_KINDS = frozenset({"missing", "unreadable", "duplicate", "label_range", "empty_class"})
"""Kinds that stop unless the user said `on_problem: drop`; the others are listed for information."""


@dataclass(frozen=True)
class Entry:
    """One image of a dataset.

    Attributes:
        id: Official id, independent of where the dataset lies.
        path: Relative to the manifest's root, POSIX.
        label: Class, from 0.
        split: `train` or `test`.
    """

    id: str
    path: str
    label: int
    split: Split


@dataclass(frozen=True)
class Problem:
    """Something about the dataset that the user should know.

    Attributes:
        kind: One of PROBLEM_KINDS.
        where: The file, list and line, or class concerned.
        message: What is wrong there.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Manifest:
    """A dataset of photographs.

    Attributes:
        name: The format's name.
        classes: Class names; the position is the label.
        entries: All usable images, training before test, each in the order of its official list.
        problems: What was left out or is worth knowing.
        root: Folder that paths are relative to.
    """

    name: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    root: Path

    def split(self, split: Split) -> list[Entry]:
        """Return the entries of one split, in official order."""
        return [entry for entry in self.entries if entry.split == split]


@dataclass(frozen=True)
class Rendered:
    """One split of a dataset whose images are computed.

    Attributes:
        images: RGB, uint8, shape (N, H, W, 3).
        labels: Classes, int64, shape (N,).
        masks: Object ids, uint8, shape (N, H, W); 0 is background.
        class_names: Class names; the position is the label.
        mask_names: Names of the object ids; the position is the id.
    """

    images: NDArray[uint8]
    labels: NDArray[int64]
    masks: NDArray[uint8]
    class_names: tuple[str, ...]
    mask_names: tuple[str, ...]


def class_problems(
    classes: tuple[str, ...], entries: tuple[Entry, ...], *, known: Collection[Problem] = ()
) -> list[Problem]:
    """List the classes that no image shows, in training or in testing.

    Args:
        classes: Class names.
        entries: Usable images.
        known: Problems listed before. They are not repeated; a class among them that is an `untrained_class`, so that
            nothing is missing, is not reported as an `empty_class`, which would block.

    Example:
        >>> entries = (Entry("1", "1.jpg", 0, "train"), Entry("2", "2.jpg", 0, "test"))
        >>> [str(problem) for problem in class_problems(("a", "b"), entries)]
        ['class b: it has no training image', 'class b: it has no test image']
    """
    seen = {split: {entry.label for entry in entries if entry.split == split} for split in SPLITS}
    kinds: tuple[tuple[Split, str, str], ...] = (
        ("train", "empty_class", "training"),
        ("test", "untested_class", "test"),
    )
    untrained = {problem.where for problem in known if problem.kind == "untrained_class"}
    found = [
        Problem(kind, f"class {name}", f"it has no {word} image")
        for split, kind, word in kinds
        for label, name in enumerate(classes)
        if label not in seen[split] and not (split == "train" and f"class {name}" in untrained)
    ]
    repeated = set(known)
    return [problem for problem in found if problem not in repeated]


def check_problems(manifest: Manifest, on_problem: OnProblem) -> None:
    """Stop if the dataset has problems that the user did not agree to go on with.

    Args:
        manifest: The dataset as it was read.
        on_problem: `fail`: any blocking problem is an error. `drop`: go on with the entries that remain.

    Raises:
        InputError: Names the first problems and counts all, by kind; or if a split has no image left, or a name could
            not stand in the tables.
    """
    _check_names(manifest)
    blocking = [problem for problem in manifest.problems if problem.kind in BLOCKING_KINDS]
    if blocking and on_problem == "fail":
        counts = ", ".join(
            f"{count} {kind}" for kind, count in sorted(Counter(problem.kind for problem in blocking).items())
        )
        first = "; ".join(str(problem) for problem in blocking[:3])
        raise InputError(
            f"{manifest.name} in {manifest.root}: {counts}: {first}{'; ...' if len(blocking) > 3 else ''}; "
            "mend the files or lists, or set on_problem: drop to go on without these images"
        )
    for split in SPLITS:
        if not any(entry.split == split for entry in manifest.entries):
            reason = f" ({blocking[0]})" if blocking else ""
            raise InputError(
                f"{manifest.name} in {manifest.root}: no usable {split} image{reason}; check the root and the lists"
            )


def _check_names(manifest: Manifest) -> None:
    """Refuse names that would break the lines of tables and lists, or that no file can hold as UTF-8."""
    for name in (*manifest.classes, *(entry.path for entry in manifest.entries)):
        if UNPRINTABLE.search(name):
            raise InputError(
                f"{manifest.name} in {manifest.root}: the name '{printable(name)}' holds a control character or bytes "
                "that are no UTF-8; rename it, in the lists too"
            )
