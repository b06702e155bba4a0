"""The batch mean and the base class."""

import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods.base import Batch, DataSpec, Method
from dctkd.methods.options import MethodOptions
from dctkd.models import ModelSpec, Outputs, StageSpec


def batch(sample_weight_B=None):
    return Batch(torch.zeros(4, 3, 2, 2), torch.arange(4), torch.arange(4), 0, 0.0, sample_weight_B)


def test_mean_without_weights_is_the_plain_mean():
    assert batch().mean(torch.tensor([1.0, 2.0, 3.0, 6.0])).item() == 3.0


def test_mean_with_weights_divides_by_the_batch_size():
    weighted = batch(torch.tensor([1.0, 0.0, 0.0, 0.5]))
    assert weighted.mean(torch.tensor([2.0, 100.0, 100.0, 4.0])).item() == 1.0


def test_mean_of_bfloat16_is_float32():
    assert batch().mean(torch.ones(4, dtype=torch.bfloat16)).dtype == torch.float32


def test_mean_of_float64_stays_float64_with_weights():
    assert batch(torch.ones(4)).mean(torch.ones(4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (4, 4)])
def test_mean_refuses_anything_but_one_loss_per_sample(shape):
    with pytest.raises(ValueError, match=r"one loss per sample, shape \(4,\)"):
        batch().mean(torch.zeros(shape))


class ReadsStages(Method):
    title = "Reads stages"
    features = "stages + pooled"


def test_a_method_on_stages_refuses_a_pair_without_stages():
    bare = ModelSpec(2, (), 4)
    with pytest.raises(InputError, match=r"at least one; got 0 and 0; see pairs\.stages"):
        ReadsStages(bare, bare, DataSpec(2, 1, (0,)), MethodOptions())


def test_forward_must_be_defined():
    spec = ModelSpec(2, (StageSpec(1, 1, 1),), 4)
    outputs = Outputs(torch.zeros(4, 2), (torch.zeros(4, 1, 1, 1),), torch.zeros(4, 4))
    with pytest.raises(NotImplementedError, match=r"ReadsStages must define forward"):
        ReadsStages(spec, spec, DataSpec(2, 1, (0,)), MethodOptions())(outputs, outputs, batch())
