"""What a network and a method cost: multiply-adds (MACs), parameters, checkpoint bytes.

fvcore counts one multiply-add as one; FLOPs are twice the MACs. Convolutions, linear layers, matrix products,
attention, normalisation, pooling and resampling count; activations, element-wise sums, reductions and Fourier
transforms do not, and are listed by name and number of calls instead. Only the forward is counted.

Shapes: B images, C channels, H rows, W columns, K classes, D pooled features.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from dctkd.errors import InputError
from dctkd.methods.base import Batch, Method
from dctkd.models import ModelSpec, Outputs, StageModel
from dctkd.weights import describe_error

SMALL_BATCHES = (4, 8, 12, 16)
"""Batch sizes from which the count of a larger batch follows where it is a polynomial of at most second degree."""


@dataclass(frozen=True)
class ModelCost:
    """Cost of a network's forward for one image.

    Attributes:
        macs: Multiply-adds.
        parameters: Number of parameters, classifier included.
        ignored_ops: Operators that do not count, with their number of calls.
    """

    macs: int
    parameters: int
    ignored_ops: Mapping[str, int]

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-add."""
        return 2 * self.macs

    def to_dict(self) -> dict[str, Any]:
        """Return the record of cost.json."""
        return {"macs": self.macs, "parameters": self.parameters, "ignored_ops": dict(self.ignored_ops)}


@dataclass(frozen=True)
class MethodCost:
    """What a method adds to the training; the networks' own forwards are not in it.

    Attributes:
        extra_parameters: Parameters of the method's own layers.
        extra_macs: Multiply-adds of the method's forward per image, for batches of `batch_size`; None if they cannot be
            counted.
        reason: Why they cannot; None if they can.
        batch_size: Images per batch in the count: that of the training for a loss that compares images, whose cost
            grows with it.
        ignored_ops: Operators that do not count, with their number of calls per batch.
    """

    extra_parameters: int
    extra_macs: int | None
    reason: str | None
    batch_size: int
    ignored_ops: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the record of cost.json."""
        return {
            "extra_parameters": self.extra_parameters,
            "extra_macs": self.extra_macs,
            "extra_macs_reason": self.reason,
            "extra_macs_batch_size": self.batch_size,
            "extra_ignored_ops": dict(self.ignored_ops),
        }


def measure_model(model: nn.Module, *, input_size: int) -> ModelCost:
    """Count a network's MACs for one square image, in evaluation mode, and its parameters.

    The network itself is left as it is: a copy is traced.

    Args:
        model: A `StageModel` or any network of images, on any device.
        input_size: Side of the image, in pixels.

    Raises:
        InputError: If the network cannot be traced.
    """
    net = copy.deepcopy(model.net if isinstance(model, StageModel) else model).eval()
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    try:
        macs, ignored_ops = _trace(net, (torch.zeros(1, 3, input_size, input_size, device=device),))
    except Exception as error:
        raise InputError(f"{type(net).__name__}: its MACs cannot be counted ({describe_error(error)})") from error
    return ModelCost(macs=macs, parameters=count_parameters(net), ignored_ops=ignored_ops)


def measure_method(
    method: Method, student: ModelSpec, teacher: ModelSpec, *, input_size: int, batch_size: int
) -> MethodCost:
    """Count what a method's forward adds per training image, and its parameters.

    The method runs on random features in training mode, as a copy on the CPU; neither it nor the random state changes.

    Args:
        method: The method, built for these two specs.
        student: Shapes of the student's outputs.
        teacher: Shapes of the teacher's outputs.
        input_size: Side of the square images, in pixels.
        batch_size: Images per batch, as in training; a method that takes each image by itself is counted on two, and
            one that couples them on small batches where its count is a polynomial of their size.
    """
    batch_size = batch_size if method.needs_whole_batch else min(batch_size, 2)
    traced = copy.deepcopy(method).cpu().train()
    extra_parameters = count_parameters(traced)
    try:
        macs, ignored_ops = _macs_of_batch(
            lambda size: _count_batch(traced, student, teacher, input_size=input_size, batch_size=size), batch_size
        )
    except Exception as error:
        return MethodCost(extra_parameters, None, describe_error(error), batch_size, {})
    return MethodCost(extra_parameters, round(macs / batch_size), None, batch_size, ignored_ops)


def _macs_of_batch(count: Callable[[int], tuple[int, dict[str, int]]], batch_size: int) -> tuple[int, dict[str, int]]:
    """Return MACs of a batch and what is ignored; a large batch is not run where small ones tell its count exactly.

    Losses that compare every image with every other grow with the square of the batch: ResNet-50 to ResNet-18 under
    semckd takes a minute at 128 images. Three small batches give the polynomial, a fourth must lie on it.
    """
    *fitted, checked = SMALL_BATCHES
    if batch_size <= checked:
        return count(batch_size)
    counted = {size: count(size) for size in SMALL_BATCHES}

    def extrapolated(size: int) -> Fraction:
        shares = {a: [Fraction(size - b, a - b) for b in fitted if b != a] for a in fitted}
        return sum((counted[a][0] * math.prod(shares[a], start=Fraction(1)) for a in fitted), start=Fraction(0))

    macs, ignored_ops = counted[checked]
    if extrapolated(checked) != macs or any(ops != ignored_ops for _, ops in counted.values()):
        return count(batch_size)
    return int(extrapolated(batch_size)), ignored_ops


def _count_batch(
    traced: Method, student: ModelSpec, teacher: ModelSpec, *, input_size: int, batch_size: int
) -> tuple[int, dict[str, int]]:
    """Count a method's forward for one batch of random features."""
    generator = torch.Generator().manual_seed(0)
    target_B = torch.arange(batch_size) % student.num_classes
    batch = Batch(
        images_BCHW=torch.zeros(batch_size, 3, input_size, input_size),
        target_B=target_B,
        index_B=torch.arange(batch_size),
        epoch=0,
        progress=0.0,
    )
    tensors = (
        *_random_outputs(student, batch_size, generator, requires_grad=True),
        *_random_outputs(teacher, batch_size, generator, requires_grad=False),
    )
    wrapper = _TensorsToTerms(traced, batch, num_student_tensors=2 + len(student.stages))
    with torch.random.fork_rng(devices=[]):
        return _trace(wrapper, tensors)


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def checkpoint_bytes(student: nn.Module, method: nn.Module | None, *, optimizer_buffers: int) -> int:
    """Return the bytes of all tensors that a training checkpoint holds: student, method and optimiser.

    Args:
        student: The network that is trained.
        method: The method; None for plain training.
        optimizer_buffers: Tensors that the optimiser keeps per trainable parameter: SGD 0, with momentum 1, AdamW 2.
    """
    modules = [student] if method is None else [student, method]
    states = [tensor for module in modules for tensor in module.state_dict().values()]
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    return _num_bytes(states) + optimizer_buffers * _num_bytes(trained)


