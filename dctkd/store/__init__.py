"""The results store: a folder per run, known by its digest; locks, states, publishing. Imports no torch.

`results/store/<digest>/` holds what a run leaves behind. A run is finished once its metrics.json is whole and its other
files are those that were sealed (seal.py); everything else in the folder is written before metrics.json. Snakemake
decides what is wanted; the store decides what is already done.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dctkd.errors import InputError, shown
from dctkd.late_files import latency_of, patiently, settled
from dctkd.locks import Held, is_held, read_owner, try_lock
from dctkd.plan import Run
from dctkd.provenance import sha256_of, sync_folder, write_atomic
from dctkd.store.files import KEPT_BY_NFS, link_for_people, remove_file, remove_tree
from dctkd.store.seal import (
    METRICS,
    SEAL,
    flaws_of_measurements,
    flaws_of_run,
    json_text,
    remedy,
    run_files,
    whole_object,
    write_seal,
)

logger = logging.getLogger(__name__)

SCHEMA = 1
STATUSES = ("ok", "diverged", "oom")


@dataclass(frozen=True)
class RunFolder:
    """One run's folder in the store.

    Attributes:
        path: The folder.
        latency_s: For how long its files may be seen late (`late_files`). `require_whole` and `has_file` wait for that,
            all else tells what is seen now.
    """

    path: Path
    latency_s: float = 0.0

    @property
    def digest(self) -> str:
        """Hex digest that names the folder."""
        return self.path.name

    def metrics(self) -> dict[str, Any] | None:
        """Return the finished run's metrics, or None while there are none that are whole.

        A file that was torn, edited or copied from another run does not count: its checksum or digest does not fit.
        The other files are not looked at; `is_finished` does.
        """
        try:
            content = whole_object((self.path / METRICS).read_bytes())
        except OSError:
            return None
        if content is None or content.get("digest") != self.digest or content.get("schema") != SCHEMA:
            return None
        checksum = content.pop("checksum", None)
        return content if checksum == sha256_of(content) and content.get("status") in STATUSES else None

    def damage(self) -> list[str]:
        """Say what of a finished run is not as it was written; empty if all is, or if the run is not finished.

        Hashes every file, which takes a second or two per gigabyte.
        """
        if not os.path.lexists(self.path / METRICS):
            return []
        metrics = self.metrics()
        if metrics is None or (self.path / METRICS).is_symlink():
            return [f"{METRICS} is not whole"]
        return flaws_of_run(self.path, metrics)

    def is_finished(self) -> bool:
        """Tell whether the run's metrics are there and nothing of it is damaged, at first sight."""
        return self.metrics() is not None and not self.damage()

    def is_begun(self) -> bool:
        """Tell whether the folder holds anything but a lock."""
        return self.path.is_dir() and any(
            not path.name.startswith(("lock", KEPT_BY_NFS)) for path in self.path.iterdir()
        )

    def make(self) -> bool:
        """Make the folder; tell whether it was not there, which a server answers truly where a listing may be old."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.path.mkdir()
        except FileExistsError:
            return False
        return True

    def has_file(self, name: str) -> bool:
        """Tell whether a file of the run is there, after it had its time to be seen."""
        return settled((self.path / name).is_file, bool, self.path, self.latency_s)

    def require_whole(self) -> None:
        """Refuse a run that is not finished or is damaged.

        Raises:
            InputError: If the run cannot be used; the message says what to do.
        """
        patiently(self._require_whole, self.path, self.latency_s)

    def _require_whole(self) -> None:
        if self.metrics() is None and not os.path.lexists(self.path / METRICS):
            raise InputError(f"{self.path}: the run is not finished; {remedy(self.digest)}")
        if flaws := self.damage():
            raise InputError(f"{self.path}: the run is damaged ({'; '.join(flaws)}); {remedy(self.digest)}")

    def discard_damage(self) -> None:
        """Empty the folder of a finished run that is damaged, so that it is trained again from its start.

        The caller holds the lock, whose file stays, and has given late files the time to be seen. Measurements go too:
        they are about the weights that go.
        """
        if flaws := self.damage():
            logger.warning("%s is damaged (%s); the run is trained again", self.path, "; ".join(flaws))
            self.remove_files()

    def remove_files(self) -> None:
        """Remove all but the lock, metrics.json first: what remains of a torn removal is an unfinished run."""
        for path in sorted(self.path.iterdir(), key=lambda path: (path.name != METRICS, path.name)):
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            elif not path.name.startswith("lock"):
                remove_file(path)

    def seal(self) -> None:
        """Write files.json over everything that the run has left so far; only metrics.json comes later."""
        write_seal(self.path, run_files(self.path), digest=self.digest)

    def seal_measurements(self, folder: Path) -> None:
        """Write files.json over a folder of measurements of this run's weights, once all its files are there."""
        names = sorted(path.name for path in folder.iterdir() if path.name != SEAL and not path.name.startswith("."))
        write_seal(folder, names, digest=self.digest, weights_sha256=(self.metrics() or {}).get("weights_sha256"))

    def damage_of_measurements(self, folder: Path) -> list[str]:
        """Say what of a folder of measurements is not as it was written; empty if all is, or if it has no summary."""
        if not any(os.path.lexists(folder / name) for name in ("summary.json", SEAL)):
            return []
        if not (folder / "summary.json").is_file():
            return ["summary.json is gone"]
        return flaws_of_measurements(self.path, folder, (self.metrics() or {}).get("weights_sha256"))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json with its checksum: from here on the run is finished, also after a power cut."""
        content = {"schema": SCHEMA, **metrics, "digest": self.digest}
        sync_folder(self.path)  # what metrics.json is about must not be lost when it is not
        write_json(self.path / "metrics.json", {**content, "checksum": sha256_of(content)})
        sync_folder(self.path)

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

    def claim(self) -> Held | None:
        """Return the run's exclusive lock, or None if another process holds it."""
        return try_lock(self.path / "lock")

    def is_locked(self) -> bool:
        """Tell whether a living process trains this run now."""
        return is_held(self.path / "lock")

    def owner(self) -> str:
        """Say who holds or held the lock."""
        return str(read_owner(self.path / "lock") or "another process")


