"""torch.compile of the networks in training, where a recipe asks for it (`compile`).

What is compiled. The teacher and each student by itself, in place: names in state_dict, checkpoints and exports stay as
they are. Methods, objective and optimiser run as always. Students of one architecture share their compiled code.

Sizes. `dynamic=False`: every size of a batch has code of its own. There are few: a whole batch and the last one of an
epoch; with micro_batch up to three parts of these; so torch's limit of eight for teacher and student is not reached.
Else torch would compile for any size once it has met a second, and which code a step runs, and so its bits, would
depend on where a run was resumed.

Testing runs the plain network (`model.forward`): what is published of a run is then a function of its weights alone, as
it is for whoever loads them, and neither eval mode nor the size of test batches is compiled for.

CUDA graphs (reduce-overhead, max-autotune). Outputs of a graph lie in memory that is used again as soon as a new
*generation* begins (torch/_inductor/cudagraph_trees.py). By itself torch begins one at each call of compiled code while
no backward pass is pending: after the first student's backward pass the second student's call would take the memory of
the teacher's outputs, which that student still needs. Once `cudagraph_mark_step_begin` was called, generations begin
there and nowhere else. So one call per optimiser step, before the teacher's pass, is both needed and enough: teacher's
outputs live over all students of the step; gradients, which are outputs of the backward graphs, live from the first
part of a split batch (`micro_batch`) to the optimiser's step, which drops them; a mark per part would free them.
Nothing that the engine keeps longer (sums, momenta, memories of methods) is an output of a network itself.

Random numbers. Compiled code draws its seeds from the same global generators, so `RandomState` owns them as ever.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from dctkd.errors import InputError, is_out_of_memory, shown
from dctkd.recipe import CompileMode

COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch")


class CompileError(InputError):
    """torch cannot compile a network: a matter of the recipe, so it ends the job and not one student."""


def compile_network(model: nn.Module, mode: CompileMode | None, device: torch.device) -> None:
    """Let a network be compiled at its first call, in place.

    Args:
        model: The network, on its device.
        mode: As in the recipe; None leaves the network alone.
        device: Where it computes.

    Raises:
        CompileError: If the mode would break what is promised on a CPU.
    """
    if mode is None:
        return
    if mode == "max-autotune" and device.type == "cpu":
        raise CompileError(
            "recipes: compile: max-autotune picks code by timing it, so that a resumed run would not have the bits of "
            "an undisturbed one, which are promised on a CPU; take default there"
        )
    model.compile(mode=mode, dynamic=False, fullgraph=True)


def begin_step(mode: CompileMode | None) -> None:
    """Say that an optimiser step begins: outputs of the step before are not needed any more."""
    if mode is not None:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def forget_compiled(mode: CompileMode | None) -> None:
    """Give back compiled code, which is made for one job's number of threads, and the memory of CUDA graphs."""
    if mode is not None:
        torch.compiler.reset()


def meaning_of(error: Exception, mode: CompileMode | None) -> Exception:
    """Return what an exception of a step means where networks are compiled, such as the lack of memory beneath it.

    Args:
        error: What a network's forward or backward pass raised; both compile at their first call.
        mode: As in the recipe.

    Raises:
        CompileError: If the network could not be compiled.
    """
    if mode is None or isinstance(error, InputError):
        return error
    chain = list(_causes(error))
    if short := next((cause for cause in chain if is_out_of_memory(cause)), None):
        return short
    if not any(type(cause).__module__.startswith(COMPILERS) for cause in chain):
        return error
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raise CompileError(
        f"recipes: compile: {mode}: torch cannot compile the network ({shown(reason, quote='')}); remove compile from "
        "the recipe"
    ) from error


def _causes(error: BaseException) -> Iterator[Exception]:
    seen: BaseException | None = error
    while isinstance(seen, Exception):
        yield seen
        seen = seen.__cause__ or seen.__context__
