import time
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as tvf

from dctkd.config import InputRecipe
from dctkd.data import batches
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.packing import pack
from dctkd.errors import InputError

RECIPE = InputRecipe(short_side=40, crop=32)


@dataclass(frozen=True)
class PlainRecipe:
    """No pydantic model: the protocol is all that is needed. Mean 0 and deviation 1/255 leave pixels as they are."""

    short_side: int | None
    crop: int
    hflip: bool = True
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1 / 255, 1 / 255, 1 / 255)


@pytest.fixture
def manifest(tmp_path, make_miniplaces, save_photograph, edit_list):
    """18 RGB photographs, and grey, palette and CMYK ones, two of each."""
    root = make_miniplaces(tmp_path / "data")
    others = [("L", "grey.jpg"), ("P", "palette.png"), ("CMYK", "cmyk.jpg")]
    names = [f"train/a/abbey/{number} {name}" for _, name in others for number in range(2)]
    for number, name in enumerate(names):
        save_photograph(root / "images" / name, number, mode=others[number // 2][0])
    edit_list(root / "train.txt", lambda lines: [*lines, *(f"{name} 0" for name in names)])
    return read_manifest(root, Options())


@pytest.fixture
def cache(tmp_path, manifest):
    return pack(manifest, tmp_path / "cache", short_side=RECIPE.short_side)


@pytest.fixture
def rendered_cache(tmp_path, make_rendered):
    """Many images of one size, quickly."""

    def make(num_train=10, num_test=5, side=12):
        return pack(
            make_rendered(num_train, num_test, side), tmp_path / f"{num_train}-{num_test}-{side}", short_side=None
        )

    return make


def open_rgb(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def draws_of(cache, recipe, seed, epoch):
    return batches.draw_epoch(cache.sizes("train"), crop=recipe.crop, hflip=recipe.hflip, seed=seed, epoch=epoch)


def epoch_of(cache, recipe, *, seed=0, epoch=0, batch_size=5, **more):
    return list(batches.train_batches(cache, recipe, seed=seed, epoch=epoch, batch_size=batch_size, **more))


def by_index(drawn):
    """Return {index: image} of an epoch."""
    return {int(i): image for batch in drawn for i, image in zip(batch.index_B, batch.images_BCHW, strict=True)}


def test_crops_equal_the_usual_pipeline_bit_for_bit(cache, manifest):
    recipe = PlainRecipe(short_side=40, crop=32)
    draws = draws_of(cache, recipe, 3, 1)
    images = by_index(epoch_of(cache, recipe, seed=3, epoch=1))
    assert 0 < draws.flip_N.sum() < len(draws.flip_N) == len(images) == 18
    for index, entry in enumerate(manifest.split("train")):
        expected = tvf.resize(open_rgb(manifest.root / entry.path), 40)
        expected = tvf.crop(expected, int(draws.top_N[index]), int(draws.left_N[index]), 32, 32)
        expected = tvf.hflip(expected) if draws.flip_N[index] else expected
        # The scale 1 / (255 * std) is 1 up to rounding; pixels are whole numbers.
        pixels = images[index].round().to(torch.uint8)
        assert torch.equal(pixels, tvf.pil_to_tensor(expected)), entry.id


def test_normalised_floats_are_close_to_torchvision(cache, manifest):
    draws = draws_of(cache, RECIPE, 0, 0)
    images = by_index(epoch_of(cache, RECIPE))
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(RECIPE.mean, RECIPE.std)])
    for index, entry in enumerate(manifest.split("train")):
        expected = tvf.resize(open_rgb(manifest.root / entry.path), 40)
        expected = tvf.crop(expected, int(draws.top_N[index]), int(draws.left_N[index]), 32, 32)
        expected = normalise(tvf.hflip(expected) if draws.flip_N[index] else expected)
        # Values reach 2.6; each side rounds three times, at 6e-8 of at most 255 / (255 * 0.225).
        torch.testing.assert_close(images[index], expected, rtol=0, atol=1e-6)


def test_test_images_equal_resize_and_centre_crop_of_torchvision(cache, manifest):
    usual = transforms.Compose([transforms.Resize(40), transforms.CenterCrop(32), transforms.PILToTensor()])
    drawn = list(batches.test_batches(cache, PlainRecipe(short_side=40, crop=32), batch_size=4))
    images = torch.cat([batch.images_BCHW for batch in drawn]).round().to(torch.uint8)
    expected = torch.stack([usual(open_rgb(manifest.root / entry.path)) for entry in manifest.split("test")])
    assert torch.equal(images, expected)
    assert torch.cat([batch.index_B for batch in drawn]).tolist() == list(range(6))
    assert torch.cat([batch.target_B for batch in drawn]).tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("crop", [31, 32, 33, 40])
def test_centre_crops_round_as_torchvision_does(cache, manifest, crop):
    drawn = list(batches.test_batches(cache, PlainRecipe(short_side=40, crop=crop), batch_size=6))
    for image, entry in zip(drawn[0].images_BCHW, manifest.split("test"), strict=True):
        expected = tvf.center_crop(tvf.resize(open_rgb(manifest.root / entry.path), 40), crop)
        assert torch.equal(image.round().to(torch.uint8), tvf.pil_to_tensor(expected))


def test_batches_are_float32_channels_last_with_int64_labels(cache):
    for batch in (epoch_of(cache, RECIPE)[0], next(batches.test_batches(cache, RECIPE, batch_size=5))):
        assert batch.images_BCHW.shape == (5, 3, 32, 32)
        assert batch.images_BCHW.dtype == torch.float32
        assert batch.images_BCHW.is_contiguous(memory_format=torch.channels_last)
        assert batch.target_B.dtype == batch.index_B.dtype == torch.int64
    assert torch.equal(batch.target_B, torch.from_numpy(cache.labels("test"))[batch.index_B])


def test_batches_do_not_share_memory(cache):
    first, second, *_ = batches.train_batches(cache, RECIPE, seed=0, epoch=0, batch_size=4)
    kept = first.images_BCHW.clone()
    second.images_BCHW.zero_()
    assert torch.equal(first.images_BCHW, kept)


def test_an_epoch_shows_every_image_once(cache):
    for epoch in range(3):
        drawn = epoch_of(cache, RECIPE, epoch=epoch, batch_size=4)
        assert sorted(torch.cat([batch.index_B for batch in drawn]).tolist()) == list(range(18))
        labels = torch.from_numpy(cache.labels("train"))
        assert all(torch.equal(batch.target_B, labels[batch.index_B]) for batch in drawn)


def test_the_same_seed_and_epoch_give_the_same_bits_and_others_do_not(cache):
    first, again = epoch_of(cache, RECIPE, seed=1, epoch=2), epoch_of(cache, RECIPE, seed=1, epoch=2)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.images_BCHW, other.images_BCHW)
        assert torch.equal(one.index_B, other.index_B)
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        order = torch.cat([batch.index_B for batch in epoch_of(cache, RECIPE, seed=seed, epoch=epoch)])
        assert not torch.equal(order, torch.cat([batch.index_B for batch in first]))


