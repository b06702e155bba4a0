"""The processes that share one run: which one this is, and what they do together. Alone, all of it does nothing.

What every process does in the same order: build, each step, each look, each save, each round of a test. Whatever may
differ from one process to another (a signal, a clock, a lock) is agreed upon before anybody acts on it, so none waits
for one that has left. What cannot be agreed upon, an exception in one of them, ends that process and thereby all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dctkd.data.batches import WHOLE, Part
from dctkd.engine.failure import DivergedError
from dctkd.engine.interrupt import Interrupt
from dctkd.errors import InputError
from dctkd.models import first_batch_norm

BATCH_NORM_REMEDY = (
    "set synchronise_batch_norm: false (statistics over each process's images), take a network with group or layer "
    "normalisation (options: {norm_layer: groupnorm}), or remove processes"
)


class Ranks(Protocol):
    """This process among those that share a run."""

    part: Part

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes what the run leaves behind."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """What tells this process's random states from those of the first."""
        ...

    def is_of_all(self, error: Exception) -> bool:
        """Tell whether an exception of a step arises in all processes at once, so that they can go on together."""
        ...

    def synchronise(self, module: nn.Module) -> None:
        """Let a module's batch normalisation layers take their statistics over the whole batch."""
        ...

    def replicate(self, module: nn.Module) -> nn.Module:
        """Return a module whose gradients are the means over all processes'."""
        ...

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[None]:
        """Keep gradients of a replicated module to this process while the block runs."""
        ...

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, in place; the host does not wait for a GPU."""
        ...

    def totals(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the sums over all processes, each read from the device; a name may be missing in some."""
        ...

    def agree(self, *wishes: bool) -> list[bool]:
        """Return, for each wish, whether any process has it; learns by the way whether all should stop."""
        ...

    def require_same(self, what: str, own: Any) -> None:
        """Refuse to go on if this process and another do not have the same."""
        ...

    def gather(self, own: Any) -> list[Any]:
        """Return what each process has, by rank; an empty list in all but the first. Tensors must be on the CPU."""
        ...

    def gather_tensors(self, own: list[Tensor]) -> list[list[Tensor]]:
        """Return the tensors of each process, by rank; an empty list in all but the first."""
        ...

    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's running statistics."""
        ...


