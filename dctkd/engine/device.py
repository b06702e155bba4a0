"""Where a job computes and in which precision, resolved once per run.

Imports no torch: a job that only publishes needs the answer too.
"""

from __future__ import annotations

import fcntl
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from dctkd.errors import InputError

DeviceKind = Literal["cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def resolve_device(wanted: str = "auto") -> DeviceKind:
    """Return the kind of device to use.

    Args:
        wanted: auto, cpu or cuda. auto takes CUDA where a driver is loaded and CUDA_VISIBLE_DEVICES does not hide
            every GPU.

    Raises:
        InputError: If `wanted` is something else.
    """
    if wanted == "cpu":
        return "cpu"
    if wanted == "cuda":
        return "cuda"
    if wanted != "auto":
        raise InputError(f"device: expected auto, cpu or cuda, got {wanted!r}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return "cuda" if NVIDIA_DRIVER.exists() and not hidden else "cpu"


def resolve_precision(wanted: str, device: DeviceKind) -> Precision:
    """Return the precision of a run: `auto` is bfloat16 where the hardware computes it natively.

    The CPU's word is taken (AVX512-BF16 or AMX), not a timing: a probe is slowest exactly where bfloat16 is emulated
    (10 times on AVX2).

    Args:
        wanted: auto, float32 or bfloat16.
        device: Kind of device; every CUDA device since 2020 has bfloat16.
    """
    if wanted == "float32":
        return "float32"
    if wanted == "bfloat16" or device == "cuda" or _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16"
    return "float32"


@cache
def _cpu_flags() -> frozenset[str]:
    return frozenset(_cpuinfo("flags").split())


@cache
def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux: unknown hardware counts as hardware without bfloat16
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def cpu_model() -> str:
    """Return the CPU's name as its maker writes it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def gpu_lock_folder() -> Path:
    """Return where this user's claims on GPUs lie, a lock file each; it need not exist."""
    return Path(tempfile.gettempdir()) / f"dctkd-gpus-{os.getuid()}"


@contextmanager
def claim_gpu(names: Sequence[str]) -> Iterator[int]:
    """Claim one GPU that no other job of this user's claims; yields its index.

    Snakemake counts GPUs but hands out no indices, so jobs claim theirs under a lock file.

    Args:
        names: Of the visible GPUs, in order; not their indices: a batch system may show each of its jobs another GPU
            as number 0.

    Raises:
        InputError: If all are claimed.
    """
    folder = gpu_lock_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    for index, name in enumerate(names):
        file = os.open(folder / f"{name.replace('/', '_')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        try:
            yield index
        finally:
            os.close(file)
        return
    raise InputError(
        f"device: all {len(names)} GPUs are claimed by other jobs; run fewer at a time with `--resources "
        f"gpu={len(names)}`"
    )
