"""The results store: a folder per run, known by its digest; locks, states, publishing. Imports no torch.

`results/store/<digest>/` holds what a run leaves behind. A run is finished once its metrics.json is whole; everything
else in the folder is written before it. Snakemake decides what is wanted; the store decides what is already done.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dctkd.errors import InputError, shown
from dctkd.plan import Run
from dctkd.provenance import canonical_json, sha256_of, write_atomic

SCHEMA = 1
STATUSES = ("ok", "diverged", "oom")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder in the store."""

    path: Path

    @property
    def digest(self) -> str:
        """Hex digest that names the folder."""
        return self.path.name

    def metrics(self) -> dict[str, Any] | None:
        """Return the finished run's metrics, or None while there are none that are whole.

        A file that was torn, edited or copied from another run does not count: its checksum or digest does not fit.
        """
        try:
            content = json.loads((self.path / "metrics.json").read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("digest") != self.digest or content.get("schema") != SCHEMA:
            return None
        checksum = content.pop("checksum", None)
        return content if checksum == sha256_of(content) and content.get("status") in STATUSES else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json with its checksum: from here on the run is finished."""
        content = {"schema": SCHEMA, **metrics, "digest": self.digest}
        write_json(self.path / "metrics.json", {**content, "checksum": sha256_of(content)})

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Write state.json, which `dctkd status` reads: progress, or why the run failed."""
        write_json(self.path / "state.json", {**state, "updated_s": time.time()})

    def state(self) -> dict[str, Any]:
        """Return the last written state, empty if there is none."""
        try:
            state = json.loads((self.path / "state.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def claim(self) -> Claim | None:
        """Return the run's exclusive lock, or None if another process holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        os.truncate(file, 0)
        os.pwrite(
            file, canonical_json({"host": socket.gethostname(), "pid": os.getpid(), "since_s": time.time()}).encode(), 0
        )
        return Claim(self, file)

    def is_locked(self) -> bool:
        """Tell whether a living process trains this run now."""
        try:
            file = os.open(self.path / "lock", os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def owner(self) -> str:
        """Say who holds or held the lock."""
        try:
            owner = json.loads((self.path / "lock").read_bytes())
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError):
            return "an unknown process"


@dataclass(frozen=True)
class Claim:
    """The exclusive right to train one run; the kernel takes it back when its process dies."""

    folder: RunFolder
    file: int

    def release(self) -> None:
        """Give the right back."""
        os.close(self.file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


@dataclass(frozen=True)
class Store:
    """All runs below `results/store`."""

    results: Path

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self.results / "store"

    def folder(self, digest: str) -> RunFolder:
        """Return the folder of a run; it need not exist."""
        return RunFolder(self.path / digest)

    def folders(self) -> Iterator[RunFolder]:
        """Yield every run's folder, finished or not, in order of digest."""
        for path in sorted(self.path.iterdir()) if self.path.is_dir() else ():
            if path.is_dir():
                yield RunFolder(path)

    def publish(self, run: Run, folder: RunFolder) -> None:
        """Copy a finished run's metrics to its edge in the experiment, under the experiment's names.

        Raises:
            InputError: If the run is not finished.
        """
        metrics = folder.metrics()
        if metrics is None:
            raise InputError(f"{folder.path}: run {run.path} has no whole metrics.json; train it again")
        edge = self.results / run.path
        write_json(edge, {**metrics, "run": run.names()})
        link = edge.parent / "store"
        target = Path(os.path.relpath(folder.path, edge.parent))
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def digest_of(spec: str, **known_in_the_job: str | int | None) -> str:
    """Return the digest of a run: its spec and what only the job knows (fingerprint, teacher, precision, weights).

    32 hex digits: short enough for a path, long enough never to collide.
    """
    return sha256_of({"spec": spec, **known_in_the_job})[:32]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole or not at all."""
    write_atomic(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_edge(path: Path) -> dict[str, Any]:
    """Read a published edge (data.json, teacher.json, metrics.json).

    Raises:
        InputError: If it is missing or is not whole.
    """
    remedy = "delete it and run snakemake again"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run snakemake, which makes it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not whole ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object; {remedy}")
    for key, form in _EDGE_KEYS.get(path.name, {}).items():
        kind = int if form == _COUNT else str
        if type(content.get(key)) is not kind or not re.fullmatch(form, str(content[key])):
            raise InputError(f"{path}: not whole ({key} is {shown(content.get(key))}); {remedy}")
    return content


_COUNT = "[0-9]{1,12}"
_RUN_KEYS = {"status": "|".join(STATUSES), "digest": "[0-9a-f]{8,64}"}
_EDGE_KEYS: Mapping[str, Mapping[str, str]] = {
    "data.json": {
        "fingerprint": r"\w+",
        "cache": r"cache/[\w.+-]+",
        "num_classes": _COUNT,
        "num_train_images": _COUNT,
        "num_test_images": _COUNT,
    },
    "teacher.json": _RUN_KEYS,
    "metrics.json": _RUN_KEYS,
}
"""What jobs rely on in each edge, as regular expressions: paths are made from some of it."""
