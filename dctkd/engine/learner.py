"""A network in training, with all that it owns: objective, optimiser, random states, position, history."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dctkd.engine.device import Precision
from dctkd.engine.failure import DivergedError, Failure
from dctkd.engine.forward import Forward, Surroundings
from dctkd.engine.objective import Objective, make_optimiser
from dctkd.engine.ranks import ALONE, Ranks
from dctkd.engine.rng import RandomState
from dctkd.engine.schedule import lr_at, ramp_at
from dctkd.identity import Identity
from dctkd.methods.base import Batch
from dctkd.models import Outputs, StageModel

GPU_LOOK_EVERY_STEPS = 50
"""On GPU the host learns this often whether all values were finite: a look is a host sync."""


@dataclass(frozen=True)
class LoopShape:
    """How long a run is and where it computes.

    Attributes:
        steps_per_epoch: Batches of one epoch.
        total_steps: Batches of the whole run.
        device: Where it computes.
        precision: Of the forward passes.
        look_every_steps: Steps between two looks at whether loss and gradient are finite; GPU_LOOK_EVERY_STEPS on GPU.
        ranks: This process among those that share the run.
    """

    steps_per_epoch: int
    total_steps: int
    device: torch.device
    precision: Precision
    look_every_steps: int = 1
    ranks: Ranks = ALONE

    def is_look(self, step: int) -> bool:
        """Tell whether the host looks at what the device computed in a step: now and then, and where an epoch ends."""
        return step % self.look_every_steps == 0 or (step + 1) % self.steps_per_epoch == 0

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
            model: The network, on the device; put into training mode here, once.
            objective: Its loss with the method inside, on the device; likewise.
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
        model.train()
        objective.train()
        method = identity.method.method if identity.method else "teacher"
        self.student_rng = RandomState("student draws", identity.kind, identity.seed, *shape.ranks.names)
        self.method_rng = RandomState("method draws", method, identity.seed, *shape.ranks.names)
        self.parameters = [p for module in (model, objective) for p in module.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self.parameters, identity.recipe.optimiser, shape.device)
        around = Surroundings(self.student_rng, self.method_rng, shape.device, shape.autocast)
        self.forward = shape.ranks.replicate(Forward(model, objective, around))
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.best_held_out: dict[str, Any] = {}
        self.images_seen = 0
        self.own_steps_s = 0.0
        self.teacher_passes_s = 0.0
        self.closed_epochs = 0
        self.failure: Failure | None = None
        self.last_finite: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._loss = self._no_loss()
        self._is_finite = torch.ones((), dtype=torch.bool, device=shape.device)

    @property
    def is_running(self) -> bool:
        """Tell whether there is something left to do and nothing has stopped the run."""
        return self.failure is None and (self.step < self.shape.total_steps or self.has_open_epoch)

    @property
    def has_open_epoch(self) -> bool:
        """Tell whether an epoch's last step is taken but its numbers are not all recorded yet."""
        return self.step % self.shape.steps_per_epoch == 0 and self.epoch > self.closed_epochs

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // self.shape.steps_per_epoch

    def fail(self, error: BaseException) -> None:
        """Stop the run for a reason, and give its memory back to the others."""
        self.failure = Failure.of(error)
        self._sums = {}
        del self.model, self.objective, self.optimiser, self.parameters, self.forward

    def train_on(self, batch: Batch, teacher: Outputs | None) -> None:
        """Take one optimiser step on a whole batch.

        Raises:
            DivergedError: Before the step, if the loss or the gradient norm is not finite.
        """
        self.add_gradient(batch, teacher, share=1.0)
        self.take_step(len(batch.target_B))

    def add_gradient(self, part: Batch, teacher: Outputs | None, *, share: float, is_last: bool = True) -> None:
        """Add the gradient of a part of a batch.

        Args:
            part: Images and targets.
            teacher: The teacher's outputs on them, None where a teacher is trained.
            share: Fraction of the batch's images that the part holds: the batch's loss is the mean over its images. 0
                where they do not count: such a part only keeps this process in step with the others.
            is_last: Whether this is the last part of this process's piece of the batch: processes exchange gradients
                once per step.
        """
        started = time.perf_counter()
        ranks = self.shape.ranks
        with nullcontext() if is_last else ranks.without_exchange(self.forward):
            loss, logits_BK, named = self.forward(part, teacher, ramp=self._ramp())
            self._loss += loss.detach().double() * share
            factor = share * ranks.part.num_ranks  # processes average their gradients
            (loss if factor == 1.0 else loss * factor).backward()
        if share:
            terms = {f"term {name}": term for name, term in named.items()}
            self._count(logits_BK, {"loss": loss.detach(), **terms}, part)
        self.own_steps_s += time.perf_counter() - started

    def take_step(self, num_images: int) -> None:
        """Let the optimiser step on the gradient of a whole batch.

        Args:
            num_images: Of the whole batch.

        Raises:
            DivergedError: Before the step, if the loss or the gradient norm is not finite.
        """
        started = time.perf_counter()
        self._set_lr()
        loss = self._finite(self.shape.ranks.sum(self._loss), "loss")
        norm = self._finite(self._gradient_norm(), "gradient norm")
        if self.optimiser.defaults.get("fused"):  # as torch.amp.GradScaler does: a marked step changes nothing
            self.optimiser.found_inf = (~self._is_finite).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        if loss is not None and norm is not None:
            self.last_finite = {"step": self.step, "loss": loss, "gradient_norm": norm}
        self._loss = self._no_loss()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.images_seen += num_images
        self.own_steps_s += time.perf_counter() - started

    def _no_loss(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64, device=self.shape.device)

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

    def _finite(self, value: Tensor, what: str) -> float | None:
        """Return a value, or None in steps in which the host does not look.

        On GPU a look at every value would stall the queue: the verdict is kept on the device, where it also holds back
        the optimiser, and read now and then.

        Raises:
            DivergedError: If the value, or one since the last look, is not finite.
        """
        every = self.shape.look_every_steps
        if every == 1:
            number = value.item()
            if not math.isfinite(number):
                raise DivergedError(f"{what} is {number} in step {self.step}")
            return number
        self._is_finite &= torch.isfinite(value.detach())
        if not self.shape.is_look(self.step):
            return None
        if not self._is_finite.item():
            raise DivergedError(f"{what} was not finite in one of the {every} steps up to step {self.step}")
        return value.item()

    @torch.no_grad()
    def _count(self, logits_BK: Tensor, means: Mapping[str, Tensor], batch: Batch) -> None:
        num_images = len(batch.target_B)
        values = {"images": torch.tensor(float(num_images))}
        values |= {name: value * num_images for name, value in means.items()}
        values["correct"] = (logits_BK.argmax(dim=1) == batch.target_B).sum()
        for name, value in values.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros((), dtype=torch.float64, device=value.device)
            self._sums[name] += value

    def end_epoch(self) -> None:
        """Turn the epoch's sums into history, read once."""
        sums = self.shape.ranks.totals(self._sums)
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
        """Return the whole run at its present step; of several processes only the first gets it all."""
        own = self._own_state()
        others = self.shape.ranks.gather(own)[1:]
        return {
            "digest": self.digest,
            "step": self.step,
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **own,
            "history": list(self.history),
            "best": dict(self.best),
            "closed_epochs": self.closed_epochs,
            "last_finite": dict(self.last_finite),
            "images_seen": self.images_seen,
            "own_steps_s": self.own_steps_s,
            "teacher_passes_s": self.teacher_passes_s,
            **({"best_held_out": dict(self.best_held_out)} if self.best_held_out else {}),
            **({"others": others} if others else {}),
        }

    def _own_state(self) -> dict[str, Any]:
        """Return what differs from one process to another."""
        return {
            "student_rng": self.student_rng.state_dict(),
            "method_rng": self.method_rng.state_dict(),
            "sums": {name: value.cpu() for name, value in self._sums.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where a checkpoint stands; strict in every part."""
        self.model.load_state_dict(state["model"], strict=True)
        self.objective.load_state_dict(state["objective"], strict=True)
        self.optimiser.load_state_dict(state["optimiser"])
        ranks = self.shape.ranks
        own = state if ranks.is_first else state["others"][ranks.part.rank - 1]
        self.student_rng.load_state_dict(own["student_rng"])
        self.method_rng.load_state_dict(own["method_rng"])
        self.step, self.history, self.best = state["step"], list(state["history"]), dict(state["best"])
        self.best_held_out = dict(state.get("best_held_out", {}))
        self.images_seen, self.own_steps_s = state["images_seen"], state["own_steps_s"]
        self.teacher_passes_s = state["teacher_passes_s"]
        self.closed_epochs, self.last_finite = state["closed_epochs"], dict(state["last_finite"])
        self._sums = {
            name: value.to(self.shape.device if name != "images" else "cpu") for name, value in own["sums"].items()
        }
