"""Checkpoints that are whole or absent, and of the run that asks for them.

A file is a line with the format, a line with the SHA-256 of what follows, and what torch.save writes. So a byte that
changed on the disk is found before anything is loaded.
"""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dctkd.provenance import sha256_of_bytes, write_atomic

logger = logging.getLogger(__name__)

NEWEST, PREVIOUS = "checkpoint.bin", "checkpoint.previous.bin"
FORMAT = b"dctkd checkpoint 1\n"


class DamagedCheckpointError(Exception):
    """A checkpoint file is not what was written."""


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a run's checkpoint; the one before is kept until the next.

    Args:
        folder: The run's folder in the store.
        state: Tensors, numbers, text and containers of these, with the run's `digest`.

    Raises:
        OSError: If it cannot be written; the one before is still there.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    newest = folder / NEWEST
    if newest.exists():
        newest.replace(folder / PREVIOUS)
    write_atomic(newest, b"".join([FORMAT, sha256_of_bytes(content).encode(), b"\n", content]))


def checkpoints(folder: Path, *, digest: str) -> Iterator[dict[str, Any]]:
    """Yield the whole checkpoints of a run, newest first; the caller takes the first that it can use.

    A damaged one is passed over with a warning; one of another digest is never taken.
    """
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except DamagedCheckpointError as error:
            logger.warning("%s is damaged (%s); falling back to what was saved before it", path, error)
            continue
        if state.get("digest") == digest:
            yield state
        else:
            logger.warning("%s belongs to another run; it is ignored", path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(str(error)) from error
    kind, rest = content[: len(FORMAT)], content[len(FORMAT) :]
    if kind != FORMAT:
        raise DamagedCheckpointError("it does not begin as a checkpoint does")
    digest, _, payload = rest.partition(b"\n")
    if sha256_of_bytes(payload).encode() != digest:
        raise DamagedCheckpointError("its content does not fit its checksum")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise DamagedCheckpointError(str(error).splitlines()[0]) from error
    if not isinstance(state, dict):
        raise DamagedCheckpointError("it holds no state")
    return state


def delete_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints."""
    for name in (NEWEST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
