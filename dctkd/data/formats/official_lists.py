"""Reading official lists: lines, paths that stay inside the dataset, the folder that a dataset really lies in.

Lists come from anywhere: Windows line ends, a byte order mark, blank lines and spaces in names are met in real copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dctkd.data.manifest import Entry, Problem, Split
from dctkd.errors import InputError, shown


@dataclass(frozen=True)
class Line:
    """One line of a list that is not blank."""

    path: Path
    number: int
    text: str

    @property
    def where(self) -> str:
        """List and line, independent of where the list lies."""
        return f"{self.path.name}:{self.number}"


@dataclass(frozen=True)
class Listing:
    """What a line of an official list says.

    Attributes:
        where: List and line, for messages.
        name: Official name of the image: the path as the list gives it.
        label: Class id.
        split: The split that the list is of.
        path: Where the image lies, if that is not its name.
    """

    where: str
    name: str
    label: int
    split: Split
    path: str = ""


def require_folder(root: Path, expected: str) -> None:
    """Check that the data root is a folder.

    Args:
        root: As the user gave it.
        expected: What should lie there, for the message.

    Raises:
        InputError: If it is missing, no folder or may not be read.
    """
    try:
        is_folder, is_there = root.is_dir(), root.exists()
    except OSError as error:
        raise InputError(
            f"data root {shown(str(root), quote='')} cannot be read ({error.strerror}); expected there: {expected}"
        ) from error
    if not is_folder:
        state = "is not a folder" if is_there else "does not exist"
        raise InputError(f"data root {root} {state}; expected there, or one level deeper: {expected}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise InputError(f"data root {root} may not be read; change its permissions")


def find_folder(root: Path, is_it: Callable[[Path], bool], expected: str) -> Path:
    """Find the folder of a dataset: the root itself, or a subfolder where an archive was unpacked one level deeper.

    Args:
        root: An existing folder.
        is_it: Tells whether a folder is the one.
        expected: What makes a folder the one, for messages.

    Raises:
        InputError: If no folder or more than one subfolder fits.
    """
    if is_it(root):
        return root
    found = [child for child in _subfolders(root) if is_it(child)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"data root {root}: {', '.join(child.name for child in found)} each hold {expected}; give one of them"
        )
    raise InputError(f"data root {root}: expected there, or one level deeper: {expected}; found neither")


def _subfolders(folder: Path) -> list[Path]:
    """Return what may be looked into: a disk's own `lost+found` may not."""
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and os.access(child, os.R_OK | os.X_OK)]


