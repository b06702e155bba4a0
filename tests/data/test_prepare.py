import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from dctkd.data import prepare as prepare_module
from dctkd.data.prepare import prepare
from dctkd.errors import InputError


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data" / "miniplaces")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "caches" / "mini"


@pytest.fixture
def packed(root, target):
    """Prepare with changes; returns the cache and whether it was packed now."""

    def run(**changes):
        done = []
        arguments = {
            "format_name": "miniplaces",
            "options": {},
            "root": root,
            "short_side": 30,
            "on_problem": "fail",
            "target": target,
            "workers": 1,
            "progress": lambda *call: done.append(call),
        }
        return prepare(**{**arguments, **changes}), bool(done)

    return run


def test_a_cache_that_is_there_is_used(packed, root, leftovers, target):
    first, was_packed = packed()
    assert was_packed
    for changes in ({}, {"workers": 2}, {"root": root.parent}, {"options": {"num_classes": None}}):
        again, was_packed = packed(**changes)
        assert not was_packed
        assert again.fingerprint == first.fingerprint
    assert leftovers(target.parent) == ["mini"]


@pytest.mark.parametrize("changes", [{"short_side": 31}, {"options": {"num_classes": 2}}, {"on_problem": "drop"}])
def test_another_request_is_packed_anew(packed, changes):
    packed()
    assert packed(**changes)[1]
    assert not packed(**changes)[1]


def test_another_results_version_is_packed_anew(packed, monkeypatch):
    packed()
    monkeypatch.setattr(prepare_module, "RESULTS_VERSION", 2)
    assert packed()[1]


def test_a_changed_photograph_is_packed_anew(packed, root, save_photograph):
    first, _ = packed()
    save_photograph(root / "images/val/00000001.jpg", 77)
    again, was_packed = packed()
    assert was_packed
    assert again.fingerprint != first.fingerprint


def test_a_touched_photograph_is_packed_anew_with_the_same_fingerprint(packed, root):
    first, _ = packed()
    os.utime(root / "images/val/00000001.jpg", ns=(1, 1))
    again, was_packed = packed()
    assert was_packed
    assert again.fingerprint == first.fingerprint


def test_a_changed_label_is_packed_anew(packed, root, edit_list):
    first, _ = packed()
    edit_list(root / "val.txt", lambda lines: [lines[0].replace(" 0", " 1"), *lines[1:]])
    again, was_packed = packed()
    assert was_packed
    assert again.labels("test").tolist() != first.labels("test").tolist()


def test_a_torn_cache_is_packed_anew_with_a_warning(packed, target, caplog):
    first, _ = packed()
    with (target / "train/pixels.bin").open("r+b") as file:
        file.truncate(100)
    with caplog.at_level(logging.WARNING):
        again, was_packed = packed()
    assert was_packed
    assert again.fingerprint == first.fingerprint
    assert "not whole" in caplog.text


@pytest.mark.parametrize("header", ["", '{"schema": 0}'])
def test_a_cache_of_another_schema_or_with_a_torn_header_is_packed_anew(packed, target, header):
    first, _ = packed()
    (target / "fingerprint.json").write_text(header)
    again, was_packed = packed()
    assert was_packed
    assert again.fingerprint == first.fingerprint


def test_the_request_is_recorded_without_the_root(packed, root):
    cache, _ = packed()
    assert cache.request["format"] == "miniplaces"
    assert cache.request["options"] == {"num_classes": None}
    assert str(root.parent) not in json.dumps(cache.request) + (cache.path / "manifest.json").read_text()


def break_empty_class(root):
    lines = (root / "train.txt").read_text().splitlines()
    (root / "train.txt").write_text("\n".join(line for line in lines if not line.endswith(" 1")))


def break_unreadable(root):
    (root / "images/val/00000003.jpg").write_bytes(b"GIF89a")


def break_label(root):
    (root / "val.txt").write_text((root / "val.txt").read_text().replace("00000001.jpg 0", "00000001.jpg 100"))


def break_listed_file(root):
    (root / "images/train/a/abbey/00000001.jpg").unlink()


def break_leaving_path(root):
    (root / "val.txt").write_text("../../secret.jpg 0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_empty_class, "class athletic_field/outdoor: it has no training image"),
        (break_unreadable, "images/val/00000003.jpg: it"),
        (break_label, "val.txt:1: val/00000001.jpg has class id 100, expected 0 to 2"),
        (break_listed_file, "train.txt:1: images/train/a/abbey/00000001.jpg does not exist"),
        (break_leaving_path, "val.txt:1: path '../../secret.jpg' may leave the dataset's folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(packed, root, target, leftovers, damage, message):
    damage(root)
    with pytest.raises(InputError) as caught:
        packed()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(target.parent) == []


def test_a_missing_root_is_one_line_and_leaves_nothing(packed, tmp_path, target, leftovers):
    with pytest.raises(InputError, match="nowhere does not exist"):
        packed(root=tmp_path / "nowhere")
    with pytest.raises(InputError, match="miniplaces reads photographs; give the folder"):
        packed(root=None)
    assert leftovers(target.parent) == []


def test_a_target_below_a_file_is_one_line(packed, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        packed(target=tmp_path / "file" / "cache")


def test_a_rendered_dataset_needs_no_root_and_keeps_its_masks(packed):
    options = {"num_train_images": 24, "num_test_images": 12, "image_side": 32}
    changes = {"format_name": "synthscenes", "options": options, "root": None, "short_side": None}
    cache, was_packed = packed(**changes)
    assert was_packed
    assert not packed(**changes)[1]
    assert (cache.num_images("train"), cache.num_images("test")) == (24, 12)
    assert cache.mask("test", 11).shape == (32, 32)
    assert cache.mask("test", 11).max() > 0


def test_two_jobs_that_want_the_same_cache_pack_it_once(packed):
    results = []
    jobs = [threading.Thread(target=lambda: results.append(packed())) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(was_packed for _, was_packed in results) == [False, False, True]
    assert len({cache.fingerprint for cache, _ in results}) == 1


def test_what_a_killed_job_leaves_is_cleared_away(packed, root, target, leftovers):
    code = (
        "import os, signal, sys, pathlib; from dctkd.data.prepare import prepare\n"
        "def kill(done, total): done == 9 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare('miniplaces', {}, pathlib.Path(sys.argv[1]), 30, 'fail', pathlib.Path(sys.argv[2]), 1, kill)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(root), str(target)], check=False)
    assert result.returncode == -9
    assert not target.exists()
    assert len(leftovers(target.parent)) == 2  # the unfinished folder and the lock, which the kernel has opened
    assert packed(short_side=31)[1]
    assert leftovers(target.parent) == ["mini"]
