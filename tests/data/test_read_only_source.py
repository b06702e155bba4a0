"""Photographs are only read: a copy on a read-only disk, or one that belongs to somebody else, is enough."""

import subprocess
import sys
from pathlib import Path

import pytest

# Fails at anything that would change a file or folder below the root, whoever runs it: root may write anywhere.
PREPARE_AND_WATCH = """
import os, sys
from pathlib import Path
from dctkd.data.prepare import prepare

root, target, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime",
           "os.link", "os.symlink", "shutil.rmtree", "shutil.move", "tempfile.mkstemp", "tempfile.mkdtemp"}

def watch(event, values):
    if event == "open" and not values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return
    if event != "open" and event not in CHANGES:
        return
    for value in values:
        if isinstance(value, (str, bytes, os.PathLike)) and Path(os.fsdecode(value)).is_relative_to(root):
            os.write(2, f"{event} {value}".encode())
            os._exit(3)

sys.addaudithook(watch)
cache = prepare("miniplaces", {}, root, 30, "drop", target, workers)
print(cache.num_images("train"))
"""


@pytest.fixture
def root(tmp_path, make_miniplaces):
    root = make_miniplaces(tmp_path / "data", num_train=15)
    (root / "images/train/a/abbey/00000003.jpg").write_bytes(b"broken")
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root.chmod(0o555)
    yield root
    for path in folders:
        path.chmod(0o755)


def snapshot(root: Path):
    found = {path: path.stat() for path in (root, *sorted(root.rglob("*")))}
    return {
        path: (status.st_ino, status.st_size, status.st_mode, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in found.items()
    }


def prepare_and_watch(root, target, workers):
    command = [sys.executable, "-c", PREPARE_AND_WATCH, str(root), str(target), str(workers)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_read_only_source_is_packed_and_stays_as_it_is(root, tmp_path, workers):
    before = snapshot(root)
    done = prepare_and_watch(root, tmp_path / "cache", workers)
    assert (done.returncode, done.stdout) == (0, "44\n"), done.stderr
    assert snapshot(root) == before


def test_the_watch_would_notice_a_write(root):
    done = prepare_and_watch(root, root / "cache", 1)
    assert done.returncode == 3
    assert str(root) in done.stderr
