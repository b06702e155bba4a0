"""Getting a dataset's official files, checking them and putting them where its format reads them.

    <root>/downloads/<name>/<official file>      what is fetched, or put there by hand; kept until the user deletes it
    <root>/ADEChallengeData2016, MIT67, SUN397, miniplaces      what the files hold, in the official layout

Only the command `dctkd data fetch` comes here. The workflow and every other command read what lies on the disk and
download no dataset, ever: which files an experiment is made from is the user's decision.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dctkd.archives import unpack
from dctkd.data.disk_space import readable_bytes
from dctkd.data.fetch.official_sources import OfficialFile, OfficialSource, get_source
from dctkd.data.fetch.transfer import DownloadError, Patience, Progress, download, find_flaw
from dctkd.errors import InputError

UNPACKED_RATIO = 1.2
"""Disk that an archive of photographs unpacks to, as a multiple of its size: they hardly compress."""

Tell = Callable[[str], None]


class FetchError(InputError):
    """Official files that cannot be had; the message is a line, and under it a list of what to put where."""

    def __init__(self, message: str, items: Sequence[str]) -> None:
        super().__init__(message)
        self.args = ("\n".join([*self.args, *items]),)


def fetch(
    name: str, root: Path, *, given: Sequence[Path] = (), tell: Tell = print, patience: Patience | None = None
) -> list[str]:
    """Get the official files of a dataset and unpack them below a data root.

    What is in place is left alone. A file that is given, or lies in `<root>/downloads/<name>`, or in the root itself
    if it is an archive, is checked and used; it is never fetched again. Archives are kept.

    Args:
        name: Of the dataset, as in `official_sources.OFFICIAL_SOURCES`.
        root: Data root; made if missing.
        given: Official files under their official names, or folders that hold some.
        tell: Takes lines about what happens.
        patience: Time limits and retries of downloads.

    Returns:
        What to do next, as lines.

    Raises:
        FetchError: If some files cannot be had; those that came are kept.
        InputError: If a file is not the official one, an archive is refused, or the disk does not suffice.
    """
    source = get_source(name)
    paths_given = _match_given(given, source, name)
    with _sole_fetcher(root):
        missing = [file for file in source.files if not _is_in_place(file, root)]
        if not missing:
            tell(f"{name}: everything is in place below {root}; nothing is fetched")
            return _next_steps(name, root)
        tell(f"{name}: {source.homepage}; terms: {source.terms}")
        present = {file: path for file in missing if (path := _find(file, name, root, paths_given)) is not None}
        for file, path in present.items():
            _require_official(path, file, tell)
        _require_space(name, root, missing, present)
        present.update(_download_all(name, root, [file for file in missing if file not in present], tell, patience))
        for file in missing:
            _put_in_place(present[file], file, root, tell)
    return _next_steps(name, root)


def _match_given(given: Sequence[Path], source: OfficialSource, name: str) -> dict[str, Path]:
    names = [file.name for file in source.files]
    found: dict[str, Path] = {}
    for path in given:
        if path.is_dir():
            matches = {official: path / official for official in names if (path / official).is_file()}
        else:
            matches = {path.name: path} if path.is_file() and path.name in names else {}
        if not matches:
            raise InputError(f"--file {path}: expected an official file, or a folder with some: {', '.join(names)}")
        found.update(matches)
    return found


@contextmanager
def _sole_fetcher(root: Path) -> Iterator[None]:
    """Keep two processes from unpacking to one root."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(f"--root {root}: cannot be used as a folder: {error.strerror}; choose another") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"--root {root}: another process fetches to it; wait until it is done") from None
    finally:
        os.close(lock)


def _is_in_place(file: OfficialFile, root: Path) -> bool:
    target = root / file.lands_at
    if file.is_archive:
        if any((root / proof).exists() for proof in file.proofs):
            return True
        if target.exists():
            raise InputError(
                f"{target} exists, but holds no {PurePosixPath(file.proofs[0]).relative_to(file.lands_at)}; move it "
                f"away, or put what {file.name} holds there"
            )
        return False
    if not target.exists():
        return False
    if (flaw := find_flaw(target, file)) is not None:
        raise InputError(f"{target}: is not the official list: {flaw}; move it away and run the command again")
    return True