def test_batches_leave_every_random_state_alone(cache):
    torch.manual_seed(7)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is the point)
    epoch_of(cache, RECIPE)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


def test_an_image_does_not_depend_on_the_batch_size(cache):
    one, other = by_index(epoch_of(cache, RECIPE, batch_size=3)), by_index(epoch_of(cache, RECIPE, batch_size=7))
    assert all(torch.equal(one[index], other[index]) for index in range(18))


def test_an_image_s_draws_do_not_depend_on_how_many_images_follow():
    sizes = np.random.default_rng(0).integers(32, 90, (50, 2))
    few, many = (batches.draw_epoch(sizes[:count], crop=32, hflip=True, seed=5, epoch=6) for count in (20, 50))
    for name in ("top_N", "left_N", "flip_N"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:20])


def test_an_epoch_can_start_at_any_batch(cache):
    whole = epoch_of(cache, RECIPE, batch_size=4)
    for start in range(len(whole) + 1):
        rest = epoch_of(cache, RECIPE, batch_size=4, start=start)
        assert len(rest) == len(whole) - start
        assert all(torch.equal(a.images_BCHW, b.images_BCHW) for a, b in zip(rest, whole[start:], strict=True))


def test_without_flips_the_crops_stay_the_same():
    sizes = np.full((30, 2), 40)
    flips, none = (batches.draw_epoch(sizes, crop=32, hflip=hflip, seed=0, epoch=0) for hflip in (True, False))
    assert not none.flip_N.any()
    np.testing.assert_array_equal(flips.top_N, none.top_N)
    np.testing.assert_array_equal(flips.order_N, none.order_N)


def test_bits_do_not_depend_on_the_number_of_torch_threads(rendered_cache):
    cache = rendered_cache(num_train=131, side=40)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        results.append(epoch_of(cache, InputRecipe(crop=37), batch_size=131)[0].images_BCHW)
    assert all(torch.equal(results[0], other) for other in results[1:])


def philox(key, count):
    """Philox 4x64-10 (Salmon et al. 2011), as numpy counts: the first block has counter 1."""
    mask, words, block = 2**64 - 1, [], 1
    while len(words) < count:
        (x0, x1, x2, x3), (k0, k1) = (block, 0, 0, 0), key
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * x0, 0xCA5A826395121157 * x2
            x0, x1, x2, x3 = (high >> 64) ^ x1 ^ k0, high & mask, (low >> 64) ^ x3 ^ k1, low & mask
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        words += [x0, x1, x2, x3]
        block += 1
    return words[:count]


