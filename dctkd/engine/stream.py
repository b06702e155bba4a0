"""The training and test batches of a job, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import torch

from dctkd.config import InputRecipe
from dctkd.data.batches import WHOLE, Part, batch_rows, steps_per_epoch, test_batches, train_batches
from dctkd.data.cache import PixelCache
from dctkd.data.inputs import PixelSource
from dctkd.data.manifest import SPLITS, CacheSplit
from dctkd.data.pixel_source import choose_source
from dctkd.data.resident import ResidentSource
from dctkd.methods.base import Batch

TEST_BATCH_SIZE = 256
"""Fixed: the last bits of a forward pass can depend on the batch size, and no recipe should change them."""


@dataclass(frozen=True)
class Piece(Batch):
    """What one process sees of a training batch.

    Attributes:
        num_whole: Images of the whole batch.
        counts: False in a process for which the batch has no image left: it computes, and adds nothing.
    """

    num_whole: int = 0
    counts: bool = True

    def share_of(self, part: Batch) -> float:
        """Return which fraction of the whole batch's images a part of this piece holds."""
        return len(part.target_B) / self.num_whole if self.counts else 0.0


@dataclass(frozen=True)
class Stream:
    """All batches that runs of one dataset, seed and recipe see, in order.

    Attributes:
        part: Of every training batch, and of the test batches, which this process takes.
        may_be_resident: Whether a GPU may hold all pixels if the dataset is small (`choose_source`).
    """

    cache: PixelCache
    recipe: InputRecipe
    seed: int
    batch_size: int
    epochs: int
    device: torch.device
    may_be_resident: bool = True
    part: Part = WHOLE

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

    @property
    def tested_splits(self) -> tuple[CacheSplit, ...]:
        """What networks are tested on: the test images, and the training images that are held out, if any."""
        return ("test", "held_out") if self.cache.holds_out else ("test",)

    def num_test_batches(self, split: CacheSplit) -> int:
        """Return the number of batches in which a split is tested, over all processes."""
        return -(-self.cache.num_images(split) // TEST_BATCH_SIZE)

    def train(self, start: int, stop: int) -> Generator[Piece]:
        """Yield the batches of steps `start` to `stop` - 1; starting in mid-epoch skips nothing and repeats nothing."""
        step = start
        rows = batch_rows(self.cache.num_images("train"), self.batch_size)
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
                part=self.part,
            )
            with closing(raws):  # a thread may stand behind them
                for raw in raws:
                    whole = rows[step % self.steps_per_epoch]
                    yield Piece(
                        raw.images_BCHW,
                        raw.target_B,
                        raw.index_B,
                        epoch=epoch,
                        progress=step / max(self.total_steps, 1),
                        num_whole=whole.stop - whole.start,
                        counts=self.part.rows_of(whole)[1],
                    )
                    step += 1
                    if step == stop:
                        return

    def test(self, split: CacheSplit = "test") -> Generator[Batch]:
        """Yield this process's test batches of a split, of a fixed size; alone, all of it in official order."""
        raws = test_batches(
            self.cache, self.recipe, batch_size=TEST_BATCH_SIZE, source=self.source, part=self.part, split=split
        )
        with closing(raws):
            for raw in raws:
                yield Batch(raw.images_BCHW, raw.target_B, raw.index_B, epoch=self.epochs, progress=1.0)
