from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from dctkd import worker_pool
from dctkd.data.decode_pool import decode_all
from dctkd.errors import InputError


class FakePool:
    """Decodes at once, in this process, and counts."""

    def __init__(self, workers, **_):
        self.submitted, self.error, self.is_shut_down = 0, None, False

    def submit(self, work, *arguments):
        self.submitted += 1
        future = Future()
        if self.error is None:
            future.set_result(work(*arguments))
        else:
            future.set_exception(self.error)
        return future

    def shutdown(self, **_):
        self.is_shut_down = True


@pytest.fixture
def pool(monkeypatch):
    pool = FakePool(2)
    monkeypatch.setattr(worker_pool, "ProcessPoolExecutor", lambda *_, **__: pool)
    return pool


def decode(tmp_path, num_images=40, **changes):
    paths = [f"{number}.jpg" for number in range(num_images)]
    return decode_all(tmp_path, paths, 30, **{"workers": 2, "bytes_per_image": 8 << 20, **changes})


def test_results_come_in_order(tmp_path, pool):
    assert [problem.where for problem in decode(tmp_path)] == [f"{number}.jpg" for number in range(40)]
    assert pool.submitted == 20  # two images of 8 MiB fill a chunk
    assert pool.is_shut_down


def test_no_more_is_in_flight_than_three_chunks_per_worker(tmp_path, pool):
    images = decode(tmp_path)
    for taken in range(1, 20):
        next(images)
        assert pool.submitted - (taken - 1) // 2 <= 6
    images.close()
    assert pool.submitted < 20
    assert pool.is_shut_down


@pytest.mark.parametrize(("bytes_per_image", "chunks"), [(1, 2), (1 << 20, 3), (1 << 30, 40), (0, 2)])
def test_chunks_are_bounded_in_bytes_and_images(tmp_path, pool, bytes_per_image, chunks):
    list(decode(tmp_path, bytes_per_image=bytes_per_image))
    assert pool.submitted == chunks


@pytest.mark.parametrize("changes", [{"workers": 1}, {"num_images": 2}, {"num_images": 0}])
def test_one_worker_or_one_chunk_needs_no_pool(tmp_path, pool, changes):
    assert len(list(decode(tmp_path, **changes))) == changes.get("num_images", 40)
    assert pool.submitted == 0


def test_a_killed_worker_is_one_line(tmp_path, pool):
    pool.error = BrokenProcessPool("a child died")
    with pytest.raises(InputError, match="a worker process was killed, probably for lack of memory; use fewer workers"):
        list(decode(tmp_path))
    assert pool.is_shut_down
