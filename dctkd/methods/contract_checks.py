"""Checks of a method on one pair of networks: plain functions that raise AssertionError with what to mend."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from dctkd.methods.base import Method
from dctkd.methods.contract_trial import BATCH_SIZE, Inputs, Trial, tensors_of, terms_of

NUM_STEPS = 20
STEP = 0.01


def require(holds: bool, message: str) -> None:
    """Raise AssertionError with the message unless the condition holds."""
    if not holds:
        raise AssertionError(message)


def check_terms(trial: Trial) -> None:
    """Terms are named, 0-d, float32, finite, and have the same names on every batch."""
    method = trial.build()
    terms = terms_of(method, trial.inputs())
    require(isinstance(terms, dict), f"forward must return a dict of named terms, got {type(terms).__name__}")
    expects_terms = trial.method_class.features != "none"
    require(bool(terms) == expects_terms, "forward must return terms, and none if features is 'none'")
    for name, term in terms.items():
        require(isinstance(name, str) and name.isidentifier(), f"a term's name must be an identifier, got {name!r}")
        _require_term(name, term)
    names = list(terms_of(method, trial.inputs(seed=11)))
    require(names == list(terms), f"the names of the terms change from {list(terms)} to {names}")


def check_bfloat16(trial: Trial) -> None:
    """Under autocast with bfloat16 inputs, terms are float32 and within 10 % of the float32 ones."""
    reference = terms_of(trial.build(), trial.inputs())
    inputs = trial.inputs().converted(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = terms_of(trial.build(), inputs)
    for name, term in terms.items():
        _require_term(name, term)
        expected = reference[name].item()
        is_near = abs(term.item() - expected) <= 0.1 * abs(expected) + 1e-6  # bfloat16 keeps 8 bits of every input.
        require(is_near, f"term {name} is {term.item():.6g} for bfloat16 inputs, {expected:.6g} for float32")


def check_inputs_untouched(trial: Trial) -> None:
    """The networks' outputs and the batch are not written to; other methods read them next."""
    inputs = trial.inputs()
    before = [tensor.detach().clone() for tensor in _all_tensors(inputs)]
    _backward(terms_of(trial.build(), inputs))
    changed = [
        n for n, (old, new) in enumerate(zip(before, _all_tensors(inputs), strict=True)) if not torch.equal(old, new)
    ]
    require(not changed, "forward writes into its inputs (an in-place ReLU or normalisation?); work on a copy")


def check_gradients(trial: Trial) -> None:
    """A finite gradient reaches the student and every trainable parameter; the teacher needs none."""
    method, inputs = trial.build(), trial.inputs()
    terms = terms_of(method, inputs)
    if not terms:
        return
    _backward(terms)
    gradients = [tensor.grad for tensor in inputs.student_tensors() if tensor.grad is not None]
    require(any(bool(gradient.any()) for gradient in gradients), "no gradient reaches the student's outputs")
    for name, parameter in method.named_parameters():
        require(not parameter.requires_grad or parameter.grad is not None, f"parameter {name} gets no gradient")
        gradients += [] if parameter.grad is None else [parameter.grad]
    require(all(bool(gradient.isfinite().all()) for gradient in gradients), "a gradient is not finite")
    require(all(tensor.grad is None for tensor in tensors_of(inputs.teacher)), "a gradient reaches the teacher")


def check_dead_images(trial: Trial) -> None:
    """An image whose outputs are all 0 gives finite terms and gradients."""
    inputs = trial.inputs().with_dead_images()
    terms = terms_of(trial.build(), inputs)
    _backward(terms)
    for name, term in terms.items():
        _require_term(name, term)
    gradients = [tensor.grad for tensor in inputs.student_tensors() if tensor.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    require(
        finite, "the gradient is not finite for an image whose features are all 0 (a norm, a division or a log at 0?)"
    )


def check_constant_maps(trial: Trial) -> None:
    """Outputs that are the same at every position and for every image give finite terms and gradients."""
    _require_finite(trial.build(), trial.inputs().constant(), "outputs that are constant")


def check_batch_of_one(trial: Trial) -> None:
    """A batch of one image, the last one of an epoch, gives finite terms and gradients."""
    _require_finite(trial.build(), trial.inputs().taken(torch.tensor([0])), "a batch of one image")


def check_teacher_never_right(trial: Trial) -> None:
    """Sample weights that are all 0 give terms of 0 and finite gradients."""
    inputs = trial.inputs().weighted(torch.zeros(BATCH_SIZE))
    terms = _require_finite(trial.build(), inputs, "sample weights that are all 0")
    for name, term in terms.items():
        require(abs(term.item()) <= 1e-6, f"term {name} is {term.item():.6g} though every sample weight is 0")


def check_state_round_trip(trial: Trial) -> None:
    """state_dict() holds all that changes: a new method that loads it continues with the same bits."""
    first, second = trial.build(seed=0), trial.build(seed=7)
    for seed in (21, 22):
        _backward(terms_of(first, trial.inputs(seed), seed))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True), strict=True)
    straight, resumed = (terms_of(method, trial.inputs(23), 23) for method in (first, second))
    different = [name for name in straight if not torch.equal(straight[name], resumed[name])]
    require(
        not different,
        f"terms {different} differ after a save and load: something that changes is neither parameter nor buffer",
    )


