import errno
import logging
import shutil
import tracemalloc
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as tvf

from dctkd.data import decode_pool, packing
from dctkd.data.formats.miniplaces import Options, read_manifest
from dctkd.data.packing import pack
from dctkd.errors import InputError

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "caches" / "mini"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_cached_pixels_equal_the_usual_pipeline(root, target):
    manifest = read_manifest(root, Options())
    cache = pack(manifest, target, short_side=40)
    for split in ("train", "test"):
        for index, entry in enumerate(manifest.split(split)):
            with Image.open(manifest.root / entry.path) as image:
                expected = np.asarray(tvf.resize(image.convert("RGB"), 40))
            np.testing.assert_array_equal(cache.image(split, index), expected)


def test_bytes_are_the_same_for_any_number_of_workers(root, target, monkeypatch):
    monkeypatch.setattr(decode_pool, "MAX_CHUNK_IMAGES", 2)
    (root / "images/train/a/abbey/00000003.jpg").write_bytes(b"broken")
    manifest = read_manifest(root, Options())
    expected = files_of(pack(manifest, target, short_side=30, workers=1, on_problem="drop").path)
    assert len(expected) == 6
    for workers in (2, 3):
        assert files_of(pack(manifest, target, short_side=30, workers=workers, on_problem="drop").path) == expected


def test_each_photograph_is_decoded_once(root, target, monkeypatch):
    decoded = []
    original = decode_pool.decode_files

    def counting(folder, paths, short_side):
        decoded.extend(paths)
        return original(folder, paths, short_side)

    monkeypatch.setattr(decode_pool, "decode_files", counting)
    pack(read_manifest(root, Options()), target, short_side=30)
    assert len(decoded) == len(set(decoded)) == 18


def test_an_unreadable_image_stops_and_leaves_nothing(root, target, leftovers):
    (root / "images/val/00000002.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"images/val/00000002\.jpg: it is no image .*on_problem: drop") as caught:
        pack(read_manifest(root, Options()), target, short_side=30)
    assert "\n" not in str(caught.value)
    assert leftovers(target.parent) == []


def test_drop_leaves_unreadable_images_out_and_lists_them(root, target):
    whole = pack(read_manifest(root, Options()), target, short_side=30)
    ids, images = whole.ids("train"), [whole.image("train", index) for index in range(12)]
    (root / "images/train/a/abbey/00000003.jpg").write_bytes(b"broken")
    cache = pack(read_manifest(root, Options()), target, short_side=30, on_problem="drop")
    assert cache.ids("train") == ids[:2] + ids[3:]
    np.testing.assert_array_equal(cache.image("train", 2), images[3])
    assert [(problem.kind, problem.where) for problem in cache.problems] == [
        ("unreadable", "images/train/a/abbey/00000003.jpg")
    ]
    assert cache.fingerprint != whole.fingerprint


def test_a_class_emptied_by_drop_is_listed(root, target):
    for path in (root / "images/train/a/abbey").iterdir():
        path.write_bytes(b"")
    cache = pack(read_manifest(root, Options()), target, short_side=30, on_problem="drop")
    assert [problem.where for problem in cache.problems if problem.kind == "empty_class"] == ["class abbey"]
    assert len(cache.classes) == 3


def test_a_split_emptied_by_drop_is_an_error_and_leaves_nothing(root, target, leftovers):
    for path in (root / "images/val").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no usable test image"):
        pack(read_manifest(root, Options()), target, short_side=30, on_problem="drop")
    assert leftovers(target.parent) == []


def test_a_manifest_with_problems_is_refused(root, target, leftovers):
    (root / "images/val/00000002.jpg").unlink()
    with pytest.raises(InputError, match=r"1 missing: val\.txt:2: images/val/00000002\.jpg does not exist"):
        pack(read_manifest(root, Options()), target, short_side=30)
    assert leftovers(target.parent) == []


def test_information_is_kept_with_the_cache(root, target, save_photograph):
    save_photograph(root / "images/train/a/abbey/00000001.jpg", 50, format="PNG")
    save_photograph(root / "images/val/extra.jpg", 51)
    shutil.copy(root / "images/train/a/abbey/00000002.jpg", root / "images/val/00000001.jpg")
    cache = pack(read_manifest(root, Options()), target, short_side=30)
    assert [(problem.kind, problem.where) for problem in cache.problems] == [
        ("unlisted", "images/val/extra.jpg"),
        ("misnamed", "images/train/a/abbey/00000001.jpg"),
        ("same_pixels", "val/00000001.jpg"),
    ]
    assert cache.problems[2].message == "it has the same pixels as train/a/abbey/00000002.jpg"


def test_too_little_free_space_is_noticed_before_anything_is_decoded(root, target, monkeypatch, leftovers):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 50_000))
    monkeypatch.setattr(decode_pool, "decode_files", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"caches/mini: the pixel cache needs about \d+\.\d MB, but 0\.1 MB are free"):
        pack(read_manifest(root, Options()), target, short_side=30)
    assert leftovers(target.parent) == []


