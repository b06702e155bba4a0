"""Frequency attention in review style: deep student features are fused with shallow ones, filtered, and compared.

Paper (P2): Pham, Nguyen, Nguyen, Pham, Nguyen and Vu, "Frequency Attention for Knowledge Distillation", WACV 2024,
arXiv:2403.05894; the variant with cross-attention between a low and a high stage.
Released code (branch main at commit 121cc2b):
https://github.com/cuong-pv/FAM-KD/blob/121cc2b/distillers/FAM_KD.py

Levels are the paired stages and, deepest, the pooled features as a 1x1 map. From the deepest on: the student's features
(through a 1x1 convolution where the channels are bounded) attend to a 3x3 neighbourhood, with the upsampled result of
the deeper level as the query; the result is brought to the teacher's size and passes frequency attention, batch
normalisation and a ReLU. The loss is the mean squared error to the teacher's features, summed over levels.

Differences from the paper: those of the code.
Differences from the code: the filter is kept on half of the spectrum, with the same values, gradients and steps of SGD
(see `FrequencyAttention`); its transform's shift, which also rolls channels and is undone at once, is left out. Every
level has its target: the release's ResNet-34 to ResNet-18 configuration loses the pooled one in a `zip`. The high-pass
filter is the released one, asymmetric and empty for maps of up to 19 positions, unless `high_pass` says otherwise.
The warm-up rises per step, there per epoch. Maps may be non-square, channels odd.

Shapes: B images, C channels, H rows, W columns, N = 9 neighbours.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dctkd.functional.distances import mean_squared_error_per_sample
from dctkd.functional.precision import widen
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.frequency_attention import FrequencyAttention, FrequencyAttentionOptions
from dctkd.methods.layers import BatchNorm, conv_norm
from dctkd.models import ModelSpec, Outputs, StageSpec


class FAM(Method):
    """Sum over stages and pooled features of MSE(ReLU(BN(frequency attention(fused student features))), teacher)."""

    Options = FrequencyAttentionOptions
    title = "FAM"
    paper = (
        "Pham, Nguyen, Nguyen, Pham, Nguyen and Vu: Frequency Attention for Knowledge Distillation. WACV 2024, "
        "arXiv:2403.05894."
    )
    year = 2024
    features = "stages + pooled"
    default_weight = 1.0
    default_weight_source = "The authors' release, ResNet-34 to ResNet-18 (configs/imagenet/r34_r18/fam_kd.yaml)"
    default_warmup_epochs = 1.0

    def __init__(
        self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: FrequencyAttentionOptions
    ) -> None:
        """Make one level per stage and one for the pooled features; see `Method`."""
        super().__init__(student, teacher, data, options)
        student_levels, teacher_levels = _levels(student), _levels(teacher)
        mid_channels = [options.bounded(level.channels) for level in student_levels]
        deeper = [mid for _, mid in pairwise(mid_channels)]
        self.levels = nn.ModuleList(
            _Level(own, target, mid, channels_of_deeper, options)
            for own, target, mid, channels_of_deeper in zip(
                student_levels, teacher_levels, mid_channels, [*deeper, None], strict=True
            )
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage and one for the pooled features, {"stage1": ..., "pooled": ...}."""
        names = [*(f"stage{n}" for n in range(1, len(student.stages) + 1)), "pooled"]
        terms: dict[str, Tensor] = {}
        deeper_BCHW: Tensor | None = None
        for name, level, own_BCHW, target_BCHW in reversed(
            list(zip(names, self.levels, _maps(student), _maps(teacher), strict=True))
        ):
            result_BCHW, deeper_BCHW = level(own_BCHW, deeper_BCHW)
            terms[name] = batch.mean(mean_squared_error_per_sample(result_BCHW, target_BCHW))
        return {name: terms[name] for name in names}


class _Level(nn.Module):
    """Fuse a level with the deeper one, bring it to the teacher's size, filter it."""

    def __init__(
        self,
        own: StageSpec,
        target: StageSpec,
        mid_channels: int,
        channels_of_deeper: int | None,
        options: FrequencyAttentionOptions,
    ) -> None:
        super().__init__()
        self.size = (target.height, target.width)
        self.reduce_own = _to_channels(own.channels, mid_channels)
        if channels_of_deeper is not None:
            self.reduce_deeper = _to_channels(channels_of_deeper, mid_channels)
            self.attend = _NeighbourAttention(mid_channels)
        self.filter = nn.Sequential(
            FrequencyAttention(mid_channels, target.channels, target.height, target.width, options),
            BatchNorm(target.channels),
            nn.ReLU(),
        )

    def forward(self, own_BCHW: Tensor, deeper_BCHW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the features to compare, and those that the next shallower level builds on."""
        x_BCHW = self.reduce_own(own_BCHW)
        if deeper_BCHW is not None:
            query_BCHW = F.interpolate(self.reduce_deeper(deeper_BCHW), x_BCHW.shape[-2:], mode="nearest")
            x_BCHW = self.attend(x_BCHW, query_BCHW)
        if x_BCHW.shape[-2:] != self.size:
            x_BCHW = F.interpolate(x_BCHW, self.size, mode="nearest")
        return self.filter(x_BCHW), x_BCHW


class _NeighbourAttention(nn.Module):
    """Attention over the 3x3 neighbourhood of each position, with a softmax of its own in every channel.

    Keys have a learned offset that depends on the neighbour's row in the first half of the channels and on its column
    in the second (Ramachandran et al. 2019, arXiv:1906.05909). Beyond the border keys and values are 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(3))
        for convolution in (self.key, self.query, self.value):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        self.row_offset_C3 = nn.Parameter(torch.randn(channels // 2, 3))
        self.column_offset_C3 = nn.Parameter(torch.randn(channels - channels // 2, 3))

    def forward(self, x_BCHW: Tensor, query_BCHW: Tensor) -> Tensor:
        """Return features of shape (B, C, H, W): keys and values from x, the query from the deeper level."""
        offset_NC = torch.cat([self.row_offset_C3.repeat_interleave(3, dim=1), self.column_offset_C3.repeat(1, 3)]).T
        keys_NBHWC = _neighbours(widen(self.key(x_BCHW))) + offset_NC[:, None, None, None]
        score_NBHWC = widen(self.query(query_BCHW)).permute(0, 2, 3, 1) * keys_NBHWC
        weighted_NBHWC = score_NBHWC.softmax(dim=0) * _neighbours(widen(self.value(x_BCHW)))
        return weighted_NBHWC.sum(dim=0).permute(0, 3, 1, 2)


def _neighbours(x_BCHW: Tensor) -> Tensor:
    """Return the 3x3 neighbourhood of every position, zeros beyond the border, shape (9, B, H, W, C).

    Neighbours come first and channels last, so that what follows runs over memory in order.
    """
    height, width = x_BCHW.shape[-2:]
    padded_BHWC = F.pad(x_BCHW.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    shifted = [padded_BHWC[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return torch.stack(shifted)


def _to_channels(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Identity() if in_channels == out_channels else conv_norm(in_channels, out_channels, relu=True)


def _levels(model: ModelSpec) -> tuple[StageSpec, ...]:
    return (*model.stages, StageSpec(model.pooled_dim, 1, 1))


def _maps(outputs: Outputs) -> tuple[Tensor, ...]:
    return (*outputs.stages, outputs.pooled_BD[:, :, None, None])
