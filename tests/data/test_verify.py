import json

import numpy as np
import pytest

from dctkd import cli
from dctkd.data import verify
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.packing import pack
from dctkd.data.verify import verify_cache
from dctkd.errors import InputError


@pytest.fixture
def cache(tmp_path, make_rendered):
    return pack(make_rendered(), tmp_path / "cache", short_side=None)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_undamaged_cache_is_as_packed(cache, monkeypatch, workers):
    monkeypatch.setattr(verify, "CHUNK_IMAGES", 4)
    done = []
    verified = verify_cache(cache.path, workers=workers, progress=lambda *call: done.append(call))
    assert verified.fingerprint == cache.fingerprint
    assert done == [(number, 15) for number in range(1, 16)]


def test_ragged_photographs_without_masks_are_as_packed(tmp_path, make_miniplaces):
    manifest = read_manifest(make_miniplaces(tmp_path / "data"), Options())
    cache = pack(manifest, tmp_path / "cache", short_side=30)
    assert verify_cache(cache.path).fingerprint == cache.fingerprint


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_a_pixel(folder):
    flip_a_bit(folder / "train/pixels.bin")


def flip_a_mask(folder):
    flip_a_bit(folder / "test/masks.bin")


def change_index(column, value):
    def change(folder):
        rows = np.load(folder / "train/index.npy")
        rows[-1, column] = value
        np.save(folder / "train/index.npy", rows)

    return change


def change_id(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["test"]["id"][0] = "test/99999"
    (folder / "manifest.json").write_text(json.dumps(manifest))


def lose_manifest(folder):
    (folder / "manifest.json").unlink()


def change_class(folder):
    header = json.loads((folder / "fingerprint.json").read_text())
    (folder / "fingerprint.json").write_text(json.dumps({**header, "classes": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    "change",
    [
        flip_a_pixel,
        flip_a_mask,
        change_index(3, 1),
        change_index(0, 10**6),
        change_index(1, 11),
        change_id,
        lose_manifest,
        change_class,
    ],
    ids=["pixel", "mask", "label", "offset", "height", "id", "no manifest", "class"],
)
def test_any_change_is_noticed_in_one_line(cache, change):
    change(cache.path)
    with pytest.raises(InputError, match=r"damaged or changed after it was packed.*delete the folder") as caught:
        verify_cache(cache.path)
    assert str(cache.path) in str(caught.value)


def test_the_command_ends_with_status_2_for_a_damaged_cache(cache, monkeypatch, capsys):
    statuses = []
    for damage in (lambda _: None, flip_a_pixel):
        damage(cache.path)
        monkeypatch.setattr("sys.argv", ["dctkd", "data", "verify", str(cache.path)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        statuses.append(caught.value.code)
    assert statuses == [0, 2]
    captured = capsys.readouterr()
    assert cache.fingerprint in captured.out
    assert captured.err.count("\n") == 1
