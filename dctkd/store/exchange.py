"""Finished runs from one store to another, as one archive: a lab trains some seeds, another the rest.

An archive is a plain tar file, or one with gzip, that holds a folder per run, named by its digest. The same runs give
the same bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from dctkd.archives import unpack
from dctkd.errors import InputError
from dctkd.late_files import latency_of, patiently, settled
from dctkd.locks import Held, read_owner, try_lock
from dctkd.metrics import OVERLAP_FOLDER
from dctkd.store import RunFolder, Store
from dctkd.store.published import DIGEST, experiments, published_edges
from dctkd.store.seal import METRICS, SEAL, remedy, run_files
from dctkd.store.verify import EVAL, chosen_folders, flaws_of_finished_run, is_plain_folder, read_config, stray_files

SUFFIXES = (".tar", ".tar.gz")
MIN_UNPACKED_BYTES = 1 << 28
"""An archive may unpack to this much, however small it is: logs of many runs compress well."""
STAGING, LOCK = ".importing", ".importing.lock"
"""In the store: what is being imported, and who imports."""


@dataclass
class Imported:
    """What became of the runs of an archive, by digest."""

    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def export_runs(
    results: Path, archive: Path, *, digests: Sequence[str] = (), experiment: str | None = None
) -> tuple[list[str], list[str]]:
    """Write finished runs, their measurements, and the teachers that they need, to an archive: whole or not at all.

    Args:
        results: The results folder.
        archive: File to write; ends in .tar or .tar.gz.
        digests: Starts of the digests of the runs that are wanted.
        experiment: All finished runs of this experiment; neither: all finished runs of the store.

    Returns:
        Digests of what the archive holds, and of the chosen runs that are not finished and are left out.

    Raises:
        InputError: If a run is unknown or damaged, a run that was named is not finished, or there is nothing to write.
    """
    if not archive.name.endswith(SUFFIXES):
        raise InputError(f"{archive}: expected a name that ends in {' or '.join(SUFFIXES)}")
    edges = published_edges(results, experiments(results))
    chosen = chosen_folders(results, digests, experiment, edges)
    latency_s = latency_of(results)
    unfinished = settled(lambda: _unfinished(chosen), lambda digests: not digests, results, latency_s)
    finished = [folder for folder in chosen if folder.digest not in unfinished]
    if digests and experiment is None and unfinished:
        raise InputError(f"run {unfinished[0]}: is not finished, so it cannot be exported; train it first")
    if not finished:
        raise InputError(f"{results}: no finished run to export; `dctkd store list` shows what there is")
    together = {folder.digest: folder for folder in (*finished, *_teachers(finished, Store(results)))}
    for folder in together.values():
        patiently(partial(_refuse_flaws, folder), folder.path, latency_s)
    members = {digest: _members(folder) for digest, folder in sorted(together.items())}
    _write_archive(archive, {f"{digest}/{name}": path for digest, own in members.items() for name, path in own.items()})
    return sorted(together), unfinished


def _unfinished(folders: Sequence[RunFolder]) -> list[str]:
    return [folder.digest for folder in folders if folder.metrics() is None and not folder.damage()]


def _teachers(folders: Sequence[RunFolder], store: Store) -> Iterator[RunFolder]:
    digests = {(read_config(folder) or {}).get("teacher_digest") for folder in folders}
    for digest in sorted(digest for digest in digests if digest):
        if not store.folder(digest).has_file(METRICS) or store.folder(digest).metrics() is None:
            raise InputError(f"run {digest}: the teacher of a run that is exported is not there; {remedy(digest)}")
        yield store.folder(digest)


def _refuse_flaws(folder: RunFolder) -> None:
    flaws = flaws_of_finished_run(folder)
    if (folder.path / OVERLAP_FOLDER).is_dir():
        flaws = flaws + folder.damage_of_measurements(folder.path / OVERLAP_FOLDER)
    if flaws:
        raise InputError(f"{folder.path}: damaged ({'; '.join(flaws)}); {remedy(folder.digest)}")


def _members(folder: RunFolder) -> dict[str, Path]:
    """Return the files that belong to a run, by their names in its folder."""
    measured = folder.path / OVERLAP_FOLDER
    is_measured = (measured / "summary.json").is_file()
    own = [name for name in (*run_files(folder.path), SEAL, METRICS) if (folder.path / name).is_file()]
    files = {name: folder.path / name for name in own}
    if is_measured:
        files |= {f"{OVERLAP_FOLDER}/{path.name}": path for path in measured.iterdir() if not path.name.startswith(".")}
    return dict(sorted(files.items()))


def _write_archive(archive: Path, members: Mapping[str, Path]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=archive.parent, prefix=f".{archive.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            _write_members(file, members, is_gzip=archive.name.endswith(".gz"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(archive)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_members(file: IO[bytes], members: Mapping[str, Path], *, is_gzip: bool) -> None:
    with ExitStack() as stack:
        target = file
        if is_gzip:  # no name and no time: the same runs give the same bytes
            plain = stack.enter_context(gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0))
            target = cast(IO[bytes], plain)
        tar = stack.enter_context(tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT))
        for member, path in members.items():
            content = path.read_bytes()
            tar.addfile(_header(member, len(content)), io.BytesIO(content))


def _header(name: str, num_bytes: int) -> tarfile.TarInfo:
    """Return a member's header with neither owner nor time."""
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = num_bytes, 0o644, 0
    return header