class _TensorsToTerms(nn.Module):
    """A method as a function of tensors alone, which is what tracing takes."""

    def __init__(self, method: Method, batch: Batch, *, num_student_tensors: int) -> None:
        super().__init__()
        self.method = method
        self.batch = batch
        self.num_student_tensors = num_student_tensors

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the terms; an input as it is if there are none, because a trace must return something."""
        student, teacher = tensors[: self.num_student_tensors], tensors[self.num_student_tensors :]
        terms = self.method(
            Outputs(student[0], tuple(student[2:]), student[1]),
            Outputs(teacher[0], tuple(teacher[2:]), teacher[1]),
            self.batch,
        )
        return tuple(terms.values()) or (tensors[0],)


def _random_outputs(
    spec: ModelSpec, batch_size: int, generator: torch.Generator, *, requires_grad: bool
) -> tuple[Tensor, ...]:
    """Logits, pooled features and stage maps of a network, as plain tensors in this order."""
    shapes = [(spec.num_classes,), (spec.pooled_dim,)]
    maps = [(stage.channels, stage.height, stage.width) for stage in spec.stages]
    return tuple(
        torch.randn(batch_size, *shape, generator=generator).requires_grad_(requires_grad) for shape in [*shapes, *maps]
    )


def _trace(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, dict[str, int]]:
    """MACs of a module's forward, and the operators that were not counted."""
    with warnings.catch_warnings():
        # fvcore 0.1.5 compiles a loss of its own when imported; this filter goes once it does not.
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")
        from fvcore.nn import FlopCountAnalysis
    handles = {
        "aten::matmul": _matmul_macs,
        "aten::scaled_dot_product_attention": _attention_macs,
        "prim::PythonOp._HalfSpectrumFilter": _spectral_filter_macs,
    }
    analysis = FlopCountAnalysis(module, inputs).set_op_handle(**handles)
    # The operators that do not count are returned, so fvcore need not log them. It mutes TracerWarning while it traces.
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    macs = round(analysis.total())
    return macs, dict(sorted(analysis.unsupported_ops().items()))


def _matmul_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of a product that may broadcast; fvcore's own count takes the batch of the first operand only."""
    from fvcore.nn.jit_handles import get_shape

    return int(math.prod(get_shape(outputs[0])) * get_shape(inputs[0])[-1])


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of fused attention, which fvcore leaves out: queries times keys, then weights times values."""
    from fvcore.nn.jit_handles import get_shape

    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _spectral_filter_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of the complex products in `functional.fourier.filter_real_maps`, four real ones each."""
    from fvcore.nn.jit_handles import get_shape

    features, weight = (get_shape(tensor) for tensor in inputs[:2])
    return int(4 * features[0] * math.prod(weight))


def _num_bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
