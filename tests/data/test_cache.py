import json
import subprocess
import sys
import time
from hashlib import sha256

import numpy as np
import pytest

from dctkd.data.cache import PixelCache
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.packing import pack
from dctkd.errors import InputError


@pytest.fixture
def rendered(make_rendered):
    return make_rendered()


@pytest.fixture
def cache(tmp_path, rendered):
    return pack(rendered, tmp_path / "cache", short_side=None)


def test_images_labels_ids_and_masks_come_back(cache, rendered):
    for split, source in rendered.items():
        assert cache.num_images(split) == len(source.labels)
        np.testing.assert_array_equal(cache.labels(split), source.labels)
        assert cache.ids(split) == [f"{split}/{index:05d}" for index in range(len(source.labels))]
        for index in range(cache.num_images(split)):
            np.testing.assert_array_equal(cache.image(split, index), source.images[index])
            np.testing.assert_array_equal(cache.mask(split, index), source.masks[index])
    assert cache.classes == ("class0", "class1", "class2")
    assert cache.mask_names == ("background", "disc", "square", "bar")


def test_photographs_keep_their_ragged_sizes_and_have_no_masks(tmp_path, make_miniplaces):
    manifest = read_manifest(make_miniplaces(tmp_path / "data"), Options())
    cache = pack(manifest, tmp_path / "cache", short_side=30)
    # Photographs are numbered from 1; see SIZES in conftest: 80x53, 64x64, 41x97, 100x60 ...
    assert cache.sizes("train")[:4].tolist() == [[45, 30], [30, 30], [30, 70], [50, 30]]
    assert [cache.image("train", index).shape for index in range(2)] == [(45, 30, 3), (30, 30, 3)]
    assert cache.mask("train", 0) is None
    assert cache.mask_names == ()
    assert cache.ids("test") == [entry.id for entry in manifest.split("test")]
    assert cache.short_side == 30


def test_pixels_are_read_from_the_mapped_file_and_cannot_be_written(cache):
    image = cache.image("train", 1)
    with (cache.path / "train/pixels.bin").open("r+b") as file:
        file.seek(image.size)
        file.write(bytes([17]))
    assert image[0, 0, 0] == 17
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0, 0] = 1


def test_the_fingerprint_is_the_documented_hash(cache, rendered):
    lines = ""
    for split, source in rendered.items():
        for index, (image, mask) in enumerate(zip(source.images, source.masks, strict=True)):
            digest = sha256(b"12x12\n" + image.tobytes() + mask.tobytes()).hexdigest()
            lines += f'["{split}/{index:05d}",{source.labels[index]},"{split}","{digest}"]'
    whole = (
        '{"classes":["class0","class1","class2"],"images":"' + sha256(lines.encode()).hexdigest() + '",'
        '"mask_names":["background","disc","square","bar"],"resize":{"interpolation":"bilinear","short_side":null}}'
    )
    assert cache.fingerprint == sha256(whole.encode()).hexdigest()


def change_pixel(tree):
    tree["train"].images[3, 2, 1, 0] ^= 1


def change_label(tree):
    tree["test"].labels[0] = 2


def change_mask(tree):
    tree["test"].masks[0, 0, 0] ^= 1


@pytest.mark.parametrize("change", [change_pixel, change_label, change_mask])
def test_the_fingerprint_changes_with_the_content(tmp_path, make_rendered, cache, change):
    changed = make_rendered()
    change(changed)
    assert pack(changed, tmp_path / "other", short_side=None).fingerprint != cache.fingerprint


def test_the_fingerprint_changes_with_the_resize_recipe(tmp_path, rendered, cache):
    assert pack(rendered, tmp_path / "other", short_side=12).fingerprint != cache.fingerprint


def test_the_fingerprint_is_independent_of_root_and_nesting(tmp_path, make_miniplaces):
    make_miniplaces(tmp_path / "one")
    make_miniplaces(tmp_path / "two/deeper")
    caches = [
        pack(read_manifest(tmp_path / root, Options()), tmp_path / f"cache-{root}", short_side=30)
        for root in ("one", "two")
    ]
    assert caches[0].fingerprint == caches[1].fingerprint
    for name in ("manifest.json", "fingerprint.json", "train/pixels.bin", "train/index.npy", "test/pixels.bin"):
        assert (caches[0].path / name).read_bytes() == (caches[1].path / name).read_bytes(), name


def test_no_cache_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no pixel cache there"):
        PixelCache.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["train/pixels.bin", "test/masks.bin", "train/index.npy", "fingerprint.json"])
def test_a_torn_file_is_noticed_when_the_cache_is_opened(cache, name):
    path = cache.path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"not whole|no pixel cache there"):
        PixelCache.open(cache.path)


def test_a_missing_file_is_noticed_when_the_cache_is_opened(cache):
    (cache.path / "train/pixels.bin").unlink()
    with pytest.raises(InputError, match="not whole"):
        PixelCache.open(cache.path)


def test_a_header_without_its_keys_is_noticed(cache):
    path = cache.path / "fingerprint.json"
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(InputError, match="not whole"):
        PixelCache.open(cache.path)


def test_opening_40_000_images_is_quick_and_loads_neither_torch_nor_pil(tmp_path, make_rendered):
    pack(make_rendered(num_train=30_000, num_test=10_000, side=1), tmp_path / "cache", short_side=None)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert PixelCache.open(tmp_path / "cache").num_images("train") == 30_000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05
    code = (
        "import sys, pathlib; from dctkd.data.cache import PixelCache; PixelCache.open(pathlib.Path(sys.argv[1]));"
        "print(sorted({'torch', 'PIL', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
