"""Pixels copied to a node's own disk: the same bits, once per node, within a limit, and never a reason to fail."""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from dctkd import locks
from dctkd.data import staging
from dctkd.data.cache import PixelCache
from dctkd.data.prepare import prepare
from dctkd.data.staging import Staging, near_pixels
from dctkd.errors import InputError

Usage = namedtuple("Usage", "total used free")
OPTIONS = {"num_train_images": 30, "num_test_images": 12, "image_side": 36}
MAPPED = ("train/pixels.bin", "test/pixels.bin")

COPY_AND_HANG = """
import sys
from pathlib import Path
from dctkd.data.staging import Staging, near_pixels
from dctkd.data.cache import PixelCache

shared, to = Path(sys.argv[1]), sys.argv[2]
blocks = 0

def ask():
    global blocks
    blocks += 1
    if blocks == 2:
        print("in mid-copy", flush=True)
        sys.stdin.readline()

with near_pixels(shared, PixelCache.open(shared).fingerprint, Staging(to), ask=ask):
    print("reads", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Folders of three packed datasets of one size."""
    folder = tmp_path_factory.mktemp("cache")
    for seed in range(3):
        prepare("synthscenes", {**OPTIONS, "seed": seed}, None, None, "fail", folder / f"set{seed}", 1)
    return [folder / f"set{seed}" for seed in range(3)]


@pytest.fixture
def shared(packed, tmp_path):
    """The first of them, to be changed at will."""
    return Path(shutil.copytree(packed[0], tmp_path / "results/cache/set0"))


@pytest.fixture
def node(tmp_path):
    return tmp_path / "node"


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def use(shared, node, limit_bytes=None, **more):
    """Open pixels as a job does; return a hash of all of them."""
    cache = PixelCache.open(shared)
    with near_pixels(shared, cache.fingerprint, Staging(str(node), limit_bytes), **more) as pixels:
        return bits_of(pixels)


def bits_of(cache):
    digest = hashlib.sha256()
    for split in ("train", "test"):
        for array in (cache.pixels(split), cache.labels(split), cache.offsets(split), cache.sizes(split)):
            digest.update(array.tobytes())
        for index in range(cache.num_images(split)):
            digest.update(cache.mask(split, index).tobytes())
        digest.update(repr(cache.ids(split)).encode())
    return digest.hexdigest()


def copies(node):
    return sorted(path.name.split("-")[0] for path in node.iterdir() if not path.name.startswith("."))


def leftovers(node):
    return [path.name for path in node.iterdir() if path.name.endswith(".part")]


def mapped_files():
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "pixels.bin" in line}


def test_pixels_come_from_the_copy_bit_for_bit(shared, node):
    expected = bits_of(PixelCache.open(shared))
    fingerprint = PixelCache.open(shared).fingerprint
    with near_pixels(shared, fingerprint, Staging(str(node))) as pixels:
        assert bits_of(pixels) == expected
        assert pixels.path == shared
        (copy,) = [path for path in node.iterdir() if path.is_dir()]
        assert copy.name == f"set0-{fingerprint[:16]}"
        assert {str(copy / name) for name in MAPPED} <= mapped_files()
    for path in shared.rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(shared)).read_bytes() == path.read_bytes()
    assert leftovers(node) == []


def test_without_a_place_pixels_come_from_the_shared_folder(shared, tmp_path):
    with near_pixels(shared, PixelCache.open(shared).fingerprint, None) as pixels:
        assert bits_of(pixels) == bits_of(PixelCache.open(shared))
    assert not (tmp_path / "node").exists()


def test_a_later_job_finds_the_copy_and_reads_no_shared_pixel(shared, node, monkeypatch):
    first = use(shared, node)
    monkeypatch.setattr(staging, "_make", lambda *_: pytest.fail("copied again"))
    monkeypatch.setattr(staging, "verify_cache", lambda *_, **__: pytest.fail("read whole again"))
    assert use(shared, node) == first


@pytest.mark.parametrize("name", [*MAPPED, "train/index.npy", "test/masks.bin", "fingerprint.json"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"torn")])
def test_a_copy_that_is_not_whole_is_made_again(shared, node, name, damage):
    first = use(shared, node)
    (copy,) = [path for path in node.iterdir() if path.is_dir()]
    damage(copy / name)
    assert use(shared, node) == first
    assert (copy / name).stat().st_size == (shared / name).stat().st_size


