"""ReviewKD: deeper student stages, fused into each shallower one, imitate the teacher's at several scales.

Paper: Chen, Liu, Zhao and Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv:2104.09044: residual
learning framework, attention-based fusion (ABF) and hierarchical context loss (HCL).
Reference code:
https://github.com/dvlab-research/ReviewKD/blob/6607308a444e0b53650639f6b040515b3d665e05/CIFAR-100/model/reviewkd.py

Levels are the student's stages, shallow to deep, and its pooled features as a 1x1 map. From the deepest one on, each
level is brought to `mid_channels` channels and fused with what the deeper one handed up; the result is handed up, and
a 3x3 convolution of it is compared with the teacher's features of that level.

Differences from the paper: none known.
Differences from the code: it takes features before the last ReLU of a stage; `Outputs.stages` holds them after it, of
both networks. Sizes come from the features themselves, so non-square maps and any input size work; HCL leaves out a
grid that is not smaller than the map's smaller side, where the code looks at the rows only. By default the inner
channels are at most those of the student's last stage; the code's rule takes the pooled features there, which are as
wide but in MobileNetV2 (320 in the last stage, 1280 pooled). P1's dev branch sets 512 (256 for MobileNetV2) and no
warm-up; a weight and its warm-up belong to the experiment file. The batch normalisations of the fusions take their
statistics over the images they are given, as the student's own layers do.

Shapes: B images, C channels, H rows, W columns, M inner channels, D pooled features.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.functional.hierarchical import hierarchical_error_per_sample
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.layers import conv_norm
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs

LARGEST_MID_CHANNELS = 512
"""Upper bound of the inner channels where no number is given, as in the released code."""


class ReviewKDOptions(MethodOptions):
    """Options of review."""

    mid_channels: int | None = Field(
        None,
        ge=1,
        description="channels in which levels are fused; null: those of the student's last stage, at most 512 "
        "(the released rule for CIFAR-100); ReviewKD on ImageNet and P1: 512 for ResNets, 256 for MobileNets",
    )


class ReviewKD(Method):
    """Per level, HCL between a convolution of the fused student features and the teacher's features."""

    Options = ReviewKDOptions
    title = "ReviewKD"
    paper = "Chen, Liu, Zhao and Jia: Distilling Knowledge via Knowledge Review. CVPR 2021, arXiv:2104.09044."
    year = 2021
    features = "stages + pooled"
    default_weight = 1.0
    default_weight_source = (
        "The authors' ImageNet run, ResNet-34 to ResNet-18 (ImageNet/README.md); on CIFAR-100 0.6 to 8"
    )
    default_warmup_epochs = 1.0  # The ImageNet run's; the authors take 20 of 240 epochs on CIFAR-100.

    def __init__(self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: ReviewKDOptions) -> None:
        """Create one fusion per level; see `Method`."""
        super().__init__(student, teacher, data, options)
        student_channels, teacher_channels = (
            [*(stage.channels for stage in spec.stages), spec.pooled_dim] for spec in (student, teacher)
        )
        mid_channels = options.mid_channels or min(LARGEST_MID_CHANNELS, student.stages[-1].channels)
        deepest = len(student_channels) - 1
        self.fusions = nn.ModuleList(
            _Fusion(inputs, mid_channels, outputs, takes_deeper=level < deepest)
            for level, (inputs, outputs) in enumerate(zip(student_channels, teacher_channels, strict=True))
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per level, {"stage1": ..., "pooled": ...}."""
        terms, deeper_BMHW = [], None
        levels = zip(self.fusions, _levels_of(student), _levels_of(teacher), strict=True)
        for fusion, student_BCHW, teacher_BCHW in reversed(list(levels)):
            output_BCHW, deeper_BMHW = fusion(student_BCHW, deeper_BMHW, teacher_BCHW.shape[-2:])
            terms.append(batch.mean(hierarchical_error_per_sample(output_BCHW, teacher_BCHW)))
        names = [*(f"stage{n}" for n in range(1, len(terms))), "pooled"]
        return dict(zip(names, reversed(terms), strict=True))


class _Fusion(nn.Module):
    """Attention-based fusion of a level with what the deeper level handed up."""

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, *, takes_deeper: bool) -> None:
        super().__init__()
        self.reduce = conv_norm(in_channels, mid_channels, kernel_size=1, relu=False)
        self.expand = conv_norm(mid_channels, out_channels, kernel_size=3, relu=False)
        self.gates = nn.Conv2d(2 * mid_channels, 2, 1) if takes_deeper else None
        for convolution in (self.reduce[0], self.expand[0]):
            assert isinstance(convolution, nn.Conv2d)
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, student_BCHW: Tensor, deeper_BMHW: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Return the features to compare, of this size (rows, columns), and those for the next shallower level."""
        fused_BMHW: Tensor = self.reduce(student_BCHW)
        if self.gates is not None and deeper_BMHW is not None:
            deeper_BMHW = _resized(deeper_BMHW, fused_BMHW.shape[-2:])
            gates_B2HW = self.gates(torch.cat([fused_BMHW, deeper_BMHW], dim=1)).sigmoid()
            fused_BMHW = fused_BMHW * gates_B2HW[:, :1] + deeper_BMHW * gates_B2HW[:, 1:]
        fused_BMHW = _resized(fused_BMHW, size)
        return self.expand(fused_BMHW), fused_BMHW


def _levels_of(outputs: Outputs) -> tuple[Tensor, ...]:
    return (*outputs.stages, outputs.pooled_BD[:, :, None, None])


def _resized(map_BCHW: Tensor, size: torch.Size) -> Tensor:
    return map_BCHW if map_BCHW.shape[-2:] == size else F.interpolate(map_BCHW, size=size, mode="nearest")
