"""What is done side by side comes in order, and what goes wrong arrives."""

import os
import signal

import pytest

from dctkd.errors import InputError
from dctkd.worker_pool import map_chunks, prepare_workers


def test_chunks_of_anything_are_mapped_in_order_by_other_processes():
    chunks = [list(range(first, first + 3)) for first in range(0, 30, 3)]
    results = list(map_chunks(process_and_squares, chunks, workers=2))
    assert [square for _, square in results] == [number**2 for number in range(30)]
    assert os.getpid() not in {process for process, _ in results}


def test_one_worker_maps_in_the_calling_process():
    results = list(map_chunks(process_and_squares, [[1, 2], [3]], workers=1))
    assert results == [(os.getpid(), 1), (os.getpid(), 4), (os.getpid(), 9)]


def test_a_worker_that_is_killed_ends_the_mapping_with_one_line():
    with pytest.raises(InputError, match="a worker process was killed"):
        list(map_chunks(kill_at_five, [[number] for number in range(9)], workers=2))


def test_an_error_of_the_function_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(map_chunks(inverses, [[2], [1], [0]], workers=2))


def test_an_error_keeps_what_was_noted_on_it():
    with pytest.raises(LookupError) as caught:
        list(map_chunks(fail_with_note, [["montage"], ["spectra"]], workers=2))
    assert caught.value.__notes__ == ["in montage"]


def test_workers_can_be_prepared_before_there_is_work():
    prepare_workers("colorsys")
    prepare_workers("colorsys")
    assert list(map_chunks(sorted, [[2, 1], [3]], workers=2)) == [1, 2, 3]


def process_and_squares(numbers):
    return [(os.getpid(), number**2) for number in numbers]


def kill_at_five(numbers):
    if 5 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


def inverses(numbers):
    return [1 / number for number in numbers]


def fail_with_note(names):
    error = LookupError("no")
    error.add_note(f"in {names[0]}")
    raise error