@dataclass(frozen=True)
class Store:
    """All runs below `results/store`.

    Attributes:
        results: The results folder.
        latency_s: For how long files may be seen late there; None: as its file system says.
    """

    results: Path
    latency_s: float | None = None

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self.results / "store"

    def folder(self, digest: str) -> RunFolder:
        """Return the folder of a run; it need not exist."""
        return RunFolder(self.path / digest, self._latency_s)

    @cached_property
    def _latency_s(self) -> float:
        return latency_of(self.results) if self.latency_s is None else self.latency_s

    def folders(self) -> Iterator[RunFolder]:
        """Yield every run's folder, finished or not, in order of digest."""
        for path in sorted(self.path.iterdir()) if self.path.is_dir() else ():
            if path.is_dir() and not path.name.startswith("."):  # an import leaves such a folder when it is killed
                yield RunFolder(path, self._latency_s)

    def publish(self, run: Run, folder: RunFolder) -> None:
        """Copy a finished run's metrics to its edge in the experiment, under the experiment's names.

        Raises:
            InputError: If the run is not finished.
        """
        metrics = settled(folder.metrics, lambda metrics: metrics is not None, folder.path, folder.latency_s)
        if metrics is None:
            raise InputError(f"{folder.path}: run {run.path} has no whole metrics.json; train it again")
        edge = self.results / run.path
        write_json(edge, {**metrics, "run": run.names()})
        link_for_people(edge.parent / "store", Path(os.path.relpath(folder.path, edge.parent)))


def digest_of(spec: str, **known_in_the_job: str | int | None) -> str:
    """Return the digest of a run: its spec and what only the job knows (fingerprint, teacher, precision, weights).

    32 hex digits: short enough for a path, long enough never to collide.
    """
    return sha256_of({"spec": spec, **known_in_the_job})[:32]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole or not at all."""
    write_atomic(path, json_text(content))


def read_edge(path: Path, latency_s: float | None = None) -> dict[str, Any]:
    """Read a published edge (data.json, teacher.json, metrics.json).

    Args:
        path: The edge.
        latency_s: For how long it may be seen late; None: as its file system says.

    Raises:
        InputError: If it is missing or is not whole.
    """
    latency_s = latency_of(path) if latency_s is None else latency_s
    return patiently(lambda: _read_edge(path), path.parent, latency_s)


def _read_edge(path: Path) -> dict[str, Any]:
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
