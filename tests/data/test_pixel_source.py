"""Whichever way pixels take to the device, they are the same; no GPU is needed to see it."""

import threading
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dctkd.config import InputRecipe
from dctkd.data import batches, pixel_source, prefetch
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.host import Gatherer, HostSource
from dctkd.data.inputs import Crops
from dctkd.data.packing import pack
from dctkd.data.prefetch import DEPTH, CudaLane, PrefetchSource, Slot
from dctkd.data.resident import RESIDENT_SHARE, ResidentSource, gather_index, is_small_enough, pixel_places

RECIPE = InputRecipe(short_side=40, crop=32)
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def cache(tmp_path, make_miniplaces):
    """Photographs of several sizes, 12 for training, 6 for testing."""
    packed = pack(read_manifest(make_miniplaces(tmp_path / "data"), Options()), tmp_path / "cache", short_side=40)
    assert len(np.unique(packed.sizes("train"), axis=0)) > 3
    return packed


class CheckedLane:
    """A lane on the CPU that fails where a buffer is used before its turn."""

    device = CPU

    def __init__(self):
        self.slots, self.num_waiting, self.most_waiting, self.is_closed = [], 0, 0, False

    def slot(self, *shape):
        slot = Slot(*(torch.zeros(shape, dtype=torch.uint8) for _ in range(2)), CheckedCopy(self), None)
        slot.sent.slot = weakref.proxy(slot)
        self.slots.append(slot)
        return slot

    def send(self, slot, num_images):
        slot.sent.start(num_images)
        self.num_waiting += 1
        self.most_waiting = max(self.most_waiting, self.num_waiting)

    def receive(self, slot):
        self.num_waiting -= 1
        slot.device_BHWC[:] = slot.sent.content

    def release(self, slot):
        slot.sent.is_read = True
        slot.device_BHWC.fill_(77)  # what is still used of it is wrong from now on

    def close(self):
        self.is_closed = True


class CheckedCopy:
    """The event of a copy that takes until somebody waits for it: the host's buffer must not change before."""

    def __init__(self, lane):
        self.content, self.is_waited_for, self.is_read = None, True, True

    def start(self, num_images):
        assert self.is_waited_for, "a host buffer was filled while its copy was under way"
        assert self.is_read, "a device buffer was overwritten before it was read"
        self.content, self.is_waited_for, self.is_read = self.slot.host_BHWC.clone(), False, False

    def synchronize(self):
        assert self.content is None or torch.equal(self.content, self.slot.host_BHWC)
        self.is_waited_for = True


@pytest.fixture(params=["resident", "prefetch"])
def source(request, cache):
    return ResidentSource(cache, RECIPE, CPU) if request.param == "resident" else PrefetchSource(
        cache, RECIPE, CheckedLane()
    )  # fmt: skip


def require_same(drawn, expected):
    drawn, expected = list(drawn), list(expected)
    assert len(drawn) == len(expected) > 0
    for one, other in zip(drawn, expected, strict=True):
        assert one.images_BCHW.is_contiguous(memory_format=torch.channels_last)
        for name in ("images_BCHW", "target_B", "index_B"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype


def threads_at_work():
    return [thread for thread in threading.enumerate() if thread.name == "dctkd-prefetch"]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 11, 12, 100])
def test_training_batches_have_the_bits_of_the_host_s(cache, source, batch_size):
    for seed in range(2):
        for epoch in range(2):
            draws = {"seed": seed, "epoch": epoch, "batch_size": batch_size}
            expected = batches.train_batches(cache, RECIPE, **draws)
            require_same(batches.train_batches(cache, RECIPE, **draws, source=source), expected)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_mirrored_and_plain_crops_at_every_corner_have_the_bits_of_the_host_s(cache, source, is_mirrored):
    sizes_N2 = cache.sizes("train")
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        top_N, left_N = ((sizes_N2 - RECIPE.crop) * corner).T
        flip_N = np.full(len(sizes_N2), is_mirrored)
        crops = Crops("train", np.arange(len(sizes_N2)), top_N, left_N, flip_N, [slice(0, 7), slice(7, len(sizes_N2))])
        require_same(source.read(crops), HostSource(cache, RECIPE).read(crops))