def test_the_disk_that_packing_takes_is_said_before_it_starts(root, target, monkeypatch, caplog):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 250_300_000_000))
    with caplog.at_level(logging.INFO, logger="dctkd"):
        cache = pack(read_manifest(root, Options()), target, short_side=300)
    size_mb = (len(cache.pixels("train")) + len(cache.pixels("test"))) / 1e6
    assert caplog.messages == [f"packing 18 images into {target}: about {size_mb:.1f} MB, 250.3 GB free"]


def test_the_expected_size_is_that_of_the_cache(root, target):
    manifest = read_manifest(root, Options())
    source = packing.source_of(manifest, short_side=30, workers=1)
    cache = pack(manifest, target, short_side=30)
    assert source.num_bytes == len(cache.pixels("train")) + len(cache.pixels("test"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("kept_writes", [0, 11])
def test_a_disk_that_runs_full_is_one_line_and_leaves_nothing(
    root, target, monkeypatch, leftovers, code, kept_writes, make_rendered
):
    original, writes = packing._write, []

    def write(file, pixels):
        writes.append(pixels)
        if len(writes) > kept_writes:
            raise OSError(code, "No space left on device")
        return original(file, pixels)

    monkeypatch.setattr(packing, "_write", write)
    with pytest.raises(
        InputError, match=r"caches/mini: disk full while packing: .* needs about 0\.1 MB, but \d+\.\d [GM]B are free"
    ):
        pack(read_manifest(root, Options()), target, short_side=30)
    assert leftovers(target.parent) == []


def test_a_failure_keeps_the_former_cache(root, target, make_rendered, leftovers):
    former = files_of(pack(make_rendered(), target, short_side=None).path)
    (root / "images/val/00000002.jpg").write_bytes(b"broken")
    with pytest.raises(InputError):
        pack(read_manifest(root, Options()), target, short_side=30)
    assert files_of(target) == former
    assert leftovers(target.parent) == ["mini"]


def test_an_interrupt_leaves_nothing(root, target, leftovers):
    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(read_manifest(root, Options()), target, short_side=30, progress=interrupt)
    assert leftovers(target.parent) == []


def test_a_folder_that_is_no_cache_is_never_replaced(target, make_rendered, leftovers):
    target.mkdir(parents=True)
    (target / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="exists and is no pixel cache"):
        pack(make_rendered(), target, short_side=None)
    assert leftovers(target) == ["thesis.tex"]


def test_a_target_below_a_file_is_one_line(tmp_path, make_rendered):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        pack(make_rendered(), tmp_path / "file" / "cache", short_side=None)


def test_an_empty_folder_is_used(target, make_rendered, leftovers):
    target.mkdir(parents=True)
    pack(make_rendered(), target, short_side=None)
    assert leftovers(target.parent) == ["mini"]


def test_progress_counts_every_image(root, target):
    (root / "images/val/00000002.jpg").write_bytes(b"broken")
    calls = []
    pack(
        read_manifest(root, Options()),
        target,
        short_side=30,
        on_problem="drop",
        progress=lambda *call: calls.append(call),
    )
    assert calls == [(done, 18) for done in range(1, 19)]


def test_rendered_images_are_not_resized(target, make_rendered):
    with pytest.raises(InputError, match="short_side is 8, but images are rendered at 12 x 12"):
        pack(make_rendered(), target, short_side=8)


def test_memory_is_bounded_by_what_is_in_flight(tmp_path, target, save_photograph, make_miniplaces, monkeypatch):
    monkeypatch.setattr(decode_pool, "MAX_CHUNK_BYTES", 1 << 20)
    root = make_miniplaces(tmp_path / "many", num_train=30, num_val=1)
    manifest = read_manifest(root, Options())
    tracemalloc.start()
    cache = pack(manifest, target, short_side=300)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(cache.pixels("train")) > 30 << 20
    assert peak_bytes < 12 << 20
