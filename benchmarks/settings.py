"""What a call of the benchmarks asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dctkd.engine.device import Precision, resolve_precision


@dataclass(frozen=True)
class Setting:
    """How benchmarks are run.

    Attributes:
        photographs: Folder of real JPEGs; None: they are generated.
        is_quick: Tiny networks and few repeats, to see that everything runs; the numbers mean nothing.
    """

    photographs: Path | None = None
    is_quick: bool = False

    @property
    def precision(self) -> Precision:
        """Precision of our training and of bare loops."""
        return resolve_precision("auto", "cpu")

    def repeats(self, full: int) -> int:
        """Return how often something is timed: `full` times, or twice."""
        return 2 if self.is_quick else full
