"""Semantic calibration: attention decides which teacher stages a student stage imitates, image by image.

Paper: Chen, Mei, Zhang, Wang, Wang, Feng and Chen, "Cross-Layer Distillation with Semantic Calibration", AAAI 2021,
arXiv:2012.03236.
Reference code:
https://github.com/DefangChen/SemCKD/blob/0cdc4d9152acf3f809f6669b8b30a6c0b155eab9/distiller_zoo/SemCKD.py
https://github.com/DefangChen/SemCKD/blob/85140adb4f8d2e462f3d8d1786aaad8fdd0b799f/models/util.py (SelfA, AAEmbed,
MLPEmbed)

An image is described, at each stage, by its similarities to the images of its batch: its row of F F^T. Nothing is
detached, as in the code: through these rows the attention's gradient reaches the student's features too. In a whole
batch every image is thus related to all others; a sample weight weights an image's own share of the loss.

Differences from the paper: none known; the loss is divided by the number of student stages, as in the code.
Differences from the code: any batch size works. The code's embeddings take exactly as many similarities as its batch
has images, so that it drops the last, smaller batch. Here the batch is cut into consecutive groups of
`similarity_size` images, and a smaller group's rows are padded with zeros. The inner channels of a projection are at
most `mid_channels`: 512 leaves teachers of at most 256 channels as released (all of the usual CIFAR pairs but VGG and
ResNet-50 teachers), whereas four stages of a ResNet-50 teacher without a bound would add hundreds of millions of
parameters. Along each side the smaller size is met, so non-square maps work. The embeddings are normalised with an
epsilon and computed outside autocast: similarities of large maps overflow float16. P1's release drops the first
stage, which `skip_first_stage` does too, runs without the KL term that the authors add, and leaves its batch
normalisations in evaluation mode after the first epoch, which `freeze_batch_norm` does too.

Shapes: B images, S student stages, T teacher stages, N similarities of an image, E numbers of an embedding, C
channels, H rows, W columns.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.functional.attention import pool_to_smaller
from dctkd.functional.distances import mean_squared_error_per_sample
from dctkd.functional.group_similarity import similarities_in_groups
from dctkd.functional.precision import outside_autocast
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.layers import conv_norm, evaluation_mode
from dctkd.methods.options import MethodOptions, later_option
from dctkd.methods.stages import num_first_stages_skipped
from dctkd.models import ModelSpec, Outputs


class SemCKDOptions(MethodOptions):
    """Options of semckd."""

    similarity_size: int = Field(
        128,
        ge=4,
        description="number of images whose similarities describe an image; the released code takes its batch size, "
        "in P1 128",
    )
    mid_channels: int | None = Field(
        512,
        ge=1,
        description="upper bound of a projection's inner channels, which are 2 * teacher channels if that is less; "
        "null: no bound, as released",
    )
    skip_first_stage: bool = Field(
        False, description="whether the first stage is left out, as in P1's release (a slip of its slice)"
    )
    freeze_batch_norm: bool = later_option(
        False,
        description="whether the projections' batch normalisations keep, from the second epoch on, the running "
        "statistics of the first; all weights go on training; P1's release does so, because its validation puts them "
        "into evaluation mode and nothing puts them back",
    )


class SemCKD(Method):
    """(1/S) sum over stages s and t of alpha_st MSE(projection_st(F_s), F_t); alpha a softmax over t, per image."""

    Options = SemCKDOptions
    title = "SemCKD"
    paper = (
        "Chen, Mei, Zhang, Wang, Wang, Feng and Chen: Cross-Layer Distillation with Semantic Calibration. AAAI 2021, "
        "arXiv:2012.03236."
    )
    year = 2021
    features = "stages"
    default_weight = 400.0
    default_weight_source = "P1's release (ALPHA 400), which is the authors' weight for CIFAR-100 (-b 400)"
    needs_whole_batch = True
    batch_order_matters = True

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: SemCKDOptions) -> None:
        """Create embeddings and projections; see `Method`.

        Raises:
            InputError: If skipping the first stage leaves none.
        """
        super().__init__(student, teacher, data, options)
        self.similarity_size = options.similarity_size
        self.num_skipped = num_first_stages_skipped("semckd", student, skip_first_stage=options.skip_first_stage)
        self.freeze_batch_norm = options.freeze_batch_norm
        student_channels, teacher_channels = (
            [stage.channels for stage in spec.stages[self.num_skipped :]] for spec in (student, teacher)
        )
        self.queries = nn.ModuleList(_embedding(self.similarity_size) for _ in student_channels)
        self.keys = nn.ModuleList(_embedding(self.similarity_size) for _ in teacher_channels)
        self.projections = nn.ModuleList(
            _projection(inputs, outputs, options.mid_channels)
            for inputs, outputs in itertools.product(student_channels, teacher_channels)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"matched": mean over student stages of the attention-weighted errors}."""
        student_maps, teacher_maps = student.stages[self.num_skipped :], teacher.stages[self.num_skipped :]
        attention_BST = self.attention(student_maps, teacher_maps)
        with evaluation_mode(self.projections) if self.freeze_batch_norm and batch.epoch > 0 else nullcontext():
            error_BST = self.errors(student_maps, teacher_maps)
        return {"matched": batch.mean((attention_BST * error_BST).sum(dim=2).mean(dim=1))}

    def attention(self, student_maps: tuple[Tensor, ...], teacher_maps: tuple[Tensor, ...]) -> Tensor:
        """Return the weight of each teacher stage for each student stage, shape (B, S, T); rows add up to 1."""
        query_BSE, key_BTE = (
            torch.stack([_embed(*pair, self.similarity_size) for pair in zip(maps, embeddings, strict=True)], dim=1)
            for maps, embeddings in ((student_maps, self.queries), (teacher_maps, self.keys))
        )
        return _inner_products(query_BSE, key_BTE).softmax(dim=2)

    def errors(self, student_maps: tuple[Tensor, ...], teacher_maps: tuple[Tensor, ...]) -> Tensor:
        """Return the mean squared error of every pair of stages, shape (B, S, T)."""
        pairs = itertools.product(student_maps, teacher_maps)
        errors = [_error(*maps, projection) for maps, projection in zip(pairs, self.projections, strict=True)]
        return torch.stack(errors, dim=1).view(-1, len(student_maps), len(teacher_maps))


