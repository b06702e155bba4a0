"""Seals: what the files of a finished run were when they were written, so that damage is seen. Imports no torch.

`files.json` in a run's folder, and in each folder of measurements below its `eval`, lists every file with its SHA-256
and its size, and has a checksum of its own. metrics.json has one too; it is the last file that a run writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dctkd.errors import InputError
from dctkd.late_files import latency_of, patiently, refresh
from dctkd.provenance import sha256_of, sha256_of_bytes, sha256_of_file, write_atomic

SEAL, METRICS, CONFIG = "files.json", "metrics.json", "config.yaml"
WEIGHTS, PREDICTIONS = "weights.safetensors", "predictions.parquet"
RUN_FILES = (CONFIG, "environment.json", "history.jsonl", "timing.json", "log.txt", PREDICTIONS)
"""What is sealed of a run, as far as it exists; the weights (`weights*.safetensors`) come on top."""
SEAL_SCHEMA = 1
SINCE_SEALS = "pretrained_sha256:"
"""A line of config.yaml that starts so tells that the run was made by a version that seals."""


class BrokenSealError(Exception):
    """A files.json that is not whole, or is another folder's."""


@dataclass(frozen=True)
class Seal:
    """What the files of one folder were when it was finished.

    Attributes:
        folder: The folder.
        digest: Digest of the run that it belongs to.
        files: Name to `sha256` (hex) and `bytes` (size).
        weights_sha256: Of measurements: hash of the weights that were measured.
    """

    folder: Path
    digest: str
    files: Mapping[str, Mapping[str, Any]]
    weights_sha256: str | None = None

    def flaw(self, name: str) -> str | None:
        """Say what is wrong with a file of the folder, or None; reads it whole unless its size tells."""
        path = self.folder / name
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                return f"{name} is not a plain file"
            if found.st_size != self.files[name]["bytes"]:
                return f"{name} has {found.st_size} bytes instead of {self.files[name]['bytes']}"
            is_same = sha256_of_file(path) == self.files[name]["sha256"]
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        return None if is_same else f"{name} has other bytes than when it was written"

    def flaws(self) -> list[str]:
        """Say what is wrong with all sealed files."""
        return [flaw for name in self.files if (flaw := self.flaw(name)) is not None]


def json_text(content: Mapping[str, Any]) -> str:
    """Return the one readable text of a JSON object: a file that differs from it was not written by this project."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def run_files(folder: Path) -> list[str]:
    """Return the names of a run's files that a seal covers, as far as they exist."""
    weights = sorted(path.name for path in folder.glob("weights*.safetensors"))
    return [name for name in (*RUN_FILES, *weights) if os.path.lexists(folder / name)]


def write_seal(folder: Path, names: Iterable[str], *, digest: str, weights_sha256: str | None = None) -> None:
    """Write files.json.

    Args:
        folder: A run's folder, or one of measurements.
        names: The files in it.
        digest: The run that it belongs to.
        weights_sha256: Of measurements: hash of the weights that were measured.

    Raises:
        OSError: If a file cannot be read or the disk refuses.
    """
    files = {name: _durable_entry(folder / name) for name in names}
    content = {"schema": SEAL_SCHEMA, "digest": digest, "files": files, "weights_sha256": weights_sha256}
    write_atomic(folder / SEAL, json_text({**content, "checksum": sha256_of(content)}))


def _durable_entry(path: Path) -> dict[str, Any]:
    """Return a file's entry in the seal, once its bytes are on the disk: a log is written without waiting for that."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": sha256, "bytes": file.tell()}


def read_seal(folder: Path, digest: str) -> Seal | None:
    """Return the seal of a folder, None if it has none.

    Raises:
        BrokenSealError: If files.json is not whole, or belongs to another run.
    """
    try:
        raw = (folder / SEAL).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BrokenSealError(f"{SEAL} cannot be read ({error.strerror})") from error
    content = whole_object(raw)
    if content is None or content.pop("checksum", None) != sha256_of(content):
        raise BrokenSealError(f"{SEAL} is not whole")
    if content.get("schema") != SEAL_SCHEMA or content.get("digest") != digest:
        raise BrokenSealError(f"{SEAL} belongs to another run, or another version")
    files = content.get("files")
    if not isinstance(files, dict) or not all(_is_entry(name, entry) for name, entry in files.items()):
        raise BrokenSealError(f"{SEAL} lists something that is no file of its folder")
    return Seal(folder, digest, files, content.get("weights_sha256"))


def _is_entry(name: str, entry: Any) -> bool:
    """Tell whether an entry can be one of ours; a seal may come out of a stranger's archive."""
    is_plain = name == Path(name).name and name not in ("", ".", "..", SEAL, METRICS)
    return (
        is_plain and isinstance(entry, dict) and {"sha256": str, "bytes": int} == {k: type(v) for k, v in entry.items()}
    )


