"""Specs, outputs and batches that the tests of methods are made of."""

import numpy as np
import torch
from torch.autograd import gradcheck

from dctkd.methods.base import Batch, DataSpec
from dctkd.models import ModelSpec, Outputs, StageSpec

NUM_CLASSES = 3
POOLED_DIM = 4
DATA = DataSpec(NUM_CLASSES, 12, tuple(index % NUM_CLASSES for index in range(12)))


def spec(stages=(), *, num_classes=NUM_CLASSES, pooled_dim=POOLED_DIM):
    """Return the spec of a network; each stage is (channels, height, width)."""
    return ModelSpec(num_classes, tuple(StageSpec(*stage) for stage in stages), pooled_dim)


def outputs(model, seed, *, batch_size=3, dtype=torch.float32):
    """Return random outputs of a spec: normal logits, rectified stages and pooled features."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(batch_size, *shape, generator=generator, dtype=dtype)

    stages = tuple(normal(stage.channels, stage.height, stage.width).relu() for stage in model.stages)
    return Outputs(2.0 * normal(model.num_classes), stages, normal(model.pooled_dim).relu())


def batch(batch_size=3, sample_weight_B=None):
    """Return the batch of images 0, 1, 2, ... with labels 0, 1, 2, 0, ..."""
    index_B = torch.arange(batch_size)
    return Batch(torch.zeros(batch_size, 3, 8, 8), index_B % NUM_CLASSES, index_B, 0, 0.0, sample_weight_B)


def with_inputs(student, *, logits_BK=None, stages=None, pooled_BD=None):
    """Return the outputs with some of them replaced."""
    return Outputs(
        student.logits_BK if logits_BK is None else logits_BK,
        student.stages if stages is None else tuple(stages),
        student.pooled_BD if pooled_BD is None else pooled_BD,
    )


def values_of(terms):
    """Return the terms as a mapping from name to number."""
    return {name: term.item() for name, term in terms.items()}


def weights_of(module):
    """Return a module's parameters and buffers as float64 NumPy arrays by name."""
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def gradients_are_right(method, student, teacher, of_batch, read):
    """Check the sum of a method's terms in float64 against finite differences.

    `read` names what is differentiated: "logits", "stages" or "pooled".
    """
    method = method.double()
    count = len(student.stages)

    def total(*inputs):
        changed = {
            "logits": lambda: with_inputs(student, logits_BK=inputs[0]),
            "stages": lambda: with_inputs(student, stages=inputs[:count]),
            "pooled": lambda: with_inputs(student, pooled_BD=inputs[0]),
        }[read]()
        return sum(method(changed, teacher, of_batch).values())

    given = {"logits": (student.logits_BK,), "stages": student.stages, "pooled": (student.pooled_BD,)}[read]
    return gradcheck(total, tuple(tensor.detach().clone().requires_grad_() for tensor in given))


def pooled_numpy(feature_BCHW, height, width):
    """Average-pool a NumPy array (..., H, W) whose sides are multiples of height and width."""
    *rest, rows, columns = feature_BCHW.shape
    blocks = feature_BCHW.reshape(*rest, height, rows // height, width, columns // width)
    return np.asarray(blocks.mean(axis=(-3, -1)))
