"""Layers that several methods train: convolutions with batch normalisation that also take a batch of one.

Shapes: B images, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that uses its running statistics where a channel has a single value.

    A batch of one image with a 1x1 map has no variance; `nn.BatchNorm2d` raises there.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise each channel of x, shape (B, C, H, W)."""
        if self.training and x_BCHW.numel() == x_BCHW.shape[1]:
            mean_C, var_C = self.running_mean, self.running_var
            return F.batch_norm(x_BCHW, mean_C, var_C, self.weight, self.bias, training=False, eps=self.eps)
        return super().forward(x_BCHW)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all inside it into evaluation mode within a `with` block, and back into the modes they had.

    Args:
        module: Its batch normalisations use their running statistics and leave them; weights get their gradients.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, is_training in modes:
            part.training = is_training


def conv_norm(in_channels: int, out_channels: int, *, kernel_size: int = 1, relu: bool) -> nn.Sequential:
    """Return a convolution that keeps the map's size, batch normalisation and, if asked, a ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel_size: Side of the kernel in positions, odd.
        relu: Whether a ReLU ends it.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        BatchNorm(out_channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))