def whole_object(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object that bytes hold, None if they are not exactly what `json_text` writes."""
    try:
        content = json.loads(raw)
        is_whole = isinstance(content, dict) and json_text(content).encode() == raw
    except (ValueError, RecursionError):
        return None
    return content if is_whole else None


def flaws_of_run(folder: Path, metrics: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the files of a finished run.

    Args:
        folder: The run's folder.
        metrics: Content of its metrics.json, which is whole.

    Returns:
        One text per damaged file; empty if all is as it was written. A run that was made before there were seals is
        compared with the hashes in its metrics.
    """
    try:
        seal = read_seal(folder, folder.name)
    except BrokenSealError as error:
        return [str(error)]
    known = {PREDICTIONS: metrics.get("predictions_sha256"), WEIGHTS: metrics.get("weights_sha256")}
    if seal is None:
        return _flaws_without_seal(folder, known)
    others = [name for name, sha256 in known.items() if name in seal.files and seal.files[name]["sha256"] != sha256]
    return seal.flaws() + [f"{name} is not the one that {METRICS} is about" for name in others]


def _flaws_without_seal(folder: Path, known: Mapping[str, str | None]) -> list[str]:
    try:
        config = (folder / CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [f"{CONFIG} is gone"]
    if any(line.startswith(SINCE_SEALS) for line in config.splitlines()):
        return [f"{SEAL} is gone"]
    flaws = [
        f"{name} is not whole"
        for name in ("environment.json", "timing.json")
        if (folder / name).is_file() and whole_object((folder / name).read_bytes()) is None
    ]
    for name, sha256 in known.items():
        path = folder / name
        if path.is_file() and sha256_of_file(path) != sha256:
            flaws.append(f"{name} is not the one that {METRICS} is about")
        elif name == PREDICTIONS and sha256 is not None and not path.is_file():
            flaws.append(f"{name} is gone")
    return flaws


def flaws_of_measurements(run: Path, folder: Path, weights_sha256: str | None) -> list[str]:
    """Say what is wrong with a folder of measurements, whose summary.json is there.

    Args:
        run: The run's folder.
        folder: The folder below its `eval`.
        weights_sha256: Hash of the run's weights, from its metrics.

    Returns:
        One text per damaged file; measurements of other weights are damaged too.
    """
    try:
        seal = read_seal(folder, run.name)
    except BrokenSealError as error:
        return [str(error)]
    if seal is None:  # what was measured before there were seals belongs to a run of that time
        return [f"{SEAL} is gone"] if (run / SEAL).exists() else []
    others = [] if seal.weights_sha256 == weights_sha256 else ["it was measured on other weights"]
    return seal.flaws() + others


def read_sealed(run: Path, name: str) -> bytes | None:
    """Return the bytes of a run's file if they are those that were sealed.

    Args:
        run: The run's folder.
        name: The file's path in it, such as `predictions.parquet` or `eval/overlap-1/summary.json`.

    Returns:
        The bytes; None if there is no such file and none was sealed.

    Raises:
        InputError: If the file is damaged or gone, or its seal is.
    """
    try:
        content = _read_sealed(run, name)
    except InputError:
        if not (latency_s := latency_of(run)):
            raise
        return patiently(lambda: _read_sealed(run, name), (run / name).parent, latency_s)
    if content is None and latency_of(run):
        refresh((run / name).parent)
        content = _read_sealed(run, name)
    return content


def _read_sealed(run: Path, name: str) -> bytes | None:
    path = run / name
    try:
        seal = read_seal(path.parent, run.name)
    except BrokenSealError as error:
        raise InputError(f"{path}: cannot be checked: {error}; {remedy(run.name)}") from error
    try:
        content = path.read_bytes()
    except OSError as error:
        if seal is None or path.name not in seal.files:
            return None
        raise InputError(f"{path}: is gone or cannot be read ({error.strerror}); {remedy(run.name)}") from error
    if seal is not None and seal.files.get(path.name, {}).get("sha256") != sha256_of_bytes(content):
        raise InputError(f"{path}: not whole (other bytes than when it was written); {remedy(run.name)}")
    return content


def remedy(digest: str) -> str:
    """Return what to do about a damaged run, for messages."""
    return f"run `dctkd store verify --mend {digest}`, then snakemake again"
