"""Checkpoints that are whole or absent, and of the run that asks for them."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dctkd.provenance import write_atomic

logger = logging.getLogger(__name__)

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a run's checkpoint; the one before is kept until the next.

    Args:
        folder: The run's folder in the store.
        state: Tensors, numbers, text and containers of these, with the run's `digest`.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    newest = folder / NEWEST
    if newest.exists():
        newest.replace(folder / PREVIOUS)
    write_atomic(newest, buffer.getvalue())


def load_checkpoint(folder: Path, *, digest: str) -> dict[str, Any] | None:
    """Return the newest whole checkpoint of a run, or None to start anew.

    A damaged newest one falls back to the one before, with a warning; a checkpoint of another digest is never taken.
    """
    for name in (NEWEST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            logger.warning("%s is damaged (%s); falling back to an earlier one", path, error)
            continue
        if isinstance(state, dict) and state.get("digest") == digest:
            return state
        logger.warning("%s belongs to another run; it is ignored", path)
    return None


def delete_checkpoints(folder: Path) -> None:
    """Remove a finished run's checkpoints."""
    for name in (NEWEST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
