"""A network in training, with all that it owns: objective, optimiser, random states, position, history."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dctkd.engine.device import Precision
from dctkd.engine.objective import Objective, Terms, make_optimiser
from dctkd.engine.rng import RandomState
from dctkd.engine.schedule import lr_at, ramp_at
from dctkd.identity import Identity
from dctkd.methods.base import Batch
from dctkd.models import Outputs, StageModel

SYNC_EVERY_STEPS = 50
"""On GPU non-finite values are looked for this often: a look is a host sync."""


class DivergedError(Exception):
    """Loss or gradient norm is not finite; the optimiser has not stepped on it."""


@dataclass(frozen=True)
class LoopShape:
    """How long a run is and where it computes."""

    steps_per_epoch: int
    total_steps: int
    device: torch.device
    precision: Precision

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast context of a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")


class Learner:
    """One run's network, trained batch by batch. Two learners share nothing that changes either's bits."""

    def __init__(
        self, name: str, digest: str, identity: Identity, model: StageModel, objective: Objective, shape: LoopShape
    ) -> None:
        """Set the run to its start.

        Args:
            name: For messages and the progress bar.
            digest: The run's digest, kept in its checkpoints.
            identity: What determines the run.
            model: The network, on the device.
            objective: Its loss with the method inside, on the device.
            shape: Length and place of the run.
        """
        self.name, self.digest, self.identity, self.model, self.objective, self.shape = (
            name,
            digest,
            identity,
            model,
            objective,
            shape,
        )
        method = identity.method.method if identity.method else "teacher"
        self.student_rng = RandomState("student draws", identity.kind, identity.seed)
        self.method_rng = RandomState("method draws", method, identity.seed)
        self.parameters = [p for module in (model, objective) for p in module.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self.parameters, identity.recipe.optimiser, shape.device)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.images_seen = 0
        self.own_steps_s = 0.0
        self.teacher_passes_s = 0.0
        self.failure: BaseException | None = None
        self._sums: dict[str, Tensor] = {}
        self._is_finite = torch.ones((), dtype=torch.bool, device=shape.device)

    @property
    def is_running(self) -> bool:
        """Tell whether there are steps left and nothing has stopped the run."""
        return self.failure is None and self.step < self.shape.total_steps

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.shape.steps_per_epoch

    def train_on(self, batch: Batch, teacher: Outputs | None) -> None:
        """Take one optimiser step.

        Raises:
            DivergedError: Before the step, if the loss or the gradient norm is not finite.
        """
        started = time.perf_counter()
        self._set_lr()
        self.model.train()
        self.objective.train()
        device = self.shape.device
        with self.student_rng.active(device), self.shape.autocast():
            outputs = self.model(batch.images_BCHW)
        ramp = self._ramp()
        with self.method_rng.active(device), self.shape.autocast():
            terms = self.objective(outputs, teacher, batch, ramp=ramp)
        self._require_finite(terms.total, "loss")
        terms.total.backward()
        self._require_finite(self._gradient_norm(), "gradient norm")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._count(outputs, terms, batch)
        self.step += 1
        self.images_seen += len(batch.target_B)
        self.own_steps_s += time.perf_counter() - started

    def _set_lr(self) -> None:
        recipe = self.identity.recipe
        lr = lr_at(
            recipe.schedule,
            step=self.step,
            steps_per_epoch=self.shape.steps_per_epoch,
            epochs=recipe.epochs,
            peak=recipe.optimiser.lr,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def _ramp(self) -> float:
        warmup = self.identity.method.warmup_epochs if self.identity.method else 0.0
        return ramp_at(warmup, step=self.step, steps_per_epoch=self.shape.steps_per_epoch)

    def _gradient_norm(self) -> Tensor:
        limit = self.identity.recipe.clip_grad_norm
        if limit is not None:
            return torch.nn.utils.clip_grad_norm_(self.parameters, limit)
        return torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    def _require_finite(self, value: Tensor, what: str) -> None:
        if self.shape.device.type == "cpu":
            if not math.isfinite(value.item()):
                raise DivergedError(f"{what} is {value.item()} in step {self.step}")
            return
        # On GPU a look at every value would stall the queue: the verdict is kept on the device and read now and then.
        self._is_finite &= torch.isfinite(value.detach())
        is_due = self.step % SYNC_EVERY_STEPS == 0 or (self.step + 1) % self.shape.steps_per_epoch == 0
        if is_due and not self._is_finite.item():
            raise DivergedError(f"{what} was not finite in one of the {SYNC_EVERY_STEPS} steps up to step {self.step}")

    @torch.no_grad()
    def _count(self, outputs: Outputs, terms: Terms, batch: Batch) -> None:
        num_images = len(batch.target_B)
        values = {"images": torch.tensor(float(num_images)), "loss": terms.total.detach() * num_images}
        values |= {f"term {name}": value * num_images for name, value in terms.named.items()}
        values["correct"] = (outputs.logits_BK.argmax(dim=1) == batch.target_B).sum()
        for name, value in values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), dtype=torch.float64, device=value.device)
            self._sums[name] += value

    def end_epoch(self) -> None:
        """Turn the epoch's sums into history, read once."""
        sums = {name: value.item() for name, value in self._sums.items()}
        self._sums = {}
        images = sums.pop("images", 0.0)
        if not images:
            return
        self.record("train", "top1_percent", 100 * sums.pop("correct") / images, "percent")
        for name, value in sums.items():
            self.record(
                "train", name.removeprefix("term "), value / images, "nats" if name in ("loss", "term ce") else "1"
            )
        self.record("train", "lr", self.optimiser.param_groups[0]["lr"], "1")

    def record(self, split: str, name: str, value: float, unit: str) -> None:
        """Add one line of history at the present position."""
        self.history.append(
            {"step": self.step, "epoch": self.epoch, "split": split, "name": name, "value": value, "unit": unit}
        )

    def last(self, split: str, name: str) -> float | None:
        """Return the last recorded value, or None."""
        return next((h["value"] for h in reversed(self.history) if (h["split"], h["name"]) == (split, name)), None)

    def history_text(self) -> str:
        """Return the content of history.jsonl."""
        return "".join(json.dumps(line) + "\n" for line in self.history)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole run at its present step."""
        return {
            "digest": self.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "student_rng": self.student_rng.state_dict(),
            "method_rng": self.method_rng.state_dict(),
            "sums": dict(self._sums),
            "history": list(self.history),
            "best": dict(self.best),
            "images_seen": self.images_seen,
            "own_steps_s": self.own_steps_s,
            "teacher_passes_s": self.teacher_passes_s,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a checkpoint stands; strict in every part."""
        self.model.load_state_dict(state["model"], strict=True)
        self.objective.load_state_dict(state["objective"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        self.student_rng.load_state_dict(state["student_rng"])
        self.method_rng.load_state_dict(state["method_rng"])
        self.step, self.history, self.best = state["step"], list(state["history"]), dict(state["best"])
        self.images_seen, self.own_steps_s = state["images_seen"], state["own_steps_s"]
        self.teacher_passes_s = state["teacher_passes_s"]
        self._sums = {
            name: value.to(self.shape.device if name != "images" else "cpu") for name, value in state["sums"].items()
        }
