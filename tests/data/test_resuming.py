"""Packing that was stopped goes on where it was and ends with the same bytes."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dctkd.data import decode_pool, packing, unfinished
from dctkd.data.packing import pack
from dctkd.data.prepare import prepare
from dctkd.data.unfinished import part_folder, unfinished_folders
from dctkd.errors import InputError

NUM_IMAGES = 18

# Counts what packing does to the disk and kills the process at the given point; run in a fork, for each point in turn.
KILL_EVERYWHERE = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
from dctkd.data import decode_pool, packing, unfinished
from dctkd.data.prepare import prepare

root, work = map(Path, sys.argv[1:])
unfinished.COMMIT_IMAGES, decode_pool.MAX_CHUNK_IMAGES = 4, 3
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}

def run(target, progress=None):
    return prepare("miniplaces", {}, root, 30, "drop", target, 1, progress)

def files(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

def run_and_die(target, point):
    count = 0
    def step(*_):
        nonlocal count
        count += 1
        if count == point:
            os.kill(os.getpid(), signal.SIGKILL)
    for module, name in ((os, "fsync"), (packing, "_write")):
        original = getattr(module, name)
        setattr(module, name, lambda *a, original=original: (step(), original(*a))[1])
    def hook(event, values):
        if event in EVENTS or event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR):
            step()
    sys.addaudithook(hook)
    run(target)
    os._exit(0)

expected = files(run(work / "whole").path)
outcomes, point = [], 0
while True:
    point += 1
    target = work / f"at{point}" / "cache"
    if (process := os.fork()) == 0:
        run_and_die(target, point)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0:
        break
    is_whole_or_absent = not target.exists() or files(target) == expected
    done = []
    cache = run(target, lambda number, total: done.append(number))
    left = sorted(path.name for path in target.parent.iterdir())
    outcomes.append([files(cache.path) == expected, is_whole_or_absent, len(done), left])
    shutil.rmtree(target.parent)
print(json.dumps(outcomes))
"""


class Outcome(NamedTuple):
    """What one line of KILL_EVERYWHERE's result says."""

    is_equal: bool
    is_whole_or_absent: bool
    num_packed: int
    left: list[str]


@pytest.fixture
def root(tmp_path, make_miniplaces):
    return make_miniplaces(tmp_path / "data")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "caches" / "mini"


def request(root, target, progress=None, **changes):
    arguments = {"short_side": 30, "on_problem": "fail", "workers": 1, **changes}
    return prepare("miniplaces", {}, root, target=target, progress=progress, **arguments)


@pytest.fixture
def resume(root, target):
    """Prepare; returns the cache and the numbers of the images that were packed now."""

    def run(**changes):
        done = []
        return request(root, target, lambda number, _: done.append(number), **changes), done

    return run


@pytest.fixture
def stop(root, target):
    """Stop packing after 10 images, all of which are journalled."""

    def interrupt(done, _):
        if done == 10:
            raise KeyboardInterrupt

    def run(**changes):
        with pytest.raises(KeyboardInterrupt):
            request(root, target, interrupt, **changes)
        (part,) = unfinished_folders(target)
        return part

    return run


