"""The GPU of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dctkd.engine.device import DeviceKind, claim_gpu
from dctkd.errors import InputError


@contextmanager
def job_device(kind: DeviceKind) -> Iterator[torch.device]:
    """Give the device that a job computes on; a GPU is claimed from other jobs while the block runs.

    Args:
        kind: What the job is to compute on.

    Raises:
        InputError: If it is to compute on a GPU and there is none, or none is free.
    """
    if kind == "cpu":
        yield torch.device("cpu")
        return
    if not torch.cuda.is_available():
        raise InputError(
            "device: this job is to compute on a GPU, but torch sees none here; say device: cpu (on a cluster: "
            "resources gpu=0), or install a torch that can use this machine's driver"
        )
    with claim_gpu(_gpu_names()) as index:
        yield torch.device("cuda", index)


def _gpu_names() -> list[str]:
    """Return what tells the visible GPUs, or parts of GPUs, from all others of the machine."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    num_gpus = torch.cuda.device_count()
    if len(visible) == num_gpus and all(name.startswith("MIG-") for name in visible):
        return visible
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(num_gpus)]