def check_nothing_kept(trial: Trial) -> None:
    """Between steps a method keeps parameters, buffers and constants; no outputs, networks, counters or generators."""
    method = trial.build()
    for name, parameter in method.named_parameters():
        require(
            not isinstance(parameter, nn.UninitializedParameter), f"parameter {name} is lazy; create it from the specs"
        )
    before = _attributes(method)
    parameters = {name: id(parameter) for name, parameter in method.named_parameters()}
    _backward(terms_of(method, trial.inputs()))
    after = _attributes(method)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    require(not changed, f"forward changes the attributes {changed}; what changes between steps must be a buffer")
    require(
        parameters == {name: id(parameter) for name, parameter in method.named_parameters()},
        "forward adds or replaces parameters",
    )
    grown = [name for name, buffer in method.named_buffers() if buffer.grad_fn is not None]
    require(not grown, f"buffers {grown} hold on to the graph of a step; detach what is written to them")


def check_random_numbers(trial: Trial) -> None:
    """Random numbers come from torch's global generator only, which is never seeded by a method."""
    inputs, terms = trial.inputs(), []
    for foreign_seed in (1, 2):
        with _foreign_generators(foreign_seed), torch.random.fork_rng(devices=[]):
            torch.manual_seed(33)
            method = trial.make()
            terms.append(method(inputs.student, inputs.teacher, inputs.batch))
            require(torch.initial_seed() == 33, "the method seeds torch's global generator; the engine owns it")
    same = all(torch.equal(term, terms[1][name]) for name, term in terms[0].items())
    require(same, "two runs from one torch seed differ: some random numbers have another source")


def check_loss_falls(trial: Trial) -> None:
    """Twenty small steps on the student's outputs and the method's parameters lower the sum of the terms."""
    method, inputs = trial.build(), trial.inputs()
    first = _sum(terms_of(trial.build(), inputs)).item()
    trained = [*inputs.student_tensors(), *method.parameters()]
    terms: dict[str, Tensor] = {}
    for _ in range(NUM_STEPS):
        terms = terms_of(method, inputs)
        _backward(terms)
        with torch.no_grad():
            for tensor in trained:
                if tensor.grad is not None:  # The sign: a step of one size whatever the scale of the loss.
                    tensor.sub_(STEP * tensor.grad.sign())
                    tensor.grad = None
    last = _sum(terms_of(method, inputs)).item()
    require(
        not terms or last < first, f"the loss does not fall in {NUM_STEPS} steps: {first:.6g} before, {last:.6g} after"
    )


def check_batch_doubled(trial: Trial) -> None:
    """A batch that holds every sample twice gives the same terms: each is a mean over the batch."""
    if trial.method_class.needs_whole_batch or _draws(trial):
        return
    rows = torch.arange(BATCH_SIZE).repeat(2)
    _require_same(
        trial, trial.inputs().taken(rows), "every sample twice (terms must be means over the batch: batch.mean)"
    )


def check_batch_order(trial: Trial) -> None:
    """The order of the samples does not matter, unless the class says so."""
    if trial.method_class.batch_order_matters or _draws(trial):
        return
    rows = torch.arange(BATCH_SIZE).flip(0)
    _require_same(trial, trial.inputs().taken(rows), "the samples in reverse order (or set batch_order_matters)")


