"""Batches for a GPU whose memory the dataset does not fit: cut by a thread, sent ahead on a stream of their own.

A ring of DEPTH slots goes round between the thread and the consumer. Each slot has a pinned buffer on the host and a
buffer on the device, and two events order their use:

- `sent`: the copy has left the host's buffer and arrived. The thread waits for it before it writes that buffer again,
  the consumer's stream before it reads the device's.
- `read`: the consumer's stream has read the device's buffer. The copying stream waits for it before the next copy.

Suffix: B batch, H rows, W columns, C channels, M crops of an epoch.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dctkd.data.host import Gatherer
from dctkd.data.inputs import Crops, InputRecipe, RawBatch, normalise

if TYPE_CHECKING:
    from dctkd.data.cache import PixelCache

DEPTH = 3
"""Slots of the ring: one is read by the network, one is on its way, one is filled."""


@dataclass(frozen=True)
class Slot:
    """A batch's place on the host and on the device; the events are torch.cuda.Event or do as it does."""

    host_BHWC: Tensor
    device_BHWC: Tensor
    sent: Any
    read: Any


class Lane(Protocol):
    """The way to a device."""

    device: torch.device

    def slot(self, *shape: int) -> Slot:
        """Return a fresh slot for uint8 pixels; its `read` is recorded: whoever had that memory before is done."""
        ...

    def send(self, slot: Slot, num_images: int) -> None:
        """Start the copy of a slot's first images, after its `read`; records its `sent`."""
        ...

    def receive(self, slot: Slot) -> None:
        """Let what the consumer starts from now on wait for the slot's `sent`."""
        ...

    def release(self, slot: Slot) -> None:
        """Record the slot's `read` after all that the consumer has started."""
        ...

    def close(self) -> None:
        """Wait until no copy is under way any more."""
        ...


class CudaLane:
    """A stream of its own to a GPU."""

    def __init__(self, device: torch.device) -> None:
        """Open a stream on `device`."""
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def slot(self, *shape: int) -> Slot:
        """Return a fresh slot; see `Lane`."""
        host_BHWC = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        device_BHWC = torch.empty(shape, dtype=torch.uint8, device=self.device)
        sent, read = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]
        slot = Slot(host_BHWC, device_BHWC, sent, read)
        self.release(slot)
        return slot

    def send(self, slot: Slot, num_images: int) -> None:
        """Start the copy; see `Lane`."""
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(slot.read)
            slot.device_BHWC[:num_images].copy_(slot.host_BHWC[:num_images], non_blocking=True)
            slot.sent.record(self.stream)

    def receive(self, slot: Slot) -> None:
        """Wait for the copy on the consumer's stream, not on the host; see `Lane`."""
        torch.cuda.current_stream(self.device).wait_event(slot.sent)

    def release(self, slot: Slot) -> None:
        """Record that the slot is read; see `Lane`."""
        slot.read.record(torch.cuda.current_stream(self.device))

    def close(self) -> None:
        """Wait for the stream: the buffers are freed after this, and must not be written to then."""
        self.stream.synchronize()


class PrefetchSource:
    """Pixels stay in the cache's file; a thread cuts crops ahead, the device mirrors and normalises them."""

    def __init__(self, cache: PixelCache, recipe: InputRecipe, lane: Lane) -> None:
        """Take batches from `cache`, which fits the recipe, to the lane's device."""
        self.cache, self.recipe, self.lane = cache, recipe, lane

    def read(self, crops: Crops) -> Generator[RawBatch]:
        """Yield the batches of some crops, on the device.

        What the thread raises is raised here. The thread ends when the iterator is exhausted, closed or dropped.
        """
        numbers = np.stack([self.cache.labels(crops.split)[crops.index_M], crops.index_M, crops.flip_M])
        table = torch.from_numpy(numbers).to(self.lane.device)
        ring = _Ring(self.cache, crops, self.recipe.crop, self.lane)
        try:
            for rows in crops.batches:
                target_B, index_B, flip_B = table[:, rows]
                slot = ring.take()
                self.lane.receive(slot)
                images_BCHW = normalise(_mirrored(slot.device_BHWC[: len(index_B)], flip_B), self.recipe)
                self.lane.release(slot)
                ring.give_back(slot)
                yield RawBatch(images_BCHW, target_B, index_B)
        finally:
            ring.close()


def _mirrored(pixels_BHWC: Tensor, flip_B: Tensor) -> Tensor:
    return torch.where(flip_B.bool().view(-1, 1, 1, 1), pixels_BHWC.flip(2), pixels_BHWC).contiguous()


class _Ring:
    """The slots, and the thread that fills them in order."""

    def __init__(self, cache: PixelCache, crops: Crops, side: int, lane: Lane) -> None:
        self._lane, self._batches = lane, crops.batches
        self._gather = Gatherer(cache, crops, side)
        self._free: SimpleQueue[Slot | None] = SimpleQueue()
        self._full: SimpleQueue[Slot | BaseException] = SimpleQueue()
        self._is_closed = Flag()
        largest = max((rows.stop - rows.start for rows in crops.batches), default=0)
        for _ in range(min(DEPTH, len(crops.batches))):
            self._free.put(lane.slot(largest, side, side, 3))
        self._thread = Thread(target=self._fill, name="dctkd-prefetch", daemon=True)
        self._thread.start()

    def take(self) -> Slot:
        """Return the next filled slot; raises what stopped the thread."""
        slot = self._full.get()
        if isinstance(slot, BaseException):
            raise slot
        return slot

    def give_back(self, slot: Slot) -> None:
        self._free.put(slot)

    def close(self) -> None:
        """End the thread, which is at most one batch from asking."""
        self._is_closed.set()
        self._free.put(None)
        self._thread.join()
        self._lane.close()

    def _fill(self) -> None:
        try:
            for rows in self._batches:
                slot = self._free.get()
                if slot is None or self._is_closed.is_set():
                    return
                slot.sent.synchronize()
                num_images = rows.stop - rows.start
                self._gather(slot.host_BHWC[:num_images].numpy(), rows, np.zeros(num_images, dtype=np.bool_))
                self._lane.send(slot, num_images)
                self._full.put(slot)
        except BaseException as error:  # the consumer raises it
            self._full.put(error)
