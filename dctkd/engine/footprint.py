"""How much memory the students of a pack take, and how much their job may: what does not fit is trained after the rest.

Between two steps a student keeps its weights, the method's layers and the optimiser's state; these add up over a pack.
One step needs gradients and what autograd keeps of the forward pass, of one student at a time.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dctkd.cgroups import free_memory_bytes
from dctkd.data.pixel_source import free_bytes
from dctkd.engine.learner import Learner
from dctkd.engine.objective import num_state_tensors
from dctkd.metrics.cost import checkpoint_bytes
from dctkd.models import ModelSpec

SAFETY = 1.5
"""On what one step needs, because the method's own maps and the gaps between blocks of memory are not counted."""


def granted_bytes(device: torch.device, threads: int) -> int:
    """Return how many bytes of memory a job may take.

    On a GPU what is free there: a job has claimed it for itself. On a CPU the share of the machine's memory that its
    threads are of the cores, or what is free if that is less, for the machine and for the groups of a batch system.

    Args:
        device: Where the job computes.
        threads: Of the recipe.
    """
    if device.type == "cuda":
        return free_bytes(device)
    memory = psutil.virtual_memory()
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = memory.total * min(threads / num_cores, 1.0)
    in_groups = free_memory_bytes(Path("/"))
    return int(min(share, memory.available, *([] if in_groups is None else [in_groups])))


def kept_bytes(learner: Learner) -> int:
    """Return what a learner holds between two steps."""
    state_tensors = num_state_tensors(learner.identity.recipe.optimiser)
    return checkpoint_bytes(learner.model, learner.objective, optimizer_buffers=state_tensors)


def step_bytes(learner: Learner) -> int:
    """Return what one step of a learner needs beside what it keeps: gradients, and the maps that autograd keeps.

    Counted by a forward pass without numbers, in float32: more than bfloat16 takes.
    """
    recipe = learner.identity.recipe
    images = min(recipe.micro_batch or recipe.batch_size, recipe.batch_size)
    gradients = sum(parameter.nbytes for parameter in learner.parameters)
    return gradients + map_bytes(learner.model, images, learner.identity.data.input.crop)


def teacher_bytes(model: nn.Module, spec: ModelSpec, images: int) -> int:
    """Return what a teacher takes: its weights, and its maps of one batch in float32."""
    values = sum(stage.channels * stage.height * stage.width for stage in spec.stages)
    weights = sum(tensor.nbytes for tensor in chain(model.parameters(), model.buffers()))
    return weights + 4 * values * images


class Room:
    """What is left of a job's memory while the students of a pack are built one after the other."""

    def __init__(self, granted: int, *, shared: int) -> None:
        """Start with what the job may take, without what there is once; both in bytes."""
        self.left = granted - shared
        self.step: int | None = None

    def takes(self, learner: Learner) -> bool:
        """Tell whether a learner fits beside those before it, and if so count it in; the first one always does.

        The first one's step is taken for all: they train one network, one after the other.
        """
        is_first = self.step is None
        if self.step is None:
            self.step = int(SAFETY * step_bytes(learner))
            self.left -= self.step
        own = kept_bytes(learner)
        if own > self.left and not is_first:
            return False
        self.left -= own
        return True


def map_bytes(model: nn.Module, images: int, input_size: int) -> int:
    """Return what autograd keeps of a forward pass on so many square images of a side, in float32."""
    meta = {
        name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for name, tensor in chain(model.named_parameters(), model.named_buffers())
    }
    weights = {tensor.untyped_storage()._cdata for tensor in meta.values()}
    saved: dict[int, Tensor] = {}  # held until the end: storages are told apart by where they lie

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    images_BCHW = torch.empty(images, 3, input_size, input_size, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        functional_call(model, meta, (images_BCHW,))
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)
