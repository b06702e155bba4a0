"""Baseline: the student learns from the labels alone. The row that every method is measured against."""

from __future__ import annotations

from torch import Tensor

from dctkd.methods.base import Batch, Method
from dctkd.models import Outputs


class Baseline(Method):
    """No distillation: no terms, so the loss is the cross-entropy."""

    title = "Baseline"
    paper = "Cross-entropy on the labels; no distillation."
    year = None
    features = "none"
    default_weight = 0.0
    default_weight_source = "There is no term to weight."

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return no terms."""
        return {}