def check_sample_weights(trial: Trial) -> None:
    """Weights w and 1 - w split every term into two parts; all ones change nothing."""
    if trial.method_class.needs_whole_batch:
        return
    mask_B = (torch.arange(BATCH_SIZE) % 3 == 0).float()
    _require_same(trial, trial.inputs().weighted(torch.ones(BATCH_SIZE)), "sample weights of 1")
    whole = terms_of(trial.build(), trial.inputs())
    parts = [terms_of(trial.build(), trial.inputs().weighted(weight_B)) for weight_B in (mask_B, 1 - mask_B)]
    for name, term in whole.items():
        total = (parts[0][name] + parts[1][name]).item()
        require(
            _is_close(total, term.item()),
            f"term {name}: weights w and 1 - w give {total:.6g} in sum, no weights {term.item():.6g}",
        )


def _require_term(name: str, term: Tensor) -> None:
    is_scalar = isinstance(term, Tensor) and term.shape == () and term.dtype == torch.float32
    got = f"{tuple(term.shape)} {term.dtype}" if isinstance(term, Tensor) else type(term).__name__
    require(is_scalar, f"term {name} must be a 0-d float32 tensor, got {got}")
    require(bool(term.isfinite()), f"term {name} is {term.item()}")


def _require_finite(method: Method, inputs: Inputs, what: str) -> dict[str, Tensor]:
    terms = terms_of(method, inputs)
    _backward(terms)
    for name, term in terms.items():
        _require_term(name, term)
    gradients = [tensor.grad for tensor in (*inputs.student_tensors(), *method.parameters()) if tensor.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    require(finite, f"a gradient is not finite for {what}")
    return terms


def _require_same(trial: Trial, changed: Inputs, what: str) -> None:
    expected, got = terms_of(trial.build(), trial.inputs()), terms_of(trial.build(), changed)
    for name, term in expected.items():
        require(
            _is_close(got[name].item(), term.item()),
            f"term {name} moves from {term:.6g} to {got[name]:.6g} with {what}",
        )


def _is_close(value: float, expected: float) -> bool:
    return abs(value - expected) <= 1e-4 * abs(expected) + 1e-6  # Float32 sums in another order, through a few layers.


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values(), start=torch.zeros(()))


def _backward(terms: dict[str, Tensor]) -> None:
    if terms:
        total = _sum(terms)
        require(total.requires_grad, "the terms do not depend on the student's outputs: something detaches them")
        total.backward()  # type: ignore[no-untyped-call]


def _draws(trial: Trial) -> bool:
    """Return whether forward draws random numbers: a changed batch changes the draws, so terms cannot be compared."""
    method, inputs = trial.build(), trial.inputs()
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        method(inputs.student, inputs.teacher, inputs.batch)
        return not torch.equal(before, torch.get_rng_state())


def _all_tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    batch = inputs.batch
    return (*tensors_of(inputs.student), *tensors_of(inputs.teacher), batch.images_BCHW, batch.target_B, batch.index_B)


def _attributes(method: Method) -> dict[str, str]:
    """Return a description of every attribute but parameters, buffers and submodules; refuse what must not be one."""
    described = {}
    for path, module in method.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") and name in vars(nn.Module()):
                continue
            for leaf in _leaves(value):
                is_constant = not isinstance(
                    leaf, (Tensor, nn.Module, torch.Generator, random.Random, np.random.Generator)
                )
                kind = type(leaf).__name__
                require(
                    is_constant,
                    f"attribute {name} holds a {kind}: make it a parameter, a buffer or a submodule, or drop it",
                )
            described[f"{path}.{name}".lstrip(".")] = repr(value)
    return described


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


@contextmanager
def _foreign_generators(seed: int) -> Iterator[None]:
    """Seed the generators of Python and NumPy, require that nobody draws from them, and put them back."""
    kept_python, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (a method might use it by mistake)
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
        yield
        after = (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
        require(before == after, "the method draws from random or numpy; draw from torch's global generator")
    finally:
        random.setstate(kept_python)
        np.random.set_state(kept_numpy)  # noqa: NPY002


PAIR_CHECKS: Final[Mapping[str, Callable[[Trial], None]]] = MappingProxyType(
    {
        "terms": check_terms,
        "bfloat16": check_bfloat16,
        "inputs untouched": check_inputs_untouched,
        "gradients": check_gradients,
        "dead images": check_dead_images,
        "constant maps": check_constant_maps,
        "batch of one": check_batch_of_one,
        "teacher never right": check_teacher_never_right,
        "state round trip": check_state_round_trip,
        "nothing kept": check_nothing_kept,
        "random numbers": check_random_numbers,
        "loss falls": check_loss_falls,
        "batch doubled": check_batch_doubled,
        "batch order": check_batch_order,
        "sample weights": check_sample_weights,
    }
)