@pytest.fixture
def expected(root, tmp_path):
    return contents(request(root, tmp_path / "in one go").path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def outcomes(root, tmp_path):
    """What became of a packing after it had been killed at each point in turn; see KILL_EVERYWHERE."""
    (root / "images/train/a/abbey/00000003.jpg").write_bytes(b"broken")
    shutil.copy(root / "images/train/a/abbey/00000002.jpg", root / "images/val/00000001.jpg")
    command = [sys.executable, "-c", KILL_EVERYWHERE, str(root), str(tmp_path / "killed")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Outcome(*outcome) for outcome in json.loads(done.stdout)]


def test_a_packing_killed_anywhere_goes_on_and_ends_with_the_same_bytes(outcomes):
    assert len(outcomes) > 40
    assert {outcome.is_equal for outcome in outcomes} == {True}
    assert {outcome.is_whole_or_absent for outcome in outcomes} == {True}
    assert {tuple(outcome.left) for outcome in outcomes} == {("cache",)}
    num_packed = [outcome.num_packed for outcome in outcomes]
    assert num_packed == sorted(num_packed, reverse=True)  # a later kill never costs more
    assert num_packed[0] == NUM_IMAGES
    assert {14, 10, 6, 2, 0} <= set(num_packed)  # commits come after 4 images here


def test_a_rendered_dataset_with_masks_is_resumed_too(tmp_path, make_rendered):
    def interrupt(done, _):
        if done == 13:
            raise KeyboardInterrupt

    done = []
    rendered = make_rendered()
    expected = pack(rendered, tmp_path / "in one go", short_side=None, request={"a": 1})
    with pytest.raises(KeyboardInterrupt):
        pack(rendered, tmp_path / "cache", short_side=None, request={"a": 1}, progress=interrupt)
    cache = pack(
        rendered,
        tmp_path / "cache",
        short_side=None,
        request={"a": 1},
        progress=lambda number, _: done.append(number),
    )
    assert done == [14, 15]
    assert contents(cache.path) == contents(expected.path)


def test_an_interrupt_loses_nothing(stop, resume, expected, caplog):
    with caplog.at_level(logging.INFO):
        part = stop()
    assert f"stopped; what is packed is kept in {part}" in caplog.text
    cache, done = resume()
    assert done == list(range(11, NUM_IMAGES + 1))
    assert contents(cache.path) == expected


def test_packing_goes_on_with_another_number_of_workers(stop, resume, expected, monkeypatch):
    monkeypatch.setattr(decode_pool, "MAX_CHUNK_IMAGES", 2)
    stop()
    cache, done = resume(workers=2)
    assert done[0] == 11
    assert contents(cache.path) == expected


@pytest.mark.parametrize("changes", [{"short_side": 31}, {"on_problem": "drop"}])
def test_another_request_starts_anew_and_clears_away_what_was_left(stop, resume, target, leftovers, changes):
    stop()
    _, done = resume(**changes)
    assert done[0] == 1
    assert leftovers(target.parent) == ["mini"]


def touch(root):
    os.utime(root / "images/val/00000006.jpg", ns=(1, 1))


def change_label(root):
    (root / "val.txt").write_text((root / "val.txt").read_text().replace("00000006.jpg 2", "00000006.jpg 1"))


@pytest.mark.parametrize("change", [touch, change_label])
def test_a_changed_photograph_or_list_starts_anew(stop, resume, root, change):
    stop()
    change(root)
    assert resume()[1][0] == 1


def test_another_version_of_the_decoder_starts_anew(stop, resume, monkeypatch):
    stop()
    monkeypatch.setattr("PIL.__version__", "0.0")
    assert resume()[1][0] == 1


def tear_last_line(part):
    path = part / unfinished.JOURNAL
    path.write_bytes(path.read_bytes()[:-1])


def tear_pixels(part):
    with (part / "cache/train/pixels.bin").open("ab") as file:
        file.truncate(file.tell() - 1)


def add_garbage(part):
    for name in ("train", "test"):
        with (part / f"cache/{name}/pixels.bin").open("ab") as file:
            file.write(b"garbage")
    with (part / unfinished.JOURNAL).open("ab") as file:
        file.write(b'[["val/0000')


def flip_a_bit(part):
    path = part / "cache/train/pixels.bin"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "first"),
    [
        (tear_last_line, 10),
        (tear_pixels, 10),
        (add_garbage, 11),
        (flip_a_bit, 1),
    ],
)
def test_what_a_power_cut_damages_is_packed_again(stop, resume, expected, damage, first):
    damage(stop())
    cache, done = resume()
    assert done[0] == first
    assert contents(cache.path) == expected


def test_damage_is_said(stop, resume, caplog):
    flip_a_bit(stop())
    resume()
    assert "what was packed before is damaged; starting anew" in caplog.text


def test_a_full_disk_keeps_what_is_packed_and_says_how_much_is_needed(root, target, resume, expected, monkeypatch):
    monkeypatch.setattr(unfinished, "COMMIT_IMAGES", 4)
    original, writes = packing._write, []

    def write(file, pixels):
        writes.append(pixels)
        if len(writes) > 11:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(file, pixels)

    monkeypatch.setattr(packing, "_write", write)
    with pytest.raises(InputError, match=r"disk full while packing: .* free; make space"):
        request(root, target)
    monkeypatch.undo()
    cache, done = resume()
    assert done[0] == 12
    assert contents(cache.path) == expected


def test_an_unusable_image_leaves_nothing_since_mending_it_makes_another_request(root, target, leftovers):
    (root / "images/val/00000006.jpg").write_bytes(b"broken")
    with pytest.raises(InputError, match="mend the file and pack anew"):
        request(root, target)
    assert leftovers(target.parent) == []


def test_free_space_counts_what_is_there_from_before(stop, resume, root, target, monkeypatch):
    manifest = target.parent / "unused"
    size = sum(path.stat().st_size for path in request(root, manifest).path.rglob("pixels.bin"))
    stop()
    usage = shutil.disk_usage(target.parent)._replace(free=int(size * 0.7))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert resume()[1][0] == 11


def test_a_target_that_cannot_take_its_place_leaves_the_former_cache(stop, resume, root, target, monkeypatch):
    former = contents(resume(short_side=29)[0].path)
    original = Path.rename

    def rename(path, to):
        if path.name == unfinished.CONTENTS:
            raise OSError(errno.EIO, "Input/output error")
        return original(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        request(root, target)
    monkeypatch.undo()
    assert contents(target) == former
    assert resume()[1] == []  # all was packed; only the renaming was left


def test_a_part_is_never_taken_for_that_of_a_target_with_a_longer_name(tmp_path):
    other = part_folder(tmp_path / "mini.small", {})
    mine = part_folder(tmp_path / "mini", {})
    for folder in (other, mine):
        folder.mkdir()
    assert unfinished_folders(tmp_path / "mini") == [mine]
    assert unfinished_folders(tmp_path / "mini.small") == [other]
