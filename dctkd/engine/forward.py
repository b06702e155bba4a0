"""A learner's forward pass, from images to loss, as one module: what several processes replicate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dctkd.engine.objective import Objective
from dctkd.engine.rng import RandomState
from dctkd.methods.base import Batch
from dctkd.models import Outputs, StageModel


@dataclass(frozen=True)
class Surroundings:
    """What a forward pass of a learner runs in.

    Attributes:
        student_rng: Random state of the network.
        method_rng: Random state of the method.
        device: Where it computes.
        autocast: Sets the run's precision.
    """

    student_rng: RandomState
    method_rng: RandomState
    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]


class Forward(nn.Module):
    """Network and objective of a learner."""

    def __init__(self, model: StageModel, objective: Objective, around: Surroundings) -> None:
        super().__init__()
        self.model, self.objective, self.around = model, objective, around

    def forward(self, part: Batch, teacher: Outputs | None, *, ramp: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss, and without gradient the logits, shape (B, K), and the parts of the loss before weighting.

        Args:
            part: Images and targets.
            teacher: The teacher's outputs on them, None where a teacher is trained.
            ramp: Factor of the method's outer weight in [0, 1].
        """
        around = self.around
        with around.student_rng.active(around.device), around.autocast():
            outputs = self.model(part.images_BCHW)
        with around.method_rng.active(around.device), around.autocast():
            terms = self.objective(outputs, teacher, part, ramp=ramp)
        return terms.total, outputs.logits_BK.detach(), terms.named