def import_runs(results: Path, archive: Path) -> Imported:
    """Take the runs of an archive into the store; each appears whole or not at all, teachers first.

    A run that is here already is kept as it is. If the archive has another result for it, the archive's is refused, and
    so are the runs of students whose teacher was refused: they learned from other weights than those that are here.

    Args:
        results: The results folder.
        archive: What `export_runs` wrote, here or elsewhere; it is not trusted.

    Raises:
        InputError: If the archive is damaged or unsafe, holds something else than whole runs, or is being imported.
    """
    store = Store(results)
    store.path.mkdir(parents=True, exist_ok=True)
    limit = max(20 * archive.stat().st_size if archive.is_file() else 0, MIN_UNPACKED_BYTES)
    staging = store.path / STAGING
    with _sole_importer(store.path / LOCK):
        shutil.rmtree(staging, ignore_errors=True)  # what a killed import left
        unpack(archive, staging, max_unpacked_bytes=limit)
        try:
            return _take_all(store, staging, archive)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _sole_importer(lock: Path) -> Held:
    held = try_lock(lock)
    if held is None:
        raise InputError(f"{lock}: {read_owner(lock) or 'another process'} imports into this store; wait for it")
    return held


def _take_all(store: Store, staging: Path, archive: Path) -> Imported:
    folders = [RunFolder(path) for path in sorted(staging.iterdir())]
    configs = {folder.digest: _checked(folder, archive) for folder in folders}
    done = Imported()
    for folder in sorted(folders, key=lambda folder: configs[folder.digest].get("teacher_digest") is not None):
        teacher = configs[folder.digest].get("teacher_digest")
        if teacher in done.refused:
            done.refused[folder.digest] = "it learned from another teacher than the one that is here"
        elif teacher is not None and teacher not in configs and not _is_finished(store.folder(teacher)):
            done.refused[folder.digest] = f"its teacher {teacher} is neither here nor in the archive"
        else:
            _take(store, folder, done)
    return done


def _checked(folder: RunFolder, archive: Path) -> dict[str, Any]:
    """Return the config of a run that came out of an archive, once everything about it fits."""
    where = f"{archive}: {folder.digest}"
    if not DIGEST.fullmatch(folder.digest) or not is_plain_folder(folder.path):
        raise InputError(f"{where} is no run; nothing is imported. Get the archive again")
    flaws = flaws_of_finished_run(folder) if folder.metrics() is not None else [f"{METRICS} is not whole"]
    flaws += [f"{path.relative_to(folder.path)} {what}" for path, what in stray_files(folder, is_foreign=True)]
    for path in (folder.path / EVAL).iterdir() if is_plain_folder(folder.path / EVAL) else ():
        flaws += folder.damage_of_measurements(path)
        flaws += [] if (path / "summary.json").is_file() else [f"{path.name} has no summary"]
    config = read_config(folder)
    if flaws or config is None:
        raise InputError(f"{where} is damaged ({'; '.join(flaws)}); nothing is imported. Get the archive again")
    return config


def _take(store: Store, folder: RunFolder, done: Imported) -> None:
    ours = store.folder(folder.digest)
    if not os.path.lexists(ours.path):
        with suppress(OSError):  # it is here: another machine made it a moment ago
            folder.path.rename(ours.path)
            done.added.append(folder.digest)
            return
    if _is_finished(ours):
        if _result(ours) == _result(folder):
            done.known.append(folder.digest)
        else:
            done.refused[folder.digest] = "it is here with other results"
        return
    claim = None if ours.path.is_symlink() else ours.claim()
    if claim is None:
        done.refused[folder.digest] = f"it is being trained here by {ours.owner()}, or is a link to elsewhere"
        return
    with claim:  # the archive's run takes the place of one that is damaged or was only begun
        ours.remove_files()
        _move_files(folder.path, ours.path)
    done.added.append(folder.digest)


def _is_finished(folder: RunFolder) -> bool:
    """Tell whether a run of ours is finished, once late files had their time to be seen."""
    return settled(folder.is_finished, bool, folder.path, folder.latency_s)


def _move_files(source: Path, target: Path) -> None:
    """Move all files of a run, metrics.json last: until it is there the run counts as not finished."""
    for path in sorted(source.iterdir(), key=lambda path: path.name == METRICS):
        path.rename(target / path.name)


def _result(folder: RunFolder) -> dict[str, Any]:
    """Return what a run's metrics say, but for the names that the experiment gave it that trained it first."""
    return {key: value for key, value in (folder.metrics() or {}).items() if key != "run"}