def _downloads(name: str, root: Path) -> Path:
    return root / "downloads" / name


def _find(file: OfficialFile, name: str, root: Path, given: Mapping[str, Path]) -> Path | None:
    places = [_downloads(name, root) / file.name, *([root / file.name] if file.is_archive else [])]
    if file.name in given:
        places.insert(0, given[file.name])
    return next((path for path in places if path.is_file()), None)


def _require_official(path: Path, file: OfficialFile, tell: Tell) -> None:
    tell(f"{path}: is here; checking it")
    if (flaw := find_flaw(path, file)) is not None:
        raise InputError(f"{path}: is not the official file: {flaw}; delete or replace it and run the command again")


def _require_space(
    name: str, root: Path, missing: Sequence[OfficialFile], present: Mapping[OfficialFile, Path]
) -> None:
    needed = 0
    for file in missing:
        if file in present:
            num_bytes = present[file].stat().st_size
        else:
            num_bytes = file.expected_bytes
            part = _downloads(name, root) / f"{file.name}.part"
            needed += max(num_bytes - (part.stat().st_size if part.is_file() else 0), 0)
        needed += round(num_bytes * UNPACKED_RATIO)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise InputError(
            f"--root {root}: {name} needs about {readable_bytes(needed)} for its files and what they unpack to, but "
            f"{readable_bytes(free)} are free; make space or choose another disk"
        )


def _download_all(
    name: str, root: Path, files: Sequence[OfficialFile], tell: Tell, patience: Patience | None
) -> dict[OfficialFile, Path]:
    """Download what is missing; one that fails does not keep the others from coming."""
    paths: dict[OfficialFile, Path] = {}
    items: list[str] = []
    for file in files:
        path = _downloads(name, root) / file.name
        note = f"; note: {file.known_state}" if file.known_state else ""
        tell(f"{file.name}: fetching from {file.urls[0]}{note}")
        try:
            with progress_bar(file.name) as progress:
                download(file, path, patience=patience, progress=progress)
            paths[file] = path
        except DownloadError as error:
            items += _advice(file, path, root, error)
    if items:
        raise FetchError(
            f"{name}: {len(files) - len(paths)} of its official files cannot be had; get them elsewhere, put them "
            "where this list says, and run the command again",
            items,
        )
    for file in files:
        if file.checksum is None:
            tell(f"{file.name}: no checksum is known; only its size was checked")
    return paths


def _advice(file: OfficialFile, path: Path, root: Path, error: DownloadError) -> list[str]:
    lines = [f"  {file.name}" + (f": {file.known_state}" if file.known_state else "")]
    lines += [f"    tried {attempt.url}: {attempt.answer}" for attempt in error.attempts]
    lines.append(f"    put it at {path.absolute()}; checked by {file.how_checked}")
    if file.is_archive:
        lines.append(f"    or put what it holds at {(root / file.lands_at).absolute()}; checked by dctkd data check")
    return lines


def _put_in_place(path: Path, file: OfficialFile, root: Path, tell: Tell) -> None:
    target = root / file.lands_at
    if file.is_archive:
        tell(f"{path}: unpacking to {target}")
        unpack(path, target, max_unpacked_bytes=file.max_unpacked_bytes)
        if not (root / file.proofs[0]).exists():
            raise InputError(f"{path}: unpacked to {target}, but {file.proofs[0]} is not there; look at its layout")
        return
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, part)
        part.rename(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror}") from error


def _next_steps(name: str, root: Path) -> list[str]:
    source = get_source(name)
    data_root = root / source.data_root
    return [
        f"next: dctkd data check {name} --root {root / source.folder}",
        f"then: snakemake --cores all --configfile config/{name}.yaml --config data_root={data_root}",
    ]


@contextmanager
def progress_bar(title: str) -> Iterator[Progress | None]:
    """Show a bar of bytes, speed and time left on stderr while a file comes; nothing if that is no terminal.

    Args:
        title: Of the bar.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    texts = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn())
    speed = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*texts, *speed, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
