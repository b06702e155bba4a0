"""Random states that have an owner: a learner's draws never depend on what is trained beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dctkd.provenance import canonical_json


class RandomState:
    """A torch random state of its own, swapped in around everything its owner does."""

    def __init__(self, *purpose: str | int) -> None:
        """Derive the state from a purpose, such as a seed and a name."""
        hashed = hashlib.sha256(canonical_json(list(purpose)).encode()).digest()
        self._seed = int.from_bytes(hashed[:8], "little") >> 1
        self._states: dict[str, torch.Tensor] = {"cpu": torch.Generator().manual_seed(self._seed).get_state()}

    @contextmanager
    def active(self, device: torch.device | None = None) -> Iterator[None]:
        """Make this the global random state; restore the former one on leaving.

        Args:
            device: A CUDA device whose generator is swapped as well, if the owner computes there.
        """
        outer_cpu = torch.get_rng_state()
        torch.set_rng_state(self._states["cpu"])
        outer_cuda = self._enter_cuda(device)
        try:
            yield
        finally:
            self._states["cpu"] = torch.get_rng_state()
            torch.set_rng_state(outer_cpu)
            if outer_cuda is not None and device is not None:
                self._states["cuda"] = torch.cuda.get_rng_state(device)
                torch.cuda.set_rng_state(outer_cuda, device)

    def _enter_cuda(self, device: torch.device | None) -> torch.Tensor | None:
        if device is None or device.type != "cuda":
            return None
        outer = torch.cuda.get_rng_state(device)
        if "cuda" in self._states:
            torch.cuda.set_rng_state(self._states["cuda"], device)
        else:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(self._seed)
        return outer

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint needs."""
        return dict(self._states)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._states = dict(state)
