"""Frequency attention from layer to layer: each student stage is filtered and compared with its teacher stage.

Paper (P2): Pham, Nguyen, Nguyen, Pham, Nguyen and Vu, "Frequency Attention for Knowledge Distillation", WACV 2024,
arXiv:2403.05894; the layer-to-layer variant.
Released code: none; the repository holds the review-style variant only
(https://github.com/cuong-pv/FAM-KD/issues/1, open).

Per stage: the student's features, brought to the teacher's size by nearest neighbours, pass frequency attention
(F_out = rate_global F_global + rate_local F_local); the loss is the mean squared error to the teacher's features,
summed over stages.

Differences from the paper: choices where the description leaves some: no normalisation or ReLU after F_out, so that
signed maps can be met; all stages; no pooled features; `mid_channels` bounds the filter by a 1x1 convolution with batch
normalisation and ReLU before it. Filter, initialisation and high-pass filter are those of `fam`.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor, nn

from dctkd.functional.distances import mean_squared_error_per_sample
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.frequency_attention import FrequencyAttention, FrequencyAttentionOptions
from dctkd.methods.layers import conv_norm
from dctkd.models import ModelSpec, Outputs, StageSpec


class FAMLayer(Method):
    """Sum over stages of MSE(frequency attention(student stage), teacher stage)."""

    Options = FrequencyAttentionOptions
    title = "FAM (layer to layer)"
    paper = (
        "Pham, Nguyen, Nguyen, Pham, Nguyen and Vu: Frequency Attention for Knowledge Distillation. WACV 2024, "
        "arXiv:2403.05894; layer-to-layer variant."
    )
    year = 2024
    features = "stages"
    default_weight = 1.0
    default_weight_source = "That of fam; the variant was not released"
    default_warmup_epochs = 1.0

    def __init__(
        self, student: ModelSpec, teacher: ModelSpec, data: DataSpec, options: FrequencyAttentionOptions
    ) -> None:
        """Make one filter per stage; see `Method`."""
        super().__init__(student, teacher, data, options)
        self.filters = nn.ModuleList(
            _filter(own, target, options) for own, target in zip(student.stages, teacher.stages, strict=True)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return one term per stage, {"stage1": ...}."""
        triples = zip(self.filters, student.stages, teacher.stages, strict=True)
        return {
            f"stage{n}": batch.mean(mean_squared_error_per_sample(filtered(own_BCHW), target_BCHW))
            for n, (filtered, own_BCHW, target_BCHW) in enumerate(triples, start=1)
        }


def _filter(own: StageSpec, target: StageSpec, options: FrequencyAttentionOptions) -> nn.Sequential:
    mid = options.bounded(own.channels)
    reduce = [] if mid == own.channels else [conv_norm(own.channels, mid, relu=True)]
    resize = nn.Upsample((target.height, target.width), mode="nearest")
    filtered = FrequencyAttention(mid, target.channels, target.height, target.width, options)
    return nn.Sequential(*reduce, resize, filtered)
