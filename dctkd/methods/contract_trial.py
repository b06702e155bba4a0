"""What the contract is checked on: pairs of networks and random outputs of their shapes. No network is built.

Shapes: B images, K classes, C/H/W channels, rows and columns of a stage, D pooled features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dctkd.methods import create
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.models import ModelSpec, Outputs, StageSpec

NUM_CLASSES = 5
NUM_TRAIN_IMAGES = 40
BATCH_SIZE = 6
DATA = DataSpec(NUM_CLASSES, NUM_TRAIN_IMAGES, labels=tuple(index % NUM_CLASSES for index in range(NUM_TRAIN_IMAGES)))


@dataclass(frozen=True)
class Pair:
    """A student and a teacher by the shapes of their outputs."""

    name: str
    student: ModelSpec
    teacher: ModelSpec


def _spec(channels: tuple[int, ...], sides: tuple[int, ...], pooled_dim: int) -> ModelSpec:
    stages = tuple(StageSpec(width, side, side) for width, side in zip(channels, sides, strict=True))
    return ModelSpec(NUM_CLASSES, stages, pooled_dim)


# The stages of a 64-pixel image; about an eighth of the real channels, so that a contract takes seconds.
_RESNET18 = _spec((8, 16, 32, 64), (16, 8, 4, 2), 64)
_RESNET50 = _spec((32, 64, 128, 256), (16, 8, 4, 2), 256)
_MOBILENETV2 = _spec((3, 4, 12, 40), (16, 8, 4, 2), 160)
_CONVNEXT = _spec((12, 24, 48, 96), (16, 8, 4, 2), 96)
_VIT = _spec((24, 24, 24, 24), (4, 4, 4, 4), 24)
# A 32-pixel image leaves 1x1 maps; a student half as deep in pixels has maps of other sizes than its teacher.
_RESNET18_32PX = _spec((8, 16, 32), (8, 4, 1), 32)
_RESNET50_32PX = _spec((32, 64, 256), (4, 2, 1), 256)

PAIRS = (
    Pair("resnet__resnet", student=_RESNET18, teacher=_RESNET50),
    Pair("resnet__mobilenetv2", student=_MOBILENETV2, teacher=_RESNET50),
    Pair("convnext__resnet", student=_RESNET18, teacher=_CONVNEXT),
    Pair("vit__resnet", student=_RESNET18, teacher=_VIT),
    Pair("resnet__resnet_32px", student=_RESNET18_32PX, teacher=_RESNET50_32PX),
)
"""Pairs named teacher__student, as in the results."""


@dataclass(frozen=True)
class Inputs:
    """What `forward` takes. The student's tensors are leaves that require a gradient."""

    student: Outputs
    teacher: Outputs
    batch: Batch

    def student_tensors(self) -> tuple[Tensor, ...]:
        """Return the student's logits, stage maps and pooled features."""
        return tensors_of(self.student)

    def weighted(self, sample_weight_B: Tensor) -> Inputs:
        """Return the same inputs with these sample weights."""
        return replace(self, batch=replace(self.batch, sample_weight_B=sample_weight_B))

    def taken(self, rows: Tensor) -> Inputs:
        """Return the samples in these rows, in this order, repeats included."""
        batch = replace(
            self.batch,
            images_BCHW=self.batch.images_BCHW[rows],
            target_B=self.batch.target_B[rows],
            index_B=self.batch.index_B[rows],
        )
        return Inputs(_map(self.student, lambda x: x[rows], True), _map(self.teacher, lambda x: x[rows], False), batch)

    def converted(self, dtype: torch.dtype) -> Inputs:
        """Return the same inputs with the outputs of both networks in another dtype."""
        return replace(
            self,
            student=_map(self.student, lambda x: x.to(dtype), True),
            teacher=_map(self.teacher, lambda x: x.to(dtype), False),
        )

    def constant(self) -> Inputs:
        """Return the same inputs with every output of the student 0.5 and of the teacher 2."""
        return replace(
            self,
            student=_map(self.student, lambda x: torch.full_like(x, 0.5), True),
            teacher=_map(self.teacher, lambda x: torch.full_like(x, 2.0), False),
        )

    def with_dead_images(self) -> Inputs:
        """Return the same inputs with all outputs 0 for image 0 of the student, 1 of the teacher and 2 of both."""
        return replace(
            self,
            student=_map(self.student, lambda x: _zeroed(x, [0, 2]), True),
            teacher=_map(self.teacher, lambda x: _zeroed(x, [1, 2]), False),
        )


@dataclass(frozen=True)
class Trial:
    """A method class with its options, on one pair."""

    method_class: type[Method]
    pair: Pair
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 0) -> Method:
        """Return a new method whose initial parameters are drawn from this seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.make()

    def make(self) -> Method:
        """Return a new method whose initial parameters are drawn from torch's global generator as it stands."""
        return create(self.method_class, self.pair.student, self.pair.teacher, DATA, **self.options)

    def inputs(self, seed: int = 1) -> Inputs:
        """Return random outputs of both networks and the batch they belong to."""
        generator = torch.Generator().manual_seed(seed)
        index_B = torch.randperm(NUM_TRAIN_IMAGES, generator=generator)[:BATCH_SIZE]
        images_BCHW = torch.randn(BATCH_SIZE, 3, 8, 8, generator=generator)
        batch = Batch(images_BCHW, torch.tensor(DATA.labels)[index_B], index_B, epoch=3, progress=0.25)
        student = _map(_random_outputs(self.pair.student, generator), lambda x: x, True)
        return Inputs(student, _random_outputs(self.pair.teacher, generator), batch)


def terms_of(method: Method, inputs: Inputs, seed: int = 2) -> dict[str, Tensor]:
    """Return what the method returns when torch's global generator starts from this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        terms: dict[str, Tensor] = method(inputs.student, inputs.teacher, inputs.batch)
        return terms


def tensors_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """Return logits, stage maps and pooled features."""
    return (outputs.logits_BK, *outputs.stages, outputs.pooled_BD)


def _random_outputs(spec: ModelSpec, generator: torch.Generator) -> Outputs:
    logits_BK = 2.0 * torch.randn(BATCH_SIZE, spec.num_classes, generator=generator)
    pooled_BD = torch.randn(BATCH_SIZE, spec.pooled_dim, generator=generator).relu()
    shapes = [(BATCH_SIZE, stage.channels, stage.height, stage.width) for stage in spec.stages]
    stages = [torch.randn(shape, generator=generator).relu().to(memory_format=torch.channels_last) for shape in shapes]
    return Outputs(logits_BK, tuple(stages), pooled_BD)


def _map(outputs: Outputs, change: Any, requires_grad: bool) -> Outputs:
    def renew(x: Tensor) -> Tensor:
        return change(x.detach()).clone().requires_grad_(requires_grad)  # type: ignore[no-any-return]

    return Outputs(renew(outputs.logits_BK), tuple(renew(stage) for stage in outputs.stages), renew(outputs.pooled_BD))


def _zeroed(x: Tensor, rows: list[int]) -> Tensor:
    zeroed = x.clone()
    zeroed[rows] = 0
    return zeroed
