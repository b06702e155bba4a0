"""The loss of a run: cross-entropy, the method's terms under its outer weight, and the logit term of `+kd` rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.functional.logits import kl_per_sample
from dctkd.identity import MethodIdentity
from dctkd.methods.base import Batch, Method
from dctkd.models import Outputs
from dctkd.recipe import AdamW, Sgd


@dataclass(frozen=True)
class Terms:
    """Loss of one batch: `total` is what is differentiated; `named` are its parts before weighting, 0-d, detached."""

    total: Tensor
    named: dict[str, Tensor]


class Objective(nn.Module):
    """total = ce * CE + weight * ramp * sum(method's terms) + kd_weight * T^2 KL.

    A teacher's objective is the cross-entropy alone.
    """

    def __init__(self, weights: MethodIdentity | None, method: Method | None, *, label_smoothing: float) -> None:
        """Hold the method, whose parameters are thereby this module's."""
        super().__init__()
        self.method = method
        self.weights = weights
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, *, ramp: float) -> Terms:
        """Return the batch's loss.

        Args:
            student: What is trained.
            teacher: Its teacher's outputs, without gradient; None for a teacher's own training.
            batch: The images, targets and indices.
            ramp: Factor of the method's outer weight in [0, 1].
        """
        logits_BK = student.logits_BK.float()
        ce = F.cross_entropy(logits_BK, batch.target_B, label_smoothing=self.label_smoothing)
        named = {"ce": ce.detach()}
        if self.weights is None or self.method is None or teacher is None:
            return Terms(ce, named)
        weights = self.weights
        total = weights.ce * ce
        where_right = _where_teacher_is_right(batch, teacher)
        of_method = where_right if weights.teacher_correct_only else batch
        for name, term in self.method(student, teacher, of_method).items():
            named[name] = term.detach()
            total = total + (weights.weight * ramp) * term
        if weights.kd_temperature is not None:
            kl_B = kl_per_sample(logits_BK, teacher.logits_BK, temperature=weights.kd_temperature)
            kl = (where_right if weights.kd_teacher_correct_only else batch).mean(kl_B)
            named["+kd"] = kl.detach()
            total = total + weights.kd_weight * kl
        return Terms(total, named)


def _where_teacher_is_right(batch: Batch, teacher: Outputs) -> Batch:
    correct_B = teacher.logits_BK.argmax(dim=1) == batch.target_B
    return replace(batch, sample_weight_B=correct_B.float())


def make_optimiser(
    parameters: list[nn.Parameter], recipe_optimiser: Sgd | AdamW, device: torch.device
) -> torch.optim.Optimizer:
    """Return the recipe's optimiser over all parameters in one group; fused on GPU, foreach on CPU."""
    fast: dict[str, bool] = {"fused": True} if device.type == "cuda" else {"foreach": True}
    if isinstance(recipe_optimiser, Sgd):
        return torch.optim.SGD(
            parameters,
            lr=recipe_optimiser.lr,
            momentum=recipe_optimiser.momentum,
            weight_decay=recipe_optimiser.weight_decay,
            nesterov=recipe_optimiser.nesterov,
            **fast,
        )
    return torch.optim.AdamW(
        parameters,
        lr=recipe_optimiser.lr,
        betas=recipe_optimiser.betas,
        weight_decay=recipe_optimiser.weight_decay,
        **fast,
    )


def num_state_tensors(recipe_optimiser: Sgd | AdamW) -> int:
    """Return how many tensors the recipe's optimiser keeps per trainable parameter: SGD 0, with momentum 1, AdamW 2."""
    if isinstance(recipe_optimiser, AdamW):
        return 2
    return int(recipe_optimiser.momentum > 0)
