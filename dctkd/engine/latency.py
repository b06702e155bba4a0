"""How long a network takes to classify a batch: its latency.

The latency is the wall time from the moment at which a batch lies on the device until its logits are there. Decoding,
cropping and copying images is outside. What is timed is the plain network that a run exports, in evaluation mode,
without gradient and in channels_last, with the threads and the precision of the student's recipe: as the benchmark
tests its students. In bfloat16 the weights are float32 and autocast converts them in every pass, which counts. Its
weights are random: they do not change the time.

At batch size 1 the latency is what one image waits for; at 64 the time per image is what throughput is made of. The
median is over repeats, after passes that do not count; the 10th and 90th percentile say how steady the machine was.
Seconds compare only between networks measured on one machine at one time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dctkd.engine.device import Precision
from dctkd.models import StageModel, evaluating

BATCH_SIZES = (1, 64)
NUM_WARMUPS = 3
MIN_REPEATS, MAX_REPEATS = 10, 200
ENOUGH_S = 1.0
"""Repeats end when they took this long together, but never below MIN_REPEATS."""


@dataclass(frozen=True)
class Setting:
    """Where and how networks are timed.

    Attributes:
        device: The device.
        precision: Resolved precision.
        threads: CPU threads.
    """

    device: torch.device
    precision: Precision
    threads: int


@dataclass(frozen=True)
class Latency:
    """Wall time of a network's forward for one batch.

    Attributes:
        median_seconds: Median over the repeats, in seconds per batch (not per image).
        p10_seconds: 10th percentile, likewise.
        p90_seconds: 90th percentile, likewise.
        repeats: Number of timed passes.
    """

    median_seconds: float
    p10_seconds: float
    p90_seconds: float
    repeats: int

    def to_dict(self) -> dict[str, Any]:
        """Return the record of speed.json."""
        return asdict(self)


@torch.no_grad()
def measure_latency(model: StageModel, *, batch_size: int, input_size: int, setting: Setting) -> Latency:
    """Time a network on random images.

    Moves the network to the device and to channels_last, where it stays, and sets torch's number of threads; the mode
    of each of its parts is left as it was.

    Args:
        model: The network; its plain network is timed, so stage maps are neither kept nor returned.
        batch_size: Images per batch, at least 1.
        input_size: Side of the square images, in pixels.
        setting: Device, precision and threads.
    """
    kind = setting.device.type
    torch.set_num_threads(setting.threads)
    model.to(setting.device).to(memory_format=torch.channels_last)
    shape = (batch_size, 3, input_size, input_size)
    images_BCHW = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    images_BCHW = images_BCHW.to(setting.device).contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=setting.precision == "bfloat16"):
            model.net(images_BCHW)
        if kind == "cuda":  # a forward only queues its kernels
            torch.cuda.synchronize(setting.device)

    with evaluating(model):
        return time_repeats(forward)


def time_repeats(action: Callable[[], object], *, clock: Callable[[], float] = time.perf_counter) -> Latency:
    """Time an action again and again, until ENOUGH_S seconds are spent or MAX_REPEATS reached.

    Args:
        action: What is timed; it returns when its work is done.
        clock: Seconds, from any start.

    Example:
        >>> ticks = iter(range(1000))
        >>> time_repeats(lambda: None, clock=lambda: float(next(ticks)))
        Latency(median_seconds=1.0, p10_seconds=1.0, p90_seconds=1.0, repeats=10)
    """
    import numpy as np

    for _ in range(NUM_WARMUPS):
        action()
    seconds: list[float] = []
    while len(seconds) < MIN_REPEATS or (len(seconds) < MAX_REPEATS and sum(seconds) < ENOUGH_S):
        started = clock()
        action()
        seconds.append(clock() - started)
    p10, median, p90 = (float(value) for value in np.percentile(seconds, [10, 50, 90]))
    return Latency(median, p10, p90, len(seconds))