@pytest.mark.parametrize("batch_size", [4, 6, 100])
def test_test_batches_have_the_bits_of_the_host_s(cache, source, batch_size):
    expected = batches.test_batches(cache, RECIPE, batch_size=batch_size)
    require_same(batches.test_batches(cache, RECIPE, batch_size=batch_size, source=source), expected)


def test_an_epoch_can_start_at_any_batch_of_any_source(cache, source):
    for start in range(3):
        draws = {"seed": 0, "epoch": 0, "batch_size": 5, "start": start}
        require_same(batches.train_batches(cache, RECIPE, **draws, source=source),
                     batches.train_batches(cache, RECIPE, **draws))  # fmt: skip
    draws |= {"start": 3}
    assert list(batches.train_batches(cache, RECIPE, **draws, source=source)) == []


def test_a_test_in_the_middle_of_an_epoch_disturbs_nothing(cache, source):
    draws = {"seed": 0, "epoch": 0, "batch_size": 3}
    drawn, expected = batches.train_batches(cache, RECIPE, **draws, source=source), []
    seen = [next(drawn)]
    require_same(batches.test_batches(cache, RECIPE, batch_size=2, source=source),
                 batches.test_batches(cache, RECIPE, batch_size=2))  # fmt: skip
    expected = batches.train_batches(cache, RECIPE, **draws)
    require_same([*seen, *drawn], expected)


def test_places_beyond_4_gib_are_not_cut_off():
    cache = SimpleNamespace(sizes=lambda split: np.array([[9, 10]]), offsets=lambda split: np.array([3 * (2**33 + 5)]))
    for flip, expected in ((False, [[22, 23, 24], [32, 33, 34]]), (True, [[24, 23, 22], [34, 33, 32]])):
        crops = Crops("train", np.array([0]), np.array([2]), np.array([2]), np.array([flip]), [slice(0, 1)])
        first, pitch, step = (torch.from_numpy(numbers) for numbers in pixel_places(cache, crops, 3))
        place_BSS = gather_index(first, pitch, step, torch.arange(3))
        assert (place_BSS[0, :2] - 2**33 - 5).tolist() == expected


def test_large_splits_are_uploaded_in_parts(cache, monkeypatch):
    monkeypatch.setattr("dctkd.data.resident.UPLOAD_BYTES", 1000)
    source = ResidentSource(cache, RECIPE, CPU)
    require_same(batches.test_batches(cache, RECIPE, batch_size=6, source=source),
                 batches.test_batches(cache, RECIPE, batch_size=6))  # fmt: skip


def test_a_batch_is_cut_ahead_but_no_more_than_the_ring_holds(cache):
    lane = CheckedLane()
    drawn = batches.train_batches(
        cache, RECIPE, seed=0, epoch=0, batch_size=2, source=PrefetchSource(cache, RECIPE, lane)
    )
    assert len(list(drawn)) == 6
    assert len(lane.slots) == DEPTH
    assert lane.most_waiting <= DEPTH


def test_what_the_thread_raises_reaches_the_consumer(cache, monkeypatch):
    def cut(self, out_BHWC, rows, flip_B):
        if rows.start == 4:
            raise OSError("the disk is gone")
        gather(self, out_BHWC, rows, flip_B)

    gather = Gatherer.__call__
    monkeypatch.setattr(Gatherer, "__call__", cut)
    source = PrefetchSource(cache, RECIPE, CheckedLane())
    drawn = batches.train_batches(cache, RECIPE, seed=0, epoch=0, batch_size=2, source=source)
    assert len([next(drawn), next(drawn)]) == 2
    with pytest.raises(OSError, match="the disk is gone"):
        next(drawn)
    assert threads_at_work() == []


def test_an_exhausted_iterator_leaves_no_thread(cache):
    lane = CheckedLane()
    list(batches.test_batches(cache, RECIPE, batch_size=2, source=PrefetchSource(cache, RECIPE, lane)))
    assert threads_at_work() == []
    assert lane.is_closed