def test_a_byte_that_went_wrong_on_the_way_is_found(shared, node, monkeypatch, caplog):
    copy = staging._copy

    def flip(source, target, ask):
        copy(source, target, ask)
        if target.name == "pixels.bin":
            content = bytearray(target.read_bytes())
            content[len(content) // 2] ^= 1
            target.write_bytes(content)

    monkeypatch.setattr(staging, "_copy", flip)
    assert use(shared, node) == bits_of(PixelCache.open(shared))
    assert "pixels are read from there, no copy is made" in caplog.text
    assert (copies(node), leftovers(node)) == ([], [])


def test_a_dataset_that_was_packed_anew_is_copied_anew(shared, packed, node):
    use(shared, node)
    shutil.rmtree(shared)
    shutil.copytree(packed[1], shared)
    assert use(shared, node) == bits_of(PixelCache.open(packed[1]))
    assert len(copies(node)) == 2


def test_pixels_other_than_those_that_were_published_are_not_copied(shared, node, caplog):
    with near_pixels(shared, "0" * 64, Staging(str(node))) as pixels:
        assert pixels.num_images("train") == 30
    assert "its fingerprint is not 0000000000000000" in caplog.text
    assert not node.exists()


def test_what_was_not_used_for_longest_makes_room(packed, node):
    limit = 2.5 * size_of(packed[0])
    for cache in (packed[0], packed[1], packed[0], packed[2]):
        use(cache, node, limit)
    assert copies(node) == ["set0", "set2"]
    assert leftovers(node) == []


def test_what_a_job_reads_stays(packed, node, caplog):
    limit = 1.5 * size_of(packed[0])
    fingerprint = PixelCache.open(packed[0]).fingerprint
    with near_pixels(packed[0], fingerprint, Staging(str(node), limit)):
        assert use(packed[1], node, limit) == bits_of(PixelCache.open(packed[1]))
        assert copies(node) == ["set0"]
    assert "needed" in caplog.text
    use(packed[1], node, limit)
    assert copies(node) == ["set1"]


def test_nothing_is_removed_for_what_does_not_fit_anyway(packed, node, caplog):
    use(packed[0], node)
    use(packed[1], node, 0.5 * size_of(packed[1]))
    assert copies(node) == ["set0"]
    assert "stage_limit_gb is" in caplog.text


def test_a_full_disk_is_seen_before_it_is_full(packed, node, monkeypatch, caplog):
    use(packed[0], node)
    disk = {"free": staging.MARGIN_BYTES + 10}
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: Usage(10**12, 0, disk["free"]))
    assert use(packed[1], node) == bits_of(PixelCache.open(packed[1]))
    disk["free"] += size_of(packed[1]) // 2  # with what is there removed it is enough
    use(packed[1], node)
    assert copies(node) == ["set1"]


def test_files_of_others_in_the_folder_are_left_alone(packed, node):
    node.mkdir()
    for name in ("data-0123456789abcdef", ".mine.part", "notes"):
        (node / name).mkdir()
        (node / name / "precious").write_text("")
    use(packed[0], node, 1.5 * size_of(packed[0]))
    use(packed[1], node, 1.5 * size_of(packed[0]))
    assert len(list(node.rglob("precious"))) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_disk_that_refuses_is_one_line_and_pixels_come_from_the_shared_folder(
    shared, node, monkeypatch, caplog, number
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(staging.os, "fsync", refuse)
    expected = bits_of(PixelCache.open(shared))
    monkeypatch.setattr(staging, "try_lock", lambda _: open_lock())
    assert use(shared, node) == expected
    (record,) = caplog.records
    assert os.strerror(number) in record.getMessage()
    assert (copies(node), leftovers(node)) == ([], [])


class open_lock:  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_where_the_kernel_has_no_locks_nothing_is_staged(shared, node, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(staging.fcntl, "flock", unsupported)
    monkeypatch.setattr(locks, "SETTLE_S", 0.0)
    assert use(shared, node) == bits_of(PixelCache.open(shared))
    assert "No locks available" in caplog.text


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("$NOT_SET_HERE/dctkd", "a variable of $NOT_SET_HERE/dctkd is not set here"),
        ("scratch", "expected the path of a folder from / on, got 'scratch'"),
        ("", "expected the path of a folder"),
        ("/proc/nothing", "No such file"),
    ],
)
def test_a_place_that_is_none_is_one_line(shared, caplog, to, words):
    with near_pixels(shared, PixelCache.open(shared).fingerprint, Staging(to)) as pixels:
        assert pixels.num_images("test") == 12
    (record,) = caplog.records
    assert words in record.getMessage()