class Alone:
    """A run of one process."""

    part = WHOLE
    is_first = True
    names: tuple[str, ...] = ()

    def is_of_all(self, error: Exception) -> bool:
        """See `Ranks`."""
        return True

    def synchronise(self, module: nn.Module) -> None:
        """See `Ranks`."""

    def replicate(self, module: nn.Module) -> nn.Module:
        """See `Ranks`."""
        return module

    def without_exchange(self, module: nn.Module) -> AbstractContextManager[None]:
        """See `Ranks`."""
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """See `Ranks`."""
        return value

    def totals(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """See `Ranks`."""
        return {name: value.item() for name, value in sums.items()}

    def agree(self, *wishes: bool) -> list[bool]:
        """See `Ranks`."""
        return list(wishes)

    def require_same(self, what: str, own: Any) -> None:
        """See `Ranks`."""

    def gather(self, own: Any) -> list[Any]:
        """See `Ranks`."""
        return [own]

    def gather_tensors(self, own: list[Tensor]) -> list[list[Tensor]]:
        """See `Ranks`."""
        return [own]

    def share_buffers(self, module: nn.Module) -> None:
        """See `Ranks`."""


ALONE = Alone()


class AgreedInterrupt(Interrupt):
    """Asks to stop only when all processes have agreed to, so that all stop at one step."""

    def __init__(self, stop_file: Path) -> None:
        """Watch signals, the parent's life and a file by which the launching process asks to stop."""
        super().__init__()
        self.is_agreed = False
        self._stop_file = stop_file

    @property
    def is_wanted(self) -> bool:
        """Tell whether this process has been asked to stop."""
        return super().requested or self._stop_file.exists()

    @property
    def requested(self) -> bool:
        """Tell whether all have agreed to save and stop."""
        return self.is_agreed


class Group:
    """One of several processes, joined by torch.distributed: NCCL between GPUs, gloo between CPUs and for all talk."""

    def __init__(self, device: torch.device, interrupt: AgreedInterrupt) -> None:
        """Take rank and size from the joined group."""
        self.part = Part(dist.get_rank(), dist.get_world_size())
        self.device, self.interrupt = device, interrupt
        talk = dist.new_group(backend="gloo")
        assert isinstance(talk, dist.ProcessGroup)  # it is not for processes outside the group
        self._talk = talk

    @property
    def is_first(self) -> bool:
        """See `Ranks`."""
        return self.part.rank == 0

    @property
    def names(self) -> tuple[str, ...]:
        """See `Ranks`."""
        return () if self.is_first else (f"rank {self.part.rank}",)

    def is_of_all(self, error: Exception) -> bool:
        """See `Ranks`; loss and gradient norm are those of the whole batch in every process."""
        return isinstance(error, DivergedError)

    def synchronise(self, module: nn.Module) -> None:
        """See `Ranks`.

        Raises:
            InputError: On a CPU, if the module has batch normalisation.
        """
        layer = first_batch_norm(module)
        if layer is None:
            return
        if self.device.type != "cuda":
            raise InputError(
                f"recipes: processes: torch synchronises batch normalisation ({layer}) on GPUs only; "
                f"{BATCH_NORM_REMEDY}"
            )
        from timm.layers.norm_act import convert_sync_batchnorm  # knows timm's layers that are norm and activation

        convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]

    def replicate(self, module: nn.Module) -> nn.Module:
        """See `Ranks`.

        Parameters without a gradient are looked for in every step: a method may leave some out, and where torch looks
        for them it keeps the buckets in which gradients are added up as they are. It would else arrange them anew
        after the first step, and sums over three or more processes would have other bits after a resume.
        """
        return DistributedDataParallel(module, find_unused_parameters=True)

    @contextmanager
    def without_exchange(self, module: nn.Module) -> Iterator[None]:
        """See `Ranks`."""
        assert isinstance(module, DistributedDataParallel)
        with module.no_sync():
            yield

    def sum(self, value: Tensor) -> Tensor:
        """See `Ranks`."""
        dist.all_reduce(value)
        return value

    def totals(self, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """See `Ranks`; added up in the order of the ranks."""
        total: dict[str, float] = {}
        for own in self._of_all({name: value.item() for name, value in sums.items()}):
            for name, value in own.items():
                total[name] = total.get(name, 0.0) + value
        return total

    def agree(self, *wishes: bool) -> list[bool]:
        """See `Ranks`."""
        flags = torch.tensor([*wishes, self.interrupt.is_wanted], dtype=torch.uint8)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._talk)
        *agreed, self.interrupt.is_agreed = (bool(flag) for flag in flags.tolist())
        return agreed

    def _of_all(self, own: Any) -> list[Any]:
        everyone: list[Any] = [None] * self.part.num_ranks
        dist.all_gather_object(everyone, own, group=self._talk)
        return everyone

    def require_same(self, what: str, own: Any) -> None:
        """See `Ranks`.

        Raises:
            RuntimeError: In every process.
        """
        everyone = self._of_all(own)
        if any(other != own for other in everyone):
            raise RuntimeError(f"the processes of the run do not have the same {what}: {everyone}")

    def gather(self, own: Any) -> list[Any]:
        """See `Ranks`."""
        everyone: list[Any] | None = [None] * self.part.num_ranks if self.is_first else None
        dist.gather_object(own, everyone, group=self._talk)
        return everyone or []

    def gather_tensors(self, own: list[Tensor]) -> list[list[Tensor]]:
        """See `Ranks`; they arrive on the CPU."""
        return self.gather([tensor.cpu() for tensor in own])

    def share_buffers(self, module: nn.Module) -> None:
        """See `Ranks`."""
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Return when all processes have come here."""
        dist.barrier(group=self._talk)


@contextmanager
def joined(device: torch.device, interrupt: AgreedInterrupt) -> Iterator[Group]:
    """Join the group that the launcher has described in the environment (RANK, WORLD_SIZE, MASTER_ADDR, ...).

    Left in order only: after an exception the others are not waited for.

    Args:
        device: Where this process computes.
        interrupt: Asked at every look.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group = Group(device, interrupt)
    yield group
    group.wait()
    dist.destroy_process_group()
