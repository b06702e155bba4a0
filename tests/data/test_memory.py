"""Memory grows neither with the dataset that is packed nor with the cache that is read."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dctkd.data.cache import SCHEMA

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells peaks in /proc only")

READ = """
import sys
from pathlib import Path
from dctkd.data.cache import PixelCache
cache = PixelCache.open(Path(sys.argv[1]))
step = cache.num_images("train") // 64
print(sum(int(cache.image("train", index * step).sum()) for index in range(64)))
"""
PACK = """
import sys
from pathlib import Path
from dctkd.data.manifest import Entry, Manifest
from dctkd.data.packing import pack
root, num_images = Path(sys.argv[1]), int(sys.argv[3])
entries = tuple(
    Entry(f"{split}/{index}", "photograph.jpg", 0, split)
    for split in ("train", "test") for index in range(num_images // 2)
)
pack(Manifest("files", ("scene",), entries, (), root), Path(sys.argv[2]), short_side=160, request={})
"""
# Of this process, from its own memory map: resource.getrusage would count the one that started it.
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_mib(code, *arguments):
    """Return the peak of a process's resident memory, mapped files included, in MiB."""
    command = [sys.executable, "-c", code + PEAK, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def sparse_cache(path, num_images, side=224):
    """Write a cache of black images that takes no disk; the format is that of dctkd.data.cache."""
    num_bytes = side * side * 3
    rows = [(index * num_bytes, side, side, 0) for index in range(num_images)]
    for split in ("train", "test"):
        (path / split).mkdir(parents=True)
        np.save(path / split / "index.npy", np.array(rows, dtype=np.int64))
        with (path / split / "pixels.bin").open("wb") as file:
            file.truncate(num_images * num_bytes)
    splits = {"num_images": num_images, "pixels_bytes": num_images * num_bytes, "has_masks": False}
    header = {
        "schema": SCHEMA,
        "fingerprint": "",
        "classes": ["a"],
        "mask_names": [],
        "short_side": side,
        "request": {},
    }
    (path / "fingerprint.json").write_text(json.dumps({**header, "splits": {"train": splits, "test": splits}}))
    return path


def test_a_reader_of_a_large_cache_needs_no_more_memory_than_one_of_a_small_one(tmp_path):
    peaks = [peak_mib(READ, sparse_cache(tmp_path / str(number), number)) for number in (1000, 20_000)]
    # 19,000 more images have 2.9 GB of pixels and 0.6 MB of index.
    assert abs(peaks[1] - peaks[0]) < 2, peaks


def test_packing_many_photographs_needs_no_more_memory_than_packing_few(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8)).resize((200, 160))
    noise.save(tmp_path / "photograph.jpg")
    peaks = [peak_mib(PACK, tmp_path, tmp_path / f"cache{number}", number) for number in (400, 2400)]
    # 2000 more images have 240 MB of pixels; what is noted about each takes less than 1.5 kB.
    assert peaks[1] - peaks[0] < 2000 * 1.5e3 / 2**20 + 4, peaks
