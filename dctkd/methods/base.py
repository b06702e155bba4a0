"""What a method is: the contract between a loss and the engine.

Shapes: B images of a batch, K classes, C/H/W channels, rows and columns of a stage, D pooled features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dctkd.errors import InputError
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs

FEATURES = ("none", "logits", "stages", "pooled")
"""What a method may read; several are joined by ' + ', as in 'stages + pooled'."""


@dataclass(frozen=True)
class DataSpec:
    """What a method may know of the training data.

    Attributes:
        num_classes: Number of classes K.
        num_train_images: Number of training images; `Batch.index_B` counts from 0 to one less.
        labels: Label of each training image, in the order of `Batch.index_B`.
    """

    num_classes: int
    num_train_images: int
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """One training batch, as a method sees it.

    Attributes:
        images_BCHW: Normalised images, shape (B, 3, H, W), float32.
        target_B: Labels, shape (B,), int64.
        index_B: Position of each image in the training set, shape (B,), int64.
        epoch: Number of finished epochs, from 0.
        progress: Finished fraction of the training, in [0, 1].
        sample_weight_B: Weight of each image in the method's terms, shape (B,), float32; None means 1 for all. The
            engine sets 0 where the teacher is wrong if a run asks for it.
    """

    images_BCHW: Tensor
    target_B: Tensor
    index_B: Tensor
    epoch: int
    progress: float
    sample_weight_B: Tensor | None = None

    def parts(self, size: int | None) -> Iterator[Batch]:
        """Yield the batch in pieces of at most `size` images; whole if `size` is None."""
        num_images = len(self.target_B)
        if size is None or size >= num_images:
            yield self
            return
        for start in range(0, num_images, size):
            rows = slice(start, start + size)
            weight_B = None if self.sample_weight_B is None else self.sample_weight_B[rows]
            images_BCHW, target_B, index_B = self.images_BCHW[rows], self.target_B[rows], self.index_B[rows]
            yield Batch(images_BCHW, target_B, index_B, self.epoch, self.progress, weight_B)

    def mean(self, per_sample_B: Tensor) -> Tensor:
        """Return the mean of a per-sample loss over the whole batch, each sample times its weight.

        The sum is divided by B, not by the sum of the weights: a sample of weight 0 lowers the term, as in P1's release
        (Distillation.py, PRED_GUIDE). Every method reduces with this, so that sample weights reach every loss in the
        same way.

        Args:
            per_sample_B: Loss of each sample, shape (B,), any float dtype.

        Returns:
            0-d tensor, float32 (float64 for float64 input).

        Raises:
            ValueError: If the shape is not (B,).
        """
        if per_sample_B.shape != self.target_B.shape:
            expected, got = tuple(self.target_B.shape), tuple(per_sample_B.shape)
            raise ValueError(f"expected one loss per sample, shape {expected}, got {got}; reduce all other axes first")
        wide_B = per_sample_B.to(torch.promote_types(per_sample_B.dtype, torch.float32))
        return (wide_B if self.sample_weight_B is None else wide_B * self.sample_weight_B).mean()


class Method(nn.Module):
    """A knowledge-distillation loss: describe it in the class attributes, return named terms from `forward`.

    The method never holds the student, the teacher, the optimiser or a step counter: `parameters()` is exactly what it
    adds to the training, `state_dict()` exactly what a checkpoint needs. All parameters exist after `__init__`; what
    changes between steps is a buffer. The outer weight, its warm-up and the cross-entropy belong to the engine. Random
    numbers come from torch's global generator, which the engine owns. Layers run under the engine's autocast;
    `dctkd.functional` widens by itself.

    Attributes:
        Options: Frozen pydantic model of the method's own settings.
        title: Name in tables and figures.
        paper: Citation: authors, title, venue or arXiv number.
        year: Year of that publication; None where there is none.
        features: What the loss reads: see FEATURES.
        default_weight: Outer weight, no unit, if the experiment gives none; 0 for a method without terms.
        default_weight_source: Where that weight comes from.
        default_ce: Weight of the cross-entropy, no unit, if the experiment gives none.
        default_warmup_epochs: Epochs over which the outer weight rises linearly from 0, if the experiment gives none.
        results_version: Raised in each commit that changes this method's results.
        needs_whole_batch: The loss couples the samples of a batch: it cannot be split. `Batch.sample_weight_B` weights
            a sample's own share of the loss; the sample stays in the batch that the others are related to.
        batch_order_matters: The value depends on the order of the samples within a batch.
    """

    Options: ClassVar[type[MethodOptions]] = MethodOptions
    title: ClassVar[str]
    paper: ClassVar[str]
    year: ClassVar[int | None]
    features: ClassVar[str]
    default_weight: ClassVar[float]
    default_weight_source: ClassVar[str]
    default_ce: ClassVar[float] = 1.0
    default_warmup_epochs: ClassVar[float] = 0.0
    results_version: ClassVar[int] = 1
    needs_whole_batch: ClassVar[bool] = False
    batch_order_matters: ClassVar[bool] = False

    options: MethodOptions

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: MethodOptions) -> None:
        """Check that the pair suits the method and keep the options.

        Args:
            student: Shapes of the student's outputs, stages paired with the teacher's.
            teacher: Shapes of the teacher's outputs.
            data: Classes, number and labels of the training images.
            options: Instance of the class's `Options`.

        Raises:
            InputError: If the method compares stages and the pair does not have equally many, at least one.
        """
        super().__init__()
        if "stages" in self.features.split(" + ") and not 0 < len(student.stages) == len(teacher.stages):
            raise InputError(
                f"{self.title} compares stages in pairs and needs equally many of student and teacher, at least one; "
                f"got {len(student.stages)} and {len(teacher.stages)}; see pairs.stages in the experiment file"
            )
        self.options = options

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss by name; the engine adds them up and weights the sum.

        Args:
            student: The student's outputs for the batch; the gradient flows into them.
            teacher: The teacher's outputs for the same images, without gradient.
            batch: Images, targets, positions in the training set and weights of the samples.

        Returns:
            Named 0-d tensors, float32 also for bfloat16 inputs: each a mean over the batch of per-sample values
            (`Batch.mean`).
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(student, teacher, batch)")
