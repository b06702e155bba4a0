"""The half-spectrum filter of `fam` against the full complex form: time and peak memory of forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.memory import peak_bytes
from benchmarks.ratios import Ratio, interleave, ratio_of_medians
from benchmarks.results import Section
from benchmarks.settings import Setting
from dctkd.functional.fourier import filter_real_maps, gradient_scale

BATCH_SIZE = 64
SIZES = ((64, 56), (512, 7))
REPEATS = 7


def measure_filter(setting: Setting) -> Section:
    """Compare our time and memory with fft2, einsum with weights (I, O, H, W), ifft2 and the real part."""
    torch.set_num_threads(2)
    ratios = []
    for channels, side in SIZES[1:] if setting.is_quick else SIZES:
        detail = f"{channels} channels, {side}x{side}, batch {BATCH_SIZE}, forward and backward, two threads"
        actions = [_half(channels, side), _full(channels, side)]
        interleave(actions, 1)
        value, low, high = ratio_of_medians(*interleave(actions, setting.repeats(REPEATS)))
        ratios.append(Ratio("half-spectrum filter / full form, time", value, low, high, at_most=0.5, detail=detail))
        memory = peak_bytes(lambda: _half(channels, side)()) / peak_bytes(lambda: _full(channels, side)())  # noqa: B023
        name = "half-spectrum filter / full form, peak memory with inputs and weights"
        ratios.append(Ratio(name, memory, memory, memory, at_most=0.6, detail=detail))
    about = "Forward and backward of the learnable filter of `fam`, against the full complex form."
    return Section("The half-spectrum filter", about, tuple(ratios))


def _half(channels: int, side: int) -> Callable[[], float]:
    weight = torch.randn(side // 2 + 1, side, channels, channels, 2, requires_grad=True)
    scale = gradient_scale(torch.ones(side, side))
    return _step(channels, side, weight, lambda x: filter_real_maps(x, torch.view_as_complex(weight), scale))


def _full(channels: int, side: int) -> Callable[[], float]:
    weight = torch.randn(channels, channels, side, side, dtype=torch.complex64, requires_grad=True)

    def filtered(x_BIHW: Tensor) -> Tensor:
        spectrum = torch.einsum("bihw,iohw->bohw", torch.fft.fft2(x_BIHW, norm="ortho"), weight)
        return torch.fft.ifft2(spectrum, norm="ortho").real

    return _step(channels, side, weight, filtered)


def _step(channels: int, side: int, weight: Tensor, filtered: Callable[[Tensor], Tensor]) -> Callable[[], float]:
    x_BCHW = torch.randn(BATCH_SIZE, channels, side, side, requires_grad=True)
    cotangent_BCHW = torch.randn(BATCH_SIZE, channels, side, side)

    def step() -> float:
        started = time.perf_counter()
        filtered(x_BCHW).backward(cotangent_BCHW)
        seconds = time.perf_counter() - started
        x_BCHW.grad = weight.grad = None
        return seconds

    return step
