"""Variational information distillation: the student predicts the teacher's features with a learned uncertainty.

Paper: Ahn, Hu, Damianou, Lawrence and Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
arXiv:1904.05835: negative log-likelihood of the teacher's features under a Gaussian whose mean is a function of the
student's features and whose variance is one number per channel.
Reference code:
https://github.com/HobbitLong/RepDistiller/blob/1e2f81692647991a80a1e97ffa14e2af915eaa6f/distiller_zoo/VID.py

Differences from the paper: averaged over channels and positions where the likelihood is a sum; its constant is left
out. A term can be negative: it is, once the channels' variances are well below 1 and the errors no larger.
Differences from the code: where sizes differ the larger features are pooled to the smaller along each side, so
non-square maps work. Softplus is computed without overflow. P1's release drops the first stage, because
RepDistiller's slice `[1:-1]`, meant for the stem, is applied to a list without a stem: `skip_first_stage` does the
same.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.functional.attention import pool_to_smaller
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.methods.stages import num_first_stages_skipped
from dctkd.models import ModelSpec, Outputs

VARIANCE_FLOOR = 1e-5
"""Smallest variance, in squared units of the teacher's features."""


class VIDOptions(MethodOptions):
    """Options of vid."""

    initial_variance: float = Field(
        5.0,
        gt=VARIANCE_FLOOR,
        description="variance of every channel before training, in squared units of the teacher's features; "
        "RepDistiller and P1: 5",
    )
    skip_first_stage: bool = Field(
        False, description="whether the first stage is left out, as in P1's release (a slip of its slice)"
    )


class VID(Method):
    """Per stage, mean over channels and positions of 1/2 [(mu(F_s) - F_t)^2 / sigma_c^2 + log sigma_c^2]."""

    Options = VIDOptions
    title = "VID"
    paper = (
        "Ahn, Hu, Damianou, Lawrence and Dai: Variational Information Distillation for Knowledge Transfer. CVPR "
        "2019, arXiv:1904.05835."
    )
    year = 2019
    features = "stages"
    default_weight = 1.0
    default_weight_source = "RepDistiller, scripts/run_cifar_distill.sh (-b 1), and P1's main branch (ALPHA 1)"

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: VIDOptions) -> None:
        """Create the predictors of mean and variance; see `Method`.

        Raises:
            InputError: If skipping the first stage leaves none.
        """
        super().__init__(student, teacher, data, options)
        self.num_skipped = num_first_stages_skipped("vid", student, skip_first_stage=options.skip_first_stage)
        pairs = list(zip(student.stages, teacher.stages, strict=True))[self.num_skipped :]
        self.predictors = nn.ModuleList(
            _GaussianPredictor(student_stage.channels, teacher_stage.channels, options.initial_variance)
            for student_stage, teacher_stage in pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage, {"stage1": ...}; it can be negative."""
        first = self.num_skipped
        stages = zip(self.predictors, student.stages[first:], teacher.stages[first:], strict=True)
        return {
            f"stage{n}": batch.mean(predictor(student_BCHW, teacher_BCHW))
            for n, (predictor, student_BCHW, teacher_BCHW) in enumerate(stages, start=first + 1)
        }


class _GaussianPredictor(nn.Module):
    """Negative log-likelihood of the teacher's features given the student's, without its constant, per sample."""

    def __init__(self, student_channels: int, teacher_channels: int, initial_variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        above_floor = initial_variance - VARIANCE_FLOOR
        inverse_softplus = above_floor + math.log(-math.expm1(-above_floor))  # log(exp(x) - 1) without overflow.
        self.variance_logit_C = nn.Parameter(torch.full((teacher_channels,), inverse_softplus))

    def forward(self, student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
        """Return the loss of every sample, shape (B,), float32 or wider."""
        student_BCHW, teacher_BCHW = pool_to_smaller(student_BCHW, teacher_BCHW)
        error_BC = (widen(self.mean(student_BCHW)) - widen(teacher_BCHW)).square().mean(dim=(2, 3))
        variance_C = F.softplus(widen(self.variance_logit_C)) + VARIANCE_FLOOR
        return 0.5 * (error_BC / variance_C + variance_C.log()).mean(dim=1)