def find_list(root: Path, home: Path, name: str, expected: str) -> Path:
    """Find an official list: beside the images, in the data root, or in one subfolder of either.

    Args:
        root: As the user gave it.
        home: Folder of the images, as `find_folder` gave it.
        name: File name of the list.
        expected: What the list is, for messages.

    Raises:
        InputError: If it lies nowhere or in more than one subfolder.
    """
    bases = list(dict.fromkeys((home, root)))
    for base in bases:
        if (base / name).is_file():
            return base / name
    children = dict.fromkeys(child for base in bases for child in _subfolders(base))
    found = [child / name for child in children if (child / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        folders = ", ".join(path.parent.relative_to(root).as_posix() for path in found)
        raise InputError(f"data root {root}: {folders} each hold {name}; keep one of them")
    raise InputError(
        f"data root {root}: expected there, or one level deeper: the list {name} ({expected}); found neither"
    )


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a list that are not blank.

    Raises:
        InputError: If the list cannot be read as UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Line(path, number, line.strip())


def split_number(line: Line, expected: str) -> tuple[str, int]:
    """Split a line into what comes before its last blank, which may hold blanks itself, and the number behind it.

    Args:
        line: For instance `train/a b.jpg 3`.
        expected: How such a line should look, for the message.

    Raises:
        InputError: If the line does not end with a number.

    Example:
        >>> split_number(Line(Path("train.txt"), 1, "train/a b.jpg 3"), "<path> <class id>")
        ('train/a b.jpg', 3)
    """
    name, _, number = line.text.replace("\t", " ").rpartition(" ")
    try:
        return name.strip(), int(number)
    except ValueError:
        raise InputError(
            f"{line.path}:{line.number}: expected a line '{expected}', got {line.text!r}; mend the list"
        ) from None


def plain_path(line: Line, path: str) -> str:
    """Return a listed path in its plain form.

    Raises:
        InputError: If the path is empty, absolute or steps upwards: it could leave the dataset's folder.

    Example:
        >>> plain_path(Line(Path("train.txt"), 1, ""), "./train//abbey/1.jpg")
        'train/abbey/1.jpg'
    """
    plain = PurePosixPath(path)
    if not plain.parts or plain.is_absolute() or ".." in plain.parts or "\0" in path:
        raise InputError(
            f"{line.path}:{line.number}: path {path!r} may leave the dataset's folder; "
            "expected a relative path without '..'"
        )
    return plain.as_posix()


def files_below(root: Path, folders: Sequence[str]) -> set[str]:
    """Return the POSIX paths, relative to the root, of all files in some folders; leaves out hidden and linked ones."""
    found: set[str] = set()
    for folder in folders:
        for parent, children, names in os.walk(root / folder):
            children[:] = [child for child in children if not child.startswith(".")]
            relative = Path(parent).relative_to(root).as_posix()
            found.update(f"{relative}/{name}" for name in names if not name.startswith("."))
    return found


def summarise_unlisted(present: set[str], listings: Iterable[Listing], folder: str) -> list[Problem]:
    """Say in one problem how many files no list names, for a dataset whose archive holds more than its lists use.

    One problem per file, as where such a file is an exception, would drown everything else.

    Args:
        present: Files, as `files_below` gives them.
        listings: What the lists say.
        folder: Folder of the images, which listed names are relative to; empty for the dataset's own folder.

    Example:
        >>> listed = Listing("TrainImages.txt:1", "bar/1.jpg", 0, "train")
        >>> [str(one) for one in summarise_unlisted({"Images/bar/1.jpg", "Images/bar/2.jpg"}, [listed], "Images")]
        ['Images: 1 file is in no list and is not used, the first of them Images/bar/2.jpg']
    """
    unlisted = present - {_path_of(listing, folder) for listing in listings}
    if not unlisted:
        return []
    count = "1 file is in no list and is" if len(unlisted) == 1 else f"{len(unlisted)} files are in no list and are"
    return [Problem("unlisted", folder or ".", f"{count} not used, the first of them {min(unlisted)}")]


def _path_of(listing: Listing, folder: str) -> str:
    return f"{folder}/{listing.path or listing.name}" if folder else listing.path or listing.name


def collect_entries(
    listings: Iterable[Listing], root: Path, *, folder: str, present: set[str], num_classes: int
) -> tuple[list[Entry], list[Problem]]:
    """Turn listings into entries; what cannot be one becomes a problem.

    Args:
        listings: In official order.
        root: Folder that entries' paths are relative to.
        folder: Folder below the root that listed names are relative to; empty for the root itself.
        present: Files known to exist, as `files_below` gives them.
        num_classes: Labels are valid from 0 up to this number, exclusive.

    Returns:
        Entries in official order; problems `label_range`, `missing` and `duplicate`.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    first_label: dict[str, int] = {}
    for listing in listings:
        path = _path_of(listing, folder)
        if not 0 <= listing.label < num_classes:
            message = f"{listing.name} has class id {listing.label}, expected 0 to {num_classes - 1}"
            problems.append(Problem("label_range", listing.where, message))
        elif path not in present and not (root / path).is_file():
            problems.append(Problem("missing", listing.where, f"{path} does not exist"))
        elif listing.name in first_label:
            label = first_label[listing.name]
            message = f"{listing.name} is listed again, as class {listing.label}; before as class {label}"
            problems.append(Problem("duplicate", listing.where, message))
        else:
            first_label[listing.name] = listing.label
            entries.append(Entry(listing.name, path, listing.label, listing.split))
    return entries, problems
