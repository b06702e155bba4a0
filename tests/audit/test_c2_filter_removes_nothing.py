"""C2: the high-pass filter removes nothing from maps of up to 19 positions a side."""

import pytest

from dctkd.functional.fourier import high_pass_mask


def num_removed(size):
    return int((high_pass_mask(size, size, cutoff=0.1, kind="released") == 0).sum())


def test_maps_of_up_to_nineteen_positions_keep_every_frequency():
    assert [num_removed(size) for size in range(1, 20)] == [0] * 19


@pytest.mark.parametrize(("size", "removed", "total"), [(20, 4, 400), (28, 4, 784), (32, 4, 1024), (56, 16, 3136)])
def test_what_is_removed_of_larger_maps(size, removed, total):
    assert (num_removed(size), size * size) == (removed, total)


@pytest.mark.parametrize(("levels", "filtered"), [((32, 16, 8, 1), [32]), ((56, 28, 14, 7, 1), [56, 28])])
def test_levels_that_are_filtered(levels, filtered):
    assert [size for size in levels if num_removed(size)] == filtered
