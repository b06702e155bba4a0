"""The frequency attention module that `fam` and `fam_layer` train, and the options they share.

Shapes: B images, I input channels, O output channels, H rows, W columns, V = W // 2 + 1 columns of a half spectrum.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from dctkd.functional.fourier import filter_real_maps, gradient_scale, half_spectrum, high_pass_mask
from dctkd.functional.precision import widen
from dctkd.methods.options import MethodOptions


class FrequencyAttentionOptions(MethodOptions):
    """Options of fam and fam_layer."""

    mid_channels: int | None = Field(
        None,
        ge=1,
        description="upper bound of the channels that enter the filter, whose size grows with them; null: those of the "
        "student (the release's MID_CHANNELS)",
    )
    high_pass: Literal["released", "symmetric", "none"] = Field(
        "released",
        description="which low frequencies are removed; released: -r ... r - 1, symmetric: -r ... r, none: none; "
        "r = int(cutoff * int(size / 2)) along each side",
    )
    cutoff: float = Field(
        0.1, ge=0, le=1, description="removed fraction of the frequencies along each side, no unit; release: cuton 0.1"
    )
    global_branch: bool = Field(True, description="the filter in the frequency domain (F_global in the paper)")
    local_branch: bool = Field(True, description="the 1x1 convolution beside it (F_local in the paper)")

    @model_validator(mode="after")
    def _has_a_branch(self) -> Self:
        if not (self.global_branch or self.local_branch):
            raise ValueError("global_branch and local_branch must not both be false")
        return self

    def bounded(self, channels: int) -> int:
        """Return the channels that enter a filter, given the student's."""
        return channels if self.mid_channels is None else min(channels, self.mid_channels)


class FrequencyAttention(nn.Module):
    """rate_global * (filter in the frequency domain) + rate_local * (1x1 convolution), both rates learned from 1/2.

    The filter is complex, one I x O matrix per frequency, kept as real pairs (..., 2) of the half spectrum, so that
    autocast, data parallelism and fused optimisers treat it like any parameter. It is initialised from a full draw,
    (U[0, 1) + i U[0, 1)) / (I O) as released, masked by the high-pass filter and folded; its gradient is scaled so that
    a step of SGD moves it as it would move the released, full filter.

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        height: Rows H of the maps.
        width: Columns W of the maps.
        options: High-pass filter and branches.
    """

    gradient_scale_VH: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, height: int, width: int, options: FrequencyAttentionOptions
    ) -> None:
        super().__init__()
        self.filter_VHIO2: nn.Parameter | None = None
        self.local: nn.Conv2d | None = None
        if options.global_branch:
            mask_HW = high_pass_mask(height, width, cutoff=options.cutoff, kind=options.high_pass)
            self.filter_VHIO2 = nn.Parameter(_initial_filter(in_channels, out_channels, mask_HW))
            self.register_buffer("gradient_scale_VH", gradient_scale(mask_HW).float(), persistent=False)
            self.rate_global = nn.Parameter(torch.tensor(0.5))
        if options.local_branch:
            self.local = nn.Conv2d(in_channels, out_channels, kernel_size=1)
            self.rate_local = nn.Parameter(torch.tensor(0.5))

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """Return features of shape (B, O, H, W), float32 or wider, of features of shape (B, I, H, W)."""
        parts: list[Tensor] = []
        if self.filter_VHIO2 is not None:
            weight_VHIO = torch.view_as_complex(self.filter_VHIO2)
            parts.append(self.rate_global * filter_real_maps(x_BIHW, weight_VHIO, self.gradient_scale_VH))
        if self.local is not None:
            parts.append(self.rate_local * widen(self.local(x_BIHW)))
        return sum(parts[1:], start=parts[0])


def _initial_filter(in_channels: int, out_channels: int, mask_HW: Tensor) -> Tensor:
    """Draw the full filter one input channel at a time (it is twice as large as what is kept), mask it and fold it."""
    height, width = mask_HW.shape
    filter_VHIO2 = torch.empty(width // 2 + 1, height, in_channels, out_channels, 2)
    mask_HW = mask_HW.float() / (in_channels * out_channels)
    for channel in range(in_channels):
        full_OHW = torch.view_as_complex(torch.rand(out_channels, height, width, 2))
        half_OHV = half_spectrum(mask_HW * full_OHW)
        filter_VHIO2[:, :, channel] = torch.view_as_real(half_OHV.permute(2, 1, 0).contiguous())
    return filter_VHIO2
