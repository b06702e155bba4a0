"""Measures of trained networks: accuracy, cost, overlap of activation maps. This module itself imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

OVERLAP_VERSION = 1
"""Raised in the commit that adds or changes a measure of where networks look: runs are measured anew, not trained."""
OVERLAP_FOLDER = f"eval/overlap-{OVERLAP_VERSION}"
"""Folder of these measures within a run's: each version has one of its own."""


@dataclass(frozen=True)
class Result:
    """One measured number. A measure that is not defined has no result: there are no NaN and no nulls.

    Attributes:
        metric: What is measured; ends in its unit unless it is a pure number, as in "top1_percent", "overlap_ssim".
        stage: Where or when: "last" (epoch), "best_on_test", "best_held_out" (chosen by the images that are held out),
            or for maps "stage1", "stage2", ... and "mean".
        split: "test", "train" or "held_out".
        value: The number, finite. JSON keeps it exactly.
        unit: "percent", "nats", "epochs", or "1" for a pure number.
    """

    metric: str
    stage: str
    split: str
    value: float
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        if not math.isfinite(self.value):
            raise ValueError(f"result {self.metric} ({self.stage}, {self.split}) must be finite, got {self.value}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; `from_dict` of it is equal, also after a round trip through JSON.

        Example:
            >>> Result("top1_percent", "last", "test", 71.3, "percent").to_dict()["value"]
            71.3
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return the result that a record of metrics.json holds.

        Raises:
            ValueError: If fields are missing or unknown, or the value is not finite.
        """
        names = [field.name for field in fields(cls)]
        if set(record) != set(names):
            raise ValueError(f"a result has the fields {names}, got {sorted(record)}")
        return cls(**record)
