"""What computes: processor, cores, precision, GPUs. Imports torch only in another process, and only for a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dctkd.cgroups import cpu_limit
from dctkd.data.disk_space import readable_bytes
from dctkd.doctor.finding import Finding, Surroundings
from dctkd.doctor.torch_process import ask_torch
from dctkd.engine.device import (
    NVIDIA_DRIVER,
    cpu_model,
    gpu_lock_folder,
    resolve_device,
    resolve_precision,
)

ON_THE_CPU = "export CUDA_VISIBLE_DEVICES="
INSTALL_CUDA = (
    "uv pip install --torch-backend auto --reinstall-package torch --reinstall-package torchvision torch torchvision"
)
NVIDIA = "0x10de"


def processor(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell the processor and how much of it there is to use."""
    num_cores = os.cpu_count() or 1
    num_usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else num_cores
    limit = cpu_limit(surroundings.root)
    text = f"{cpu_model()}, {num_cores} core{'s' * (num_cores > 1)}"
    if limit is not None and limit < num_usable:
        cores = max(int(limit), 1)
        text += f", but a cgroup grants {limit:.3g}: more jobs than that slow each other down"
        yield Finding("processor", "warning", text, f"snakemake --cores {cores}")
    elif num_usable < num_cores:
        yield Finding("processor", "note", f"{text}, {num_usable} of them for this process")
    else:
        yield Finding("processor", "ok", text)


def auto(_: Surroundings) -> Iterator[Finding]:
    """Tell what `auto` means here."""
    device = resolve_device("auto")
    precision = resolve_precision("auto", device)
    why = "" if device == "cuda" else f" ({'with' if precision == 'bfloat16' else 'without'} AVX512-BF16 or AMX)"
    yield Finding("auto", "ok", f"device {device}, precision {precision}{why}")


def gpus(surroundings: Surroundings) -> Iterator[Finding]:
    """Compare what is there with what torch can use."""
    if not NVIDIA_DRIVER.exists():
        if _has_nvidia_hardware(surroundings.root):
            yield Finding("GPU", "note", "an NVIDIA GPU is there but no driver is loaded, so jobs use the CPU")
        else:
            yield Finding("GPU", "ok", "none")
        return
    if resolve_device("auto") == "cpu":
        yield Finding("GPU", "note", "CUDA_VISIBLE_DEVICES hides every GPU, so jobs use the CPU")
        return
    answer = ask_torch()
    if "error" in answer:
        yield Finding("GPU", "note", f"a driver is loaded; torch could not be asked: {answer['error']}")
    elif not answer["devices"]:
        yield _unusable(answer)
    else:
        yield from _usable(answer["devices"])


def gpu_claims(surroundings: Surroundings) -> Iterator[Finding]:
    """Tell which GPUs jobs of this user hold."""
    if not NVIDIA_DRIVER.exists():
        return
    holders = _holders(surroundings.root)
    for path in sorted(gpu_lock_folder().glob("*.lock")):
        if (process := holders.get(path.stat().st_ino)) is not None:
            yield Finding("GPU claims", "note", f"process {process} holds GPU {path.stem}")


CHECKS = (processor, auto, gpus, gpu_claims)


def _unusable(answer: dict[str, Any]) -> Finding:
    version = answer["version"]
    if answer["cuda"] is None:
        text = f"a driver is loaded but torch {version} has no CUDA, so jobs stop; or use the CPU: {ON_THE_CPU}"
        return Finding("GPU", "problem", text, INSTALL_CUDA)
    reason = f" ({answer['warning']})" if answer["warning"] else ""
    text = (
        f"torch {version} for CUDA {answer['cuda']} finds no GPU that it can use{reason}; update the driver, "
        "or compute on the CPU"
    )
    return Finding("GPU", "problem", text, ON_THE_CPU)


def _usable(devices: list[dict[str, Any]]) -> Iterator[Finding]:
    for number, device in enumerate(devices):
        memory = f"{readable_bytes(device['free_bytes'])} of {readable_bytes(device['total_bytes'])} free"
        yield Finding("GPU", "ok", f"{number}: {device['name']}, {memory}")
    if len(devices) > 1:
        text = f"{len(devices)} GPUs; the profile hands out one, unless told:"
        yield Finding("GPU", "note", text, f"snakemake --cores all --resources gpu={len(devices)}")


def _has_nvidia_hardware(root: Path) -> bool:
    for folder in (root / "sys/bus/pci/devices").glob("*"):
        try:
            # Class 03: display controllers. A GPU brings other devices of its maker, such as sound.
            is_display = (folder / "class").read_text().startswith("0x03")
            if is_display and (folder / "vendor").read_text().strip() == NVIDIA:
                return True
        except OSError:
            continue
    return False


def _holders(root: Path) -> dict[int, int]:
    """Inode to process of every lock that the kernel lists.

    Asked of the kernel, not by trying: a lock taken for a moment could turn away the job that wants the GPU just then.
    """
    rows = [line.split() for line in (root / "proc/locks").read_text().splitlines()]
    return {int(row[5].rpartition(":")[2]): int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK"}