def _error(student_BCHW: Tensor, teacher_BCHW: Tensor, projection: nn.Module) -> Tensor:
    student_BCHW, teacher_BCHW = pool_to_smaller(student_BCHW, teacher_BCHW)
    return mean_squared_error_per_sample(projection(student_BCHW), teacher_BCHW)


def _embedding(similarity_size: int) -> nn.Sequential:
    width = similarity_size // 4
    return nn.Sequential(nn.Linear(similarity_size, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def _projection(in_channels: int, out_channels: int, mid_channels: int | None) -> nn.Sequential:
    mid = 2 * out_channels if mid_channels is None else min(2 * out_channels, mid_channels)
    return nn.Sequential(
        conv_norm(in_channels, mid, kernel_size=1, relu=True),
        conv_norm(mid, mid, kernel_size=3, relu=True),
        nn.Conv2d(mid, out_channels, 1, bias=False),
    )


@outside_autocast
def _embed(feature_BCHW: Tensor, embedding: nn.Module, similarity_size: int) -> Tensor:
    """Return one vector of length 1 per image, from its row of similarities."""
    similarity_BN = similarities_in_groups(feature_BCHW, group_size=similarity_size)
    return F.normalize(embedding(similarity_BN), dim=1)


@outside_autocast
def _inner_products(query_BSE: Tensor, key_BTE: Tensor) -> Tensor:
    return query_BSE @ key_BTE.transpose(1, 2)
