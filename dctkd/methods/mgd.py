"""Masked generative distillation: rebuild the teacher's map from a student's map with missing channels.

Paper: Yang, Li, Shao, Shi, Yuan and Yuan, "Masked Generative Distillation", ECCV 2022, arXiv:2205.01529,
in the form of its classification experiments: masks over channels.
Reference code:
https://github.com/yzd-v/MGD/blob/046aba2dc2b067bc3e75ceb8f5e006e922937232/cls/mmcls/distillation/losses/mgd.py

The loss of an image is the sum of squared differences over channels and positions, not their mean: it grows with the
teacher's map. The weight 7e-5 was chosen on ImageNet, where a ResNet-34 teacher has 512 channels at 7 x 7 positions.

Differences from the paper: its abstract speaks of masked pixels; channels are masked, as in the authors' code for
classification, each of each image by its own draw. What is kept is not rescaled (as there, unlike dropout).
Differences from the code: where sizes differ the larger map is pooled to the smaller, the student's before its
channels are aligned; the code refuses such pairs. The maps are the last paired stage's; the code takes the last ones
of the backbones, which are the same unless an experiment pairs others. Masks are drawn on the features' device.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from dctkd.functional.attention import pool_to_smaller
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs


class MGDOptions(MethodOptions):
    """Options of mgd."""

    mask_fraction: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="probability that a channel of an image is masked (lambda in the paper), no unit; the authors' "
        "classification configurations: 0.15",
    )


class MGD(Method):
    """Mean over the batch of |G(mask * align(student)) - teacher|^2 of the last stage, G two 3x3 convolutions."""

    Options = MGDOptions
    title = "MGD"
    paper = "Yang, Li, Shao, Shi, Yuan and Yuan: Masked Generative Distillation. ECCV 2022, arXiv:2205.01529."
    year = 2022
    features = "stages"
    default_weight = 7e-5
    default_weight_source = "The authors' release for classification: alpha_mgd 0.00007 (cls/configs/distillers)"
    default_ce = 1.0

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: MGDOptions) -> None:
        """Create the 1x1 convolution that aligns channels, unless they agree, and the generator; see `Method`."""
        super().__init__(student, teacher, data, options)
        own, wanted = student.stages[-1].channels, teacher.stages[-1].channels
        self.align = nn.Identity() if own == wanted else nn.Conv2d(own, wanted, kernel_size=1)
        self.generate = nn.Sequential(
            nn.Conv2d(wanted, wanted, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(wanted, wanted, kernel_size=3, padding=1),
        )
        self.mask_fraction = options.mask_fraction

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return {"generation": squared differences summed over channels and positions of the last stage}."""
        student_BCHW, teacher_BCHW = pool_to_smaller(student.stages[-1], teacher.stages[-1])
        aligned_BCHW = self.align(student_BCHW)
        draw_BC11 = torch.rand(*aligned_BCHW.shape[:2], 1, 1, device=aligned_BCHW.device)
        generated_BCHW = self.generate(aligned_BCHW.masked_fill(draw_BC11 < self.mask_fraction, 0.0))
        difference_BCHW = widen(generated_BCHW) - widen(teacher_BCHW)
        return {"generation": batch.mean(difference_BCHW.square().flatten(1).sum(dim=1))}
