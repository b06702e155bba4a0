"""mgd against NumPy with loops over positions, its masks, and its gradient."""

import numpy as np
import pytest
import torch

from dctkd.errors import InputError
from dctkd.methods import create
from dctkd.methods.mgd import MGD
from tests.methods.cases import DATA, batch, gradients_are_right, outputs, pooled_numpy, spec, weights_of

STUDENT = spec([(3, 4, 4), (4, 4, 6)])
TEACHER = spec([(3, 4, 4), (5, 2, 3)])


def mgd(student=STUDENT, teacher=TEACHER, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create("mgd", student, teacher, DATA, **options)


def value_of(method, student, teacher, of_batch, seed=7):
    """Return the term when torch's global generator starts from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return method(student, teacher, of_batch)["generation"].item()


def convolved(feature_CHW, weight_DCkk, bias_D):
    """Convolve with zero padding, position by position."""
    side = weight_DCkk.shape[-1] // 2
    padded = np.pad(feature_CHW, ((0, 0), (side, side), (side, side)))
    result_DHW = np.empty((len(bias_D), *feature_CHW.shape[1:]))
    for row, column in np.ndindex(feature_CHW.shape[1:]):
        patch = padded[:, row : row + 2 * side + 1, column : column + 2 * side + 1]
        result_DHW[:, row, column] = (weight_DCkk * patch).sum(axis=(1, 2, 3)) + bias_D
    return result_DHW


def numpy_terms(method, student, teacher, kept_BC):
    """Squared differences of each image, summed; the student's map is pooled to 2 x 3."""
    weights = weights_of(method)
    student_BCHW = pooled_numpy(student.stages[-1].double().numpy(), 2, 3)
    sums = []
    for student_CHW, teacher_CHW, kept_C in zip(
        student_BCHW, teacher.stages[-1].double().numpy(), kept_BC, strict=True
    ):
        aligned = student_CHW
        if "align.weight" in weights:
            aligned = convolved(student_CHW, weights["align.weight"], weights["align.bias"])
        hidden = convolved(aligned * kept_C[:, None, None], weights["generate.0.weight"], weights["generate.0.bias"])
        rebuilt = convolved(np.maximum(hidden, 0), weights["generate.2.weight"], weights["generate.2.bias"])
        sums.append(((rebuilt - teacher_CHW) ** 2).sum())
    return np.array(sums)


def test_mgd_without_masks_matches_the_reference_formula():
    method, student, teacher = mgd(mask_fraction=0), outputs(STUDENT, 0), outputs(TEACHER, 1)
    expected = numpy_terms(method, student, teacher, np.ones((3, 5))).mean()
    np.testing.assert_allclose(value_of(method, student, teacher, batch()), expected, rtol=1e-5)


def test_mgd_with_masks_matches_the_reference_formula():
    method, student, teacher = mgd(mask_fraction=0.5), outputs(STUDENT, 0), outputs(TEACHER, 1)
    kept_BC = np.random.default_rng(0).random((3, 5)) > 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, **_: torch.from_numpy(kept_BC).double().view(shape))
        value = value_of(method, student, teacher, batch())
    np.testing.assert_allclose(value, numpy_terms(method, student, teacher, kept_BC).mean(), rtol=1e-5)


def test_mgd_aligns_nothing_if_the_channels_agree():
    same = spec([(5, 2, 3)])
    method, student, teacher = mgd(same, same, mask_fraction=0), outputs(same, 0), outputs(same, 1)
    assert "align.weight" not in weights_of(method)
    expected = numpy_terms(method, student, teacher, np.ones((3, 5))).mean()
    np.testing.assert_allclose(value_of(method, student, teacher, batch()), expected, rtol=1e-5)


def test_mgd_weights_samples_and_divides_by_the_whole_batch():
    method, student, teacher = mgd(mask_fraction=0), outputs(STUDENT, 0), outputs(TEACHER, 1)
    value = value_of(method, student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))
    expected = numpy_terms(method, student, teacher, np.ones((3, 5)))
    np.testing.assert_allclose(value, (expected[0] + expected[2]) / 3, rtol=1e-5)


def kept_channels(num_images, num_channels, sample_weight_B=None):
    """Return the mean number of channels that are left: ones that the generator passes on, against zeros."""
    model = spec([(num_channels, 1, 1)])
    method = mgd(model, model)
    method.generate = torch.nn.Identity()
    student, teacher = outputs(model, 0, batch_size=num_images), outputs(model, 0, batch_size=num_images)
    student.stages[0].fill_(1.0)
    teacher.stages[0].zero_()
    return value_of(method, student, teacher, batch(num_images, sample_weight_B))


def test_mgd_masks_the_given_fraction_of_channels():
    masked_fraction = 1.0 - kept_channels(64, 128) / 128
    # Four standard deviations of the mean of 8192 draws: 4 sqrt(0.15 * 0.85 / 8192).
    assert masked_fraction == pytest.approx(0.15, abs=0.016)


def test_mgd_masks_each_image_by_its_own_draw():
    kept_B = [kept_channels(4, 128, weight_B) for weight_B in torch.eye(4)]
    assert len(set(kept_B)) > 1


def test_mgd_draws_from_torchs_global_generator():
    method, student, teacher = mgd(mask_fraction=0.5), outputs(STUDENT, 0), outputs(TEACHER, 1)
    values = [value_of(method, student, teacher, batch(), seed) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_mgd_is_a_sum_over_positions():
    """A generator of zeros is 9 away from the teacher in each of 2 channels at each position."""
    small, large = spec([(2, 2, 2)]), spec([(2, 4, 4)])
    values = []
    for model in (small, large):
        method = mgd(model, model, mask_fraction=0)
        for parameter in method.parameters():
            torch.nn.init.zeros_(parameter)
        student, teacher = outputs(model, 0), outputs(model, 1)
        teacher.stages[0].fill_(3.0)
        values.append(value_of(method, student, teacher, batch()))
    assert values == [2 * 4 * 9.0, 2 * 16 * 9.0]


def test_mgd_reads_the_last_stage_only():
    method, student, teacher = mgd(mask_fraction=0), outputs(STUDENT, 0), outputs(TEACHER, 1)
    before = value_of(method, student, teacher, batch())
    student.stages[0].fill_(9.0)
    teacher.stages[0].fill_(-9.0)
    assert value_of(method, student, teacher, batch()) == before


def test_mgd_gradient_is_right():
    student, teacher = outputs(STUDENT, 0, dtype=torch.float64), outputs(TEACHER, 1, dtype=torch.float64)
    assert gradients_are_right(mgd(mask_fraction=0), student, teacher, batch(), "stages")


@pytest.mark.parametrize("mask_fraction", [-0.1, 1.0])
def test_mgd_refuses_a_mask_fraction_outside_its_range(mask_fraction):
    with pytest.raises(InputError, match="mask_fraction"):
        mgd(mask_fraction=mask_fraction)


def test_mgd_defaults_are_those_of_the_release_for_classification():
    assert (MGD.Options().mask_fraction, MGD.default_weight) == (0.15, 7e-5)
