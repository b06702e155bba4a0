"""How a network is trained: the recipes of an experiment file. Imports neither torch nor timm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from dctkd.strict import Strict

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
"""Modes of torch.compile."""


class Sgd(Strict):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(gt=0, description="peak learning rate per step")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0, description="L2 coefficient, applied to every parameter as P1 does")
    nesterov: bool = False


class AdamW(Strict):
    """AdamW (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: float = Field(gt=0, description="peak learning rate per step")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: float = Field(0.05, ge=0, description="decoupled, applied to every parameter")


class Schedule(Strict):
    """Learning rate over time, set anew before each step."""

    name: Literal["constant", "step", "multistep", "cosine"]
    warmup_epochs: float = Field(0.0, ge=0, description="linear rise from 0 to the peak, in epochs")
    every_epochs: int | None = Field(None, ge=1, description="step: epochs between two decays")
    milestones_epochs: tuple[int, ...] | None = Field(
        None, description="multistep: epochs at whose start the rate decays"
    )
    gamma: float = Field(0.1, gt=0, lt=1, description="step, multistep: factor of each decay")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for kind, key in (("step", "every_epochs"), ("multistep", "milestones_epochs")):
            if (self.name == kind) != (getattr(self, key) is not None):
                raise ValueError(f"{key} is required with name: {kind}, and only there")
        milestones = self.milestones_epochs
        if milestones is not None and (not milestones or list(milestones) != sorted({*milestones} - {0})):
            raise ValueError(f"milestones_epochs must rise, from above 0, got {list(milestones)}")
        return self


LATER_RECIPE_KEYS = (
    "micro_batch",
    "compile",
    "processes",
    "synchronise_batch_norm",
    "held_out_fraction",
    "frozen_stages",
)
"""Keys of a recipe that are no part of its identity where they are null."""


class Recipe(Strict):
    """How a network is trained. Every field can change bits, so all of it is part of a run's identity."""

    epochs: int = Field(ge=0, le=10**6, description="0: no training, the network is taken as its weights are")
    batch_size: int = Field(ge=2, le=10**6, description="images per step")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="images per forward and backward pass; their gradients are added up to one step. Saves memory; "
        "refused where images of a batch are coupled: batch normalisation, relational methods. null: the whole batch",
    )
    frozen_stages: int | None = Field(
        None,
        ge=1,
        description="number of stages, from the shallowest on, whose weights are not trained, nor those before them; "
        "running statistics of batch normalisation move there too, as in P1's released code. null: all is trained",
    )
    optimiser: Annotated[Sgd | AdamW, Field(discriminator="name")]
    schedule: Schedule
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="fraction of the target mass spread over all classes")
    teacher_correct_only: bool = Field(
        False,
        description="count what the teacher teaches, the terms of every method and of +kd, only where it is right; the "
        "other images count as 0 in the batch mean",
    )
    clip_grad_norm: float | None = Field(
        None, gt=0, description="largest L2 norm of the whole gradient; null: no clipping"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware has it"
    )
    compile: CompileMode | None = Field(
        None,
        description="compile the networks with torch.compile in this mode; meant for GPUs. reduce-overhead replays "
        "CUDA graphs; max-autotune also picks code by timing it, which a CPU refuses. null: networks run as they are",
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of the job; results depend on it in the last bits")
    evaluate_every_epochs: int | None = Field(
        None, ge=1, description="test during training too; needed for best-on-test"
    )
    held_out_fraction: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="fraction of every class's training images that is not trained on but tested after the last epoch, "
        "and, with evaluate_every_epochs, in each test, to choose an epoch without the test images. Which images "
        "depends on their official ids alone. null: all are trained on",
    )
    processes: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="processes that share every batch of a run, each with a GPU or `threads` CPU threads of its own; "
        "refused where a method relates images of a batch to each other. null: one",
    )
    synchronise_batch_norm: bool | None = Field(
        None,
        description="with processes: false takes the statistics of batch normalisation over each process's images; "
        "true or null: over the whole batch, which torch can do on GPUs only",
    )

    @field_validator("synchronise_batch_norm")
    @classmethod
    def _true_is_the_default(cls, value: bool | None) -> bool | None:
        """One meaning has one spelling, or equal runs would have two hashes."""
        return None if value else value

    @model_validator(mode="after")
    def _processes_fit(self) -> Self:
        if self.processes is None:
            if self.synchronise_batch_norm is not None:
                raise ValueError("synchronise_batch_norm is for runs of several processes: remove it, or set processes")
            return self
        if self.batch_size < 2 * self.processes:
            raise ValueError(
                f"processes {self.processes} need a batch_size of at least {2 * self.processes}, two images each, got "
                f"{self.batch_size}"
            )
        if self.compile is not None:
            raise ValueError("compile and processes exclude each other: remove one")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Dump without what is null of these: recipes from before they existed keep their hash."""
        dumped: dict[str, Any] = dump(self)
        return {key: value for key, value in dumped.items() if value is not None or key not in LATER_RECIPE_KEYS}

    @model_validator(mode="before")
    @classmethod
    def _name_the_optimiser(cls, raw: Any) -> Any:
        optimiser = raw.get("optimiser") if isinstance(raw, Mapping) else None
        if isinstance(optimiser, Mapping) and optimiser.get("name") not in ("sgd", "adamw"):
            raise PydanticCustomError(
                "optimiser", "optimiser.name must be sgd or adamw, got {got}", {"got": repr(optimiser.get("name"))}
            )
        return raw
