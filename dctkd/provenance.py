"""What identifies a run and what it ran on: canonical hashes, whole-file writes, the environment record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import socket
import subprocess
import tempfile
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dctkd import __version__


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN.

    Example:
        >>> canonical_json({"b": 1, "a": (2.0, None)})
        '{"a":[2.0,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def sha256_of(value: Any) -> str:
    """Return the hex SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is whole or absent, also after a power cut: temporary file, fsync, replace.

    Args:
        path: Target; its folder is made if missing.
        content: Bytes, or text that is written as UTF-8.

    Raises:
        OSError: If the disk is full or the folder cannot be written; the target keeps its former content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:  # of a full disk Python does not say which file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        Path(name).unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Bring the names of a folder's files to the disk, where the file system can be asked for that."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of_bytes(content: bytes) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "fvcore", "pandas", "pyarrow", "pydantic", "snakemake")


def environment(device: str, precision: str, threads: int) -> dict[str, Any]:
    """Return where and with what a run is trained, for environment.json.

    `platform` is what bits may depend on; the rest is for the reader.

    Args:
        device: cpu or cuda.
        precision: Resolved precision.
        threads: CPU threads of the job.
    """
    import torch

    from dctkd.engine.device import cpu_model

    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    commit, dirty = git_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "dctkd": __version__,
        "packages": dict(package_versions()),
        "python": platform.python_version(),
        "hostname": socket.gethostname(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "platform": {
            "cpu_model": cpu_model(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "num_cores": os.cpu_count(),
            "gpu": gpu,
            "torch_build": torch.__version__,
            "device": device,
            "precision": precision,
            "threads": threads,
        },
    }


@cache
def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results may depend on."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that holds this package and whether it has changes, None where that is unknown.

    Outside a checkout the commit is what DCTKD_COMMIT says, as in a container image.
    """
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DCTKD_COMMIT") or None, None


def _git(folder: Path, *arguments: str) -> str:
    # Without optional locks: asking for the state must not rewrite the index beside a git command of the user's.
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
