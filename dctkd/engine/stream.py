"""The training and test batches of a job, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import torch

from dctkd.config import InputRecipe
from dctkd.data.batches import steps_per_epoch, test_batches, train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.inputs import PixelSource, RawBatch
from dctkd.data.manifest import SPLITS
from dctkd.data.pixel_source import choose_source
from dctkd.data.resident import ResidentSource
from dctkd.methods.base import Batch

TEST_BATCH_SIZE = 256
"""Fixed: the last bits of a forward pass can depend on the batch size, and no recipe should change them."""


@dataclass(frozen=True)
class Stream:
    """All batches that runs of one dataset, seed and recipe see, in order.

    Attributes:
        may_be_resident: Whether a GPU may hold all pixels if the dataset is small (`choose_source`).
    """

    cache: PixelCache
    recipe: InputRecipe
    seed: int
    batch_size: int
    epochs: int
    device: torch.device
    may_be_resident: bool = True

    def __post_init__(self) -> None:
        """Choose the source at once: what a GPU has free is asked before networks take of it."""
        _ = self.source

    @cached_property
    def source(self) -> PixelSource:
        """The way of the pixels to the device."""
        return choose_source(self.cache, self.recipe, self.device, may_be_resident=self.may_be_resident)

    @property
    def is_resident(self) -> bool:
        """Tell whether pixels take device memory that networks could have."""
        return isinstance(self.source, ResidentSource)

    @property
    def resident_bytes(self) -> int:
        """Bytes of device memory that pixels take, or will when they are first asked for."""
        return sum(self.cache.pixels(split).nbytes for split in SPLITS) if self.is_resident else 0

    @property
    def steps_per_epoch(self) -> int:
        """Training batches of one epoch."""
        return steps_per_epoch(self.cache.num_images("train"), self.batch_size)

    @property
    def total_steps(self) -> int:
        """Training batches of the whole run."""
        return self.steps_per_epoch * self.epochs

    def train(self, start: int, stop: int) -> Generator[Batch]:
        """Yield the batches of steps `start` to `stop` - 1; starting in mid-epoch skips nothing and repeats nothing."""
        step = start
        while step < stop:
            epoch, first = divmod(step, self.steps_per_epoch)
            raws = train_batches(
                self.cache,
                self.recipe,
                seed=self.seed,
                epoch=epoch,
                batch_size=self.batch_size,
                source=self.source,
                start=first,
            )
            with closing(raws):  # a thread may stand behind them
                for raw in raws:
                    yield self._batch(raw, epoch, step / max(self.total_steps, 1))
                    step += 1
                    if step == stop:
                        return

    def test(self) -> Generator[Batch]:
        """Yield the whole test set in official order, in batches of a fixed size."""
        raws = test_batches(self.cache, self.recipe, batch_size=TEST_BATCH_SIZE, source=self.source)
        with closing(raws):
            for raw in raws:
                yield self._batch(raw, self.epochs, 1.0)

    @staticmethod
    def _batch(raw: RawBatch, epoch: int, progress: float) -> Batch:
        return Batch(raw.images_BCHW, raw.target_B, raw.index_B, epoch=epoch, progress=progress)
