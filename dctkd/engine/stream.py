"""The training and test batches of a job, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dctkd.config import InputRecipe
from dctkd.data.batches import RawBatch, steps_per_epoch, test_batches, train_batches
from dctkd.data.cache import PixelCache
from dctkd.methods.base import Batch

TEST_BATCH_SIZE = 256
"""Fixed: the last bits of a forward pass can depend on the batch size, and no recipe should change them."""


@dataclass(frozen=True)
class Stream:
    """All batches that runs of one dataset, seed and recipe see, in order."""

    cache: PixelCache
    recipe: InputRecipe
    seed: int
    batch_size: int
    epochs: int
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        """Training batches of one epoch."""
        return steps_per_epoch(self.cache.num_images("train"), self.batch_size)

    @property
    def total_steps(self) -> int:
        """Training batches of the whole run."""
        return self.steps_per_epoch * self.epochs

    def train(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps `start` to `stop` - 1; starting in mid-epoch skips nothing and repeats nothing."""
        step = start
        while step < stop:
            epoch, first = divmod(step, self.steps_per_epoch)
            for raw in train_batches(
                self.cache,
                self.recipe,
                seed=self.seed,
                epoch=epoch,
                batch_size=self.batch_size,
                device=self.device,
                start=first,
            ):
                yield self._batch(raw, epoch, step / max(self.total_steps, 1))
                step += 1
                if step == stop:
                    return

    def test(self) -> Iterator[Batch]:
        """Yield the whole test set in official order, in batches of a fixed size."""
        for raw in test_batches(self.cache, self.recipe, batch_size=TEST_BATCH_SIZE, device=self.device):
            yield self._batch(raw, self.epochs, 1.0)

    @staticmethod
    def _batch(raw: RawBatch, epoch: int, progress: float) -> Batch:
        return Batch(raw.images_BCHW, raw.target_B, raw.index_B, epoch=epoch, progress=progress)
