"""kd against scipy in float64."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore
from torch.autograd import gradcheck

from dctkd.methods import create
from dctkd.methods.base import Batch, DataSpec
from dctkd.methods.kd import KD
from dctkd.models import ModelSpec, Outputs

SPEC = ModelSpec(num_classes=5, stages=(), pooled_dim=2)


def outputs(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return Outputs(3.0 * torch.randn(4, 5, generator=generator, dtype=dtype), (), torch.zeros(4, 2))


def batch(sample_weight_B=None):
    return Batch(torch.zeros(4, 3, 2, 2), torch.arange(4), torch.arange(4), 0, 0.0, sample_weight_B)


def kd(**options):
    return create("kd", SPEC, SPEC, DataSpec(5, 4, (0, 1, 2, 3)), **options)


def numpy_kl(student, teacher, temperature):
    p, q = (softmax(o.logits_BK.double().numpy() / temperature, axis=1) for o in (teacher, student))
    return temperature**2 * rel_entr(p, q).sum(axis=1)


@pytest.mark.parametrize(("options", "temperature"), [({}, 4.0), ({"temperature": 2}, 2.0)])
def test_kd_matches_the_reference_formula(options, temperature):
    student, teacher = outputs(0), outputs(1)
    value = kd(**options)(student, teacher, batch())["kl"].item()
    np.testing.assert_allclose(value, numpy_kl(student, teacher, temperature).mean(), rtol=1e-5)


def test_kd_weights_samples_and_divides_by_the_whole_batch():
    student, teacher = outputs(0), outputs(1)
    weight_B = torch.tensor([1.0, 0.0, 0.0, 0.5])
    value = kd()(student, teacher, batch(weight_B))["kl"].item()
    np.testing.assert_allclose(value, (numpy_kl(student, teacher, 4.0) * weight_B.numpy()).sum() / 4, rtol=1e-5)


def test_kd_gradient_is_right():
    teacher, start = outputs(1, torch.float64), outputs(0, torch.float64)

    def term(logits_BK):
        return kd()(Outputs(logits_BK, (), start.pooled_BD), teacher, batch())["kl"]

    assert gradcheck(term, start.logits_BK.requires_grad_())


def test_kd_defaults_are_those_of_p1():
    assert (KD.default_weight, KD.default_ce, KD.Options().temperature) == (0.8, 0.1, 4.0)


def test_kd_standardises_both_networks_before_the_temperature():
    student, teacher = outputs(0), outputs(1)
    value = kd(standardise=True, temperature=2)(student, teacher, batch())["kl"].item()
    p, q = (softmax(zscore(o.logits_BK.double().numpy(), axis=1) / 2, axis=1) for o in (teacher, student))
    np.testing.assert_allclose(value, 4 * rel_entr(p, q).sum(axis=1).mean(), rtol=1e-4)  # Small values of float32.


def test_kd_does_not_standardise_by_default():
    student, teacher = outputs(0), outputs(1)
    given, default = (method(student, teacher, batch())["kl"] for method in (kd(standardise=False), kd()))
    assert torch.equal(given, default)
