"""fam_layer against NumPy in float64 with NumPy's own inverse transform, and its options."""

import numpy as np
import pytest
import torch

from dctkd.methods import create
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, spec, values_of, weights_of

STUDENT = spec([(4, 4, 6), (5, 2, 2)])
TEACHER = spec([(3, 4, 6), (6, 4, 4)])


def fam_layer(student=STUDENT, teacher=TEACHER, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create("fam_layer", student, teacher, DATA, **options)


def numpy_errors(weights, student, teacher):
    errors = {}
    for n, (own, target) in enumerate(zip(student.stages, teacher.stages, strict=True)):
        x, target = own.double().numpy(), target.double().numpy()
        x = x.repeat(target.shape[2] // x.shape[2], axis=2).repeat(target.shape[3] // x.shape[3], axis=3)
        prefix = f"filters.{n}.1"
        pairs = weights[f"{prefix}.filter_VHIO2"]
        half = (pairs[..., 0] + 1j * pairs[..., 1]).transpose(2, 3, 1, 0)
        spectrum = np.einsum("biuv,iouv->bouv", np.fft.rfft2(x, norm="ortho"), half)
        filtered = np.fft.irfft2(spectrum, s=x.shape[2:], norm="ortho")
        local = np.einsum("bchw,oc->bohw", x, weights[f"{prefix}.local.weight"][:, :, 0, 0])
        local += weights[f"{prefix}.local.bias"][:, None, None]
        result = weights[f"{prefix}.rate_global"] * filtered + weights[f"{prefix}.rate_local"] * local
        errors[f"stage{n + 1}"] = ((result - target) ** 2).mean(axis=(1, 2, 3))
    return errors


def test_fam_layer_matches_the_reference_formula():
    student, teacher, method = outputs(STUDENT, 1), outputs(TEACHER, 2), fam_layer()
    expected = {name: error.mean() for name, error in numpy_errors(weights_of(method), student, teacher).items()}
    assert values_of(method(student, teacher, batch())) == pytest.approx(expected, rel=1e-5)


def test_fam_layer_counts_a_sample_by_its_weight():
    student, teacher, method = outputs(STUDENT, 1), outputs(TEACHER, 2), fam_layer()
    errors = numpy_errors(weights_of(method), student, teacher)
    expected = {name: (error[0] + error[2]) / 3 for name, error in errors.items()}
    weighted = batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0]))
    assert values_of(method(student, teacher, weighted)) == pytest.approx(expected, rel=1e-5)


def test_fam_layer_gradient_is_right():
    student, teacher = (outputs(s, seed, dtype=torch.float64) for seed, s in enumerate((STUDENT, TEACHER)))
    assert gradients_are_right(fam_layer(), student, teacher, batch(), "stages")


def test_fam_layer_reaches_signed_maps():
    method, student = fam_layer(), outputs(STUDENT, 1)
    own = student.stages[0]
    assert (method.filters[0](own - own.mean()) < 0).any()


def test_mid_channels_reduces_the_student_s_channels_first():
    method = fam_layer(mid_channels=2)
    assert [f[0][0].out_channels for f in method.filters] == [2, 2]
    assert method.filters[0][2].filter_VHIO2.shape == (4, 4, 2, 3, 2)
