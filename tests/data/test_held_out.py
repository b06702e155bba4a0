"""Which training images are held out, and that the rest of the cache is as it was."""

from decimal import Decimal
from hashlib import sha256

import numpy as np
import pytest
import torch

from dctkd.config import InputRecipe
from dctkd.data.batches import test_batches as batches_in_order
from dctkd.data.batches import train_batches
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.held_out import choose_held_out, hold_out, num_held_out
from dctkd.data.packing import pack
from dctkd.data.resident import ResidentSource
from dctkd.errors import InputError

RECIPE = InputRecipe(short_side=40, crop=32)
CPU = torch.device("cpu")
IDS = [f"train/class{number % 3}/{number:03d}.jpg" for number in range(100)]
LABELS_N = np.arange(100) % 3  # 34, 33 and 33 images


@pytest.fixture
def cache(tmp_path, make_miniplaces):
    """Eight training images in each of three classes."""
    root = make_miniplaces(tmp_path / "data", num_train=8)
    return pack(read_manifest(root, Options()), tmp_path / "cache", short_side=40)


def chosen(ids, labels_N, fraction):
    return {ids[row] for row in np.flatnonzero(choose_held_out(ids, labels_N, fraction))}


def by_hand(ids, labels_N, counts):
    """Return the ids with the smallest hashes of each class, as many as its count says."""
    found = set()
    for label, count in enumerate(counts):
        own = [name for name, other in zip(ids, labels_N, strict=True) if other == label]
        found |= set(sorted(own, key=lambda name: sha256(name.encode()).hexdigest())[:count])
    return found


def test_the_images_of_each_class_with_the_smallest_hashes_are_held_out():
    assert chosen(IDS, LABELS_N, 0.1) == by_hand(IDS, LABELS_N, [3, 3, 3])
    assert chosen(IDS, LABELS_N, 0.25) == by_hand(IDS, LABELS_N, [9, 8, 8])  # 8.5 and 8.25 of them


def test_the_choice_stays_when_images_are_listed_in_another_order():
    order = np.random.default_rng(0).permutation(len(IDS))
    assert chosen([IDS[row] for row in order], LABELS_N[order], 0.2) == chosen(IDS, LABELS_N, 0.2)


def test_a_class_does_not_depend_on_what_other_classes_hold():
    is_first = LABELS_N == 0
    first = [name for name, keeps in zip(IDS, is_first, strict=True) if keeps]
    assert chosen(first, LABELS_N[is_first], 0.2) == {n for n in chosen(IDS, LABELS_N, 0.2) if "class0" in n}


def test_a_smaller_fraction_holds_out_a_part_of_what_a_larger_one_does():
    assert chosen(IDS, LABELS_N, 0.1) < chosen(IDS, LABELS_N, 0.3)


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.29, 1 / 3, 0.49, 0.4999999999999999])
def test_halves_are_rounded_up_and_one_image_of_each_class_is_left(fraction):
    for num_images in range(1, 120):
        exact = Decimal(str(fraction)) * num_images
        held_out = num_held_out(num_images, fraction)
        assert -Decimal("0.5") < exact - held_out < Decimal("0.5") or held_out - exact == Decimal("0.5")
        assert held_out < num_images


def test_a_half_is_one_as_it_is_written_not_as_binary_floats_have_it():
    assert 0.29 * 50 < 14.5
    assert num_held_out(50, 0.29) == 15


def test_two_copies_of_a_dataset_hold_out_the_same_images(tmp_path, make_miniplaces):
    copies = []
    for name in ("here", "there"):
        root = make_miniplaces(tmp_path / name / "data", num_train=8)
        copies.append(pack(read_manifest(root, Options()), tmp_path / name / "cache", short_side=None))
    assert hold_out(copies[0], 0.25).ids("held_out") == hold_out(copies[1], 0.25).ids("held_out")


def test_the_two_parts_make_up_the_training_images_in_official_order(cache):
    cut = hold_out(cache, 0.25)
    assert (cut.num_images("train"), cut.num_images("held_out")) == (18, 6)
    assert sorted(cut.labels("held_out").tolist()) == [0, 0, 1, 1, 2, 2]
    row_of = {name: row for row, name in enumerate(cache.ids("train"))}
    seen = []
    for split in ("train", "held_out"):
        rows = [row_of[name] for name in cut.ids(split)]
        assert rows == sorted(rows)
        assert cut.labels(split).tolist() == cache.labels("train")[rows].tolist()
        for index, row in enumerate(rows):
            np.testing.assert_array_equal(cut.image(split, index), cache.image("train", row))
        seen += rows
    assert sorted(seen) == list(range(24))
    assert cut.ids("test") == cache.ids("test")
    assert cut.fingerprint == cache.fingerprint


def test_without_a_fraction_the_cache_is_the_one_that_came(cache):
    assert hold_out(cache, None) is cache
    assert not cache.holds_out


def test_a_fraction_that_holds_out_nothing_is_refused_with_one_that_would(cache):
    with pytest.raises(InputError, match=r"held_out_fraction 0\.06 holds out no image.*more than 8.*at least 0\.0625"):
        hold_out(cache, 0.06)
    assert hold_out(cache, 0.0625).num_images("held_out") == 3


@pytest.mark.parametrize("batch_size", [4, 5])
def test_training_batches_hold_the_rest_alone_counted_from_0(cache, batch_size):
    cut = hold_out(cache, 0.25)
    index = torch.cat([b.index_B for b in train_batches(cut, RECIPE, seed=0, epoch=0, batch_size=batch_size)])
    assert sorted(index.tolist()) == list(range(18))


def test_pixels_that_live_on_the_device_are_those_that_the_host_cuts_and_lie_there_once(cache):
    cut = hold_out(cache, 0.25)
    resident = ResidentSource(cut, RECIPE, CPU)
    for split in ("held_out", "test"):
        for one, other in zip(
            batches_in_order(cut, RECIPE, batch_size=4, split=split, source=resident),
            batches_in_order(cut, RECIPE, batch_size=4, split=split),
            strict=True,
        ):
            assert torch.equal(one.images_BCHW, other.images_BCHW)
            assert torch.equal(one.target_B, other.target_B)
    trained = [
        torch.cat(
            [batch.images_BCHW for batch in train_batches(cut, RECIPE, seed=0, epoch=0, batch_size=4, source=way)]
        )
        for way in (resident, None)
    ]
    assert torch.equal(*trained)
    assert len(resident._pixels) == 2