@pytest.mark.parametrize("num_taken", [1, 2])
def test_a_closed_or_dropped_iterator_leaves_no_thread(cache, num_taken):
    source = PrefetchSource(cache, RECIPE, CheckedLane())
    for leave in (lambda drawn: drawn.close(), lambda drawn: None):
        drawn = batches.train_batches(cache, RECIPE, seed=0, epoch=0, batch_size=2, source=source)
        for _ in range(num_taken):
            next(drawn)
        assert threads_at_work() != []
        leave(drawn)
        del drawn
        assert threads_at_work() == []


def test_an_interrupt_while_waiting_for_a_batch_leaves_no_thread(cache, monkeypatch):
    def take(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(prefetch._Ring, "take", take)
    source = PrefetchSource(cache, RECIPE, CheckedLane())
    with pytest.raises(KeyboardInterrupt):
        list(batches.test_batches(cache, RECIPE, batch_size=2, source=source))
    assert threads_at_work() == []


def test_pixels_are_resident_up_to_a_quarter_of_free_memory(cache):
    num_bytes = sum(cache.pixels(split).nbytes for split in ("train", "test"))
    assert RESIDENT_SHARE == 0.25
    assert is_small_enough(cache, 4 * num_bytes)
    assert not is_small_enough(cache, 4 * num_bytes - 1)


def test_the_source_is_chosen_by_device_and_free_memory(cache, monkeypatch):
    monkeypatch.setattr(pixel_source, "CudaLane", lambda device: CheckedLane())

    def chosen(device, free, **more):
        monkeypatch.setattr(pixel_source, "free_bytes", lambda device: free)
        return type(pixel_source.choose_source(cache, RECIPE, device, **more))

    assert chosen(CPU, 0) is HostSource
    assert chosen(CUDA, 10**12) is ResidentSource
    assert chosen(CUDA, 10**12, may_be_resident=False) is PrefetchSource
    assert chosen(CUDA, 1000) is PrefetchSource


def test_a_copy_to_the_gpu_waits_for_the_reader_and_the_reader_for_the_copy(monkeypatch):
    calls = []

    class Event:
        def record(self, stream):
            calls.append((stream.name, "records", self))

    class Stream:
        def __init__(self, device=None, name="copies"):
            self.name = name

        def wait_event(self, event):
            calls.append((self.name, "waits for", event))

        def synchronize(self):
            calls.append((self.name, "is waited for", None))

    @contextmanager
    def entered(stream):
        calls.append((stream.name, "enters", None))
        yield
        calls.append((stream.name, "leaves", None))

    consumer, empty = Stream(name="consumer"), torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, **where: empty(shape, dtype=dtype))
    fakes = {"Stream": Stream, "Event": Event, "stream": entered, "current_stream": lambda device: consumer}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    lane = CudaLane(CUDA)
    slot = lane.slot(2, 3, 3, 3)
    slot.host_BHWC.fill_(9)
    slot.device_BHWC.zero_()
    lane.send(slot, 1)
    lane.receive(slot)
    lane.release(slot)
    lane.close()
    assert calls == [
        ("consumer", "records", slot.read),
        ("copies", "enters", None),
        ("copies", "waits for", slot.read),
        ("copies", "records", slot.sent),
        ("copies", "leaves", None),
        ("consumer", "waits for", slot.sent),
        ("consumer", "records", slot.read),
        ("copies", "is waited for", None),
    ]
    assert slot.device_BHWC.flatten(1).unique(dim=1).tolist() == [[9], [0]]


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["resident", "prefetch"])
def test_a_batch_on_the_gpu_has_the_bits_of_one_on_the_cpu(cache, way):
    source = ResidentSource(cache, RECIPE, CUDA) if way == "resident" else PrefetchSource(
        cache, RECIPE, CudaLane(CUDA)
    )  # fmt: skip
    draws = {"seed": 0, "epoch": 0, "batch_size": 2}
    drawn = list(batches.train_batches(cache, RECIPE, **draws, source=source))
    for one, other in zip(drawn, batches.train_batches(cache, RECIPE, **draws), strict=True):
        assert one.images_BCHW.device.type == "cuda"
        assert one.images_BCHW.is_contiguous(memory_format=torch.channels_last)
        for name in ("images_BCHW", "target_B", "index_B"):
            assert torch.equal(getattr(one, name).cpu(), getattr(other, name))