def key_of(purpose, seed, epoch):
    digest = sha256(f'["{purpose}",{seed},{epoch}]'.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (12345678901234567890, 299), (-1, 7)])
def test_draws_are_those_of_an_independent_philox(seed, epoch):
    """Results version 1: should these numbers move, RESULTS_VERSION must."""
    sizes = np.random.default_rng(1).integers(32, 90, (13, 2))
    draws = batches.draw_epoch(sizes, crop=32, hflip=True, seed=seed, epoch=epoch)
    words = philox(key_of("augment", seed, epoch), 39)
    for index, (height, width) in enumerate(sizes.tolist()):
        first, second, third = words[3 * index : 3 * index + 3]
        assert draws.top_N[index] == (first >> 32) * (height - 31) // 2**32
        assert draws.left_N[index] == (second >> 32) * (width - 31) // 2**32
        assert draws.flip_N[index] == (third >= 2**63)
    keys = philox(key_of("order", seed, epoch), 13)
    assert draws.order_N.tolist() == sorted(range(13), key=keys.__getitem__)


def test_draws_are_uniform():
    num_images = 30_000
    draws = batches.draw_epoch(np.tile([[40, 36]], (num_images, 1)), crop=32, hflip=True, seed=0, epoch=0)
    for values, places in (
        (draws.top_N, 9),
        (draws.left_N, 5),
        (draws.flip_N.astype(np.int64), 2),
        (draws.order_N // 3000, 10),
    ):
        counts = np.bincount(values, minlength=places)
        assert len(counts) == places
        expected = num_images / places
        # Six standard deviations of a binomial count.
        assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)
    # First images seen are not first images listed: the mean of 3000 positions has a deviation of about 158.
    assert abs(draws.order_N[:3000].mean() - num_images / 2) < 1000


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected"),
    [
        (8, 4, [4, 4]),
        (9, 4, [4, 5]),
        (10, 4, [4, 4, 2]),
        (3, 4, [3]),
        (5, 4, [5]),
        (2, 2, [2]),
        (3, 2, [3]),
        (7, 100, [7]),
    ],
)
def test_a_last_image_alone_joins_the_batch_before(rendered_cache, num_images, batch_size, expected):
    drawn = epoch_of(rendered_cache(num_train=num_images), InputRecipe(crop=8), batch_size=batch_size)
    assert [len(batch.index_B) for batch in drawn] == expected
    assert batches.steps_per_epoch(num_images, batch_size) == len(expected)


def test_a_single_training_image_is_an_error(rendered_cache):
    with pytest.raises(InputError, match="at least 2 images, got 1"):
        epoch_of(rendered_cache(num_train=1), InputRecipe(crop=8))


def test_another_short_side_than_the_cache_s_is_an_error(cache):
    with pytest.raises(InputError, match="packed with short_side 40, but the recipe says 48"):
        epoch_of(cache, InputRecipe(short_side=48, crop=32))


def test_an_image_smaller_than_the_crop_is_named(tmp_path, manifest):
    cache = pack(manifest, tmp_path / "unresized", short_side=None)
    with pytest.raises(
        InputError, match=r"images are smaller than the crop of 45 pixels, first .*\.jpg \(41 x 97\); lower"
    ):
        epoch_of(cache, InputRecipe(short_side=None, crop=45))


def test_a_batch_of_64_crops_of_64_pixels_takes_at_most_3_ms(rendered_cache):
    cache = rendered_cache(num_train=640, num_test=1, side=72)
    recipe = InputRecipe(crop=64)
    seconds = []
    for epoch in range(4):
        start = time.perf_counter()
        for _ in batches.train_batches(cache, recipe, seed=0, epoch=epoch, batch_size=64):
            seconds.append(time.perf_counter() - start)
            start = time.perf_counter()
    # The least time: other processes share the core.
    assert min(seconds) < 0.003


def test_reading_the_cache_is_at_least_5_times_as_fast_as_decoding(cache, manifest):
    usual = transforms.Compose(
        [
            transforms.Resize(40),
            transforms.RandomCrop(32),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(RECIPE.mean, RECIPE.std),
        ]
    )

    def decode():
        torch.stack([usual(open_rgb(manifest.root / entry.path)) for entry in manifest.split("train")])

    def least_seconds(work):
        seconds = []
        for _ in range(7):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    assert least_seconds(decode) > 5 * least_seconds(lambda: epoch_of(cache, RECIPE, batch_size=18))