def test_variables_are_those_of_the_job(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "local"))
    use(shared, "$SLURM_TMPDIR/dctkd")
    assert copies(tmp_path / "local/dctkd") == ["set0"]


def test_a_copy_that_others_may_write_is_not_trusted(shared, node, caplog):
    use(shared, node)
    (copy,) = [path for path in node.iterdir() if path.is_dir()]
    copy.chmod(0o777)
    use(shared, node)
    assert "another user may write to it" in caplog.text
    copy.chmod(0o700)
    node.chmod(0o777)
    (copy / "test/pixels.bin").unlink()
    use(shared, node)
    assert "others may replace what lies there" in caplog.text
    assert not (copy / "test/pixels.bin").exists()


def test_no_cache_at_all_is_an_error_with_staging_too(tmp_path, node):
    with pytest.raises(InputError, match="no pixel cache there"), near_pixels(tmp_path, "f", Staging(str(node))):
        pass


def test_an_error_of_the_job_is_not_taken_for_one_of_staging(shared, node, caplog):
    with (
        pytest.raises(OSError, match="of the job"),
        near_pixels(shared, PixelCache.open(shared).fingerprint, Staging(str(node))),
    ):
        raise OSError("of the job")
    assert caplog.records == []


class Stop(Exception):  # noqa: N818
    pass


def test_who_is_asked_to_stop_leaves_no_half_copy(shared, node):
    asked = []

    def stop():
        asked.append(1)
        if len(asked) > 3:
            raise Stop

    with pytest.raises(Stop):
        use(shared, node, ask=stop)
    assert (copies(node), leftovers(node)) == ([], [])


def start(shared, node):
    return subprocess.Popen(
        [sys.executable, "-c", COPY_AND_HANG, str(shared), str(node)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process):
    process.kill()
    process.communicate()


def test_what_a_killed_job_left_in_mid_copy_is_removed_by_the_next(shared, packed, node):
    process = start(shared, node)
    try:
        assert process.stdout.readline() == "in mid-copy\n"
        process.send_signal(signal.SIGKILL)
    finally:
        end(process)
    assert len(leftovers(node)) == 1
    use(packed[1], node)
    assert (copies(node), leftovers(node)) == (["set1"], [])


def test_of_two_jobs_of_a_node_one_copies_and_the_other_waits(shared, node, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(locks, "POLL_S", 0.02)
    process = start(shared, node)
    try:
        assert process.stdout.readline() == "in mid-copy\n"
        waits = threading.Event()
        done = []
        thread = threading.Thread(target=lambda: done.append(use(shared, node, ask=waits.set)))
        thread.start()
        assert waits.wait(20)
        assert copies(node) == []
        process.stdin.write("\n")
        process.stdin.flush()
        thread.join(20)
        assert done == [bits_of(PixelCache.open(shared))]
    finally:
        end(process)
    assert f"waiting for a copy of pixels by process {process.pid}" in caplog.text
    assert "copied to" not in caplog.text, "the other did that"


def test_a_dead_job_does_not_keep_its_copy(packed, node):
    process = start(packed[0], node)
    try:
        assert process.stdout.readline() == "in mid-copy\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "reads\n"
        limit = 1.5 * size_of(packed[0])
        use(packed[1], node, limit)
        assert copies(node) == ["set0"]
    finally:
        end(process)
    use(packed[1], node, limit)
    assert copies(node) == ["set1"]


def test_a_copy_that_is_replaced_in_the_moment_it_is_found_is_locked_anew(shared, node, monkeypatch):
    use(shared, node)
    (copy,) = [path for path in node.iterdir() if path.is_dir()]
    flock = fcntl.flock

    def after_it_went(handle, kind):
        monkeypatch.setattr(staging.fcntl, "flock", flock)
        copy.rename(copy.with_name(".gone"))
        shutil.copytree(copy.with_name(".gone"), copy)
        flock(handle, kind)

    monkeypatch.setattr(staging.fcntl, "flock", after_it_went)
    fingerprint = PixelCache.open(shared).fingerprint
    with near_pixels(shared, fingerprint, Staging(str(node))):
        assert not staging._is_unused(copy)
