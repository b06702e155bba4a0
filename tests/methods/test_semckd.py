"""semckd against NumPy in float64, image by image, its groups and its options."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from dctkd.errors import InputError
from dctkd.methods import METHODS
from dctkd.methods.contract import check_method
from dctkd.methods.contract_trial import PAIRS
from tests.methods.cases import (
    batch,
    gradients_are_right,
    outputs,
    pooled_numpy,
    spec,
    weights_of,
    with_inputs,
)
from tests.methods.layered import conv_norm, convolve, create_seeded

STUDENT = spec(((2, 8, 4), (3, 4, 4), (2, 2, 2)))
TEACHER = spec(((4, 4, 8), (3, 4, 4), (5, 2, 2)))
GROUP = 8


def semckd(student=STUDENT, teacher=TEACHER, *, similarity_size=GROUP, **options):
    return create_seeded("semckd", student, teacher, similarity_size=similarity_size, **options).double()


def networks(batch_size, student=STUDENT, teacher=TEACHER):
    return (outputs(s, n, batch_size=batch_size, dtype=torch.float64) for n, s in enumerate((student, teacher)))


def numpy_embedding(features_BD, image, weights, prefix):
    """The unit vector of one image, from its similarities to the images of its group."""
    start = image // GROUP * GROUP
    row = np.zeros(GROUP)
    for column, other in enumerate(features_BD[start : start + GROUP]):
        row[column] = features_BD[image] @ other
    hidden = np.maximum(weights[f"{prefix}.0.weight"] @ row + weights[f"{prefix}.0.bias"], 0)
    vector = weights[f"{prefix}.2.weight"] @ hidden + weights[f"{prefix}.2.bias"]
    return vector / np.linalg.norm(vector)


def numpy_error(feature_s, feature_t, weights, prefix):
    """The error of each image for one pair of stages."""
    sides = [min(s, t) for s, t in zip(feature_s.shape[2:], feature_t.shape[2:], strict=True)]
    x, target = (pooled_numpy(feature, *sides) for feature in (feature_s, feature_t))
    for layer in (0, 1):
        x = np.maximum(conv_norm(x, weights, f"{prefix}.{layer}"), 0)
    return ((convolve(x, weights[f"{prefix}.2.weight"]) - target) ** 2).mean(axis=(1, 2, 3))


def numpy_values(method, student, teacher):
    """One value per image, from the formula."""
    weights = weights_of(method)
    maps_s, maps_t = ([stage.numpy() for stage in o.stages] for o in (student, teacher))
    num_images, num_stages = len(maps_s[0]), len(maps_s)
    values = np.zeros(num_images)
    for s, feature_s in enumerate(maps_s):
        errors = [
            numpy_error(feature_s, feature_t, weights, f"projections.{s * num_stages + t}")
            for t, feature_t in enumerate(maps_t)
        ]
        for image in range(num_images):
            query = numpy_embedding(feature_s.reshape(num_images, -1), image, weights, f"queries.{s}")
            keys = [
                numpy_embedding(feature_t.reshape(num_images, -1), image, weights, f"keys.{t}")
                for t, feature_t in enumerate(maps_t)
            ]
            alpha = softmax([query @ key for key in keys])
            values[image] += sum(alpha[t] * errors[t][image] for t in range(num_stages)) / num_stages
    return values


@pytest.mark.parametrize("batch_size", [3, 8, 11])  # A smaller group, one whole group, a whole and a smaller one.
def test_semckd_matches_the_reference_formula(batch_size):
    (student, teacher), method = networks(batch_size), semckd()
    terms = method(student, teacher, batch(batch_size))
    assert list(terms) == ["matched"]
    np.testing.assert_allclose(terms["matched"].item(), numpy_values(method, student, teacher).mean(), rtol=1e-10)


def test_semckd_weights_samples_and_divides_by_the_whole_batch():
    (student, teacher), method = networks(3), semckd()
    value = method(student, teacher, batch(sample_weight_B=torch.tensor([1.0, 0.0, 1.0])))["matched"].item()
    expected = numpy_values(method, student, teacher)
    np.testing.assert_allclose(value, (expected[0] + expected[2]) / 3, rtol=1e-10)


def test_semckd_attention_is_a_distribution_over_teacher_stages():
    (student, teacher), method = networks(5), semckd()
    attention_BST = method.attention(student.stages, teacher.stages)
    torch.testing.assert_close(attention_BST.sum(dim=2), torch.ones(5, 3, dtype=torch.float64))


def test_semckd_attention_of_a_group_ignores_the_other_groups():
    (student, teacher), method = networks(11), semckd()
    changed = [stage.clone() for stage in student.stages]
    for stage in changed:
        stage[GROUP:] += 1.0
    before, after = (method.attention(stages, teacher.stages) for stages in (student.stages, tuple(changed)))
    assert torch.equal(before[:GROUP], after[:GROUP])
    assert not torch.equal(before[GROUP:], after[GROUP:])


def test_semckd_attention_passes_its_gradient_to_the_students_features():
    (student, teacher), method = networks(5), semckd()
    stages = tuple(stage.requires_grad_() for stage in student.stages)
    method.attention(stages, teacher.stages)[:, :, 0].sum().backward()
    assert all(bool(stage.grad.any()) for stage in stages)


def test_semckd_attention_is_the_same_under_autocast():
    student, teacher = outputs(STUDENT, 0), outputs(TEACHER, 1)
    method = semckd().float()
    # Similarities around 1e9 are far above float16's 65504.
    stages = tuple(1e4 * stage for stage in student.stages)
    expected = method.attention(stages, teacher.stages)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method.attention(stages, teacher.stages), expected)


def test_semckd_of_features_that_are_all_zero_has_finite_gradients():
    (student, teacher), method = networks(3), semckd()
    dead = with_inputs(student, stages=tuple(torch.zeros_like(stage).requires_grad_() for stage in student.stages))
    method(dead, with_inputs(teacher, stages=map(torch.zeros_like, teacher.stages)), batch())["matched"].backward()
    assert all(stage.grad.isfinite().all() for stage in dead.stages)


def test_semckd_gradient_is_right():
    student_spec, teacher_spec = spec(((1, 4, 2), (2, 1, 2))), spec(((2, 2, 2), (1, 1, 2)))
    student, teacher = networks(3, student_spec, teacher_spec)
    assert gradients_are_right(semckd(student_spec, teacher_spec), student, teacher, batch(), "stages")


def test_semckd_leaves_out_the_first_stage_of_both_networks():
    (student, teacher), method = networks(3), semckd(skip_first_stage=True)
    deeper = [with_inputs(network, stages=network.stages[1:]) for network in (student, teacher)]
    value = method(student, teacher, batch())["matched"].item()
    np.testing.assert_allclose(value, numpy_values(method, *deeper).mean(), rtol=1e-10)


def of_epoch(epoch, batch_size=5):
    return replace(batch(batch_size), epoch=epoch)


def statistics(method):
    return {name: buffer.clone() for name, buffer in method.named_buffers() if "running" in name}


def test_semckd_freezes_the_statistics_of_its_first_epoch_if_asked():
    (student, teacher), method = networks(5), semckd(freeze_batch_norm=True)
    initial = statistics(method)
    method(student, teacher, of_epoch(0))
    first = statistics(method)
    assert all(not torch.equal(first[name], initial[name]) for name in first)
    method(student, teacher, of_epoch(1))
    assert all(torch.equal(first[name], later) for name, later in statistics(method).items())


def numpy_frozen_errors(method, student, teacher):
    """The errors of every pair of stages as `numpy_error` has them, with the running statistics."""
    weights, pairs = weights_of(method), itertools.product(student.stages, teacher.stages)
    errors = []
    for n, (feature_s, feature_t) in enumerate(pairs):
        sides = [min(s, t) for s, t in zip(feature_s.shape[2:], feature_t.shape[2:], strict=True)]
        x, target = (pooled_numpy(feature.numpy(), *sides) for feature in (feature_s, feature_t))
        for layer in (0, 1):
            own = {key: weights[f"projections.{n}.{layer}.{key}"] for key in ("0.weight", "1.weight", "1.bias")}
            mean, var = (weights[f"projections.{n}.{layer}.1.running_{key}"] for key in ("mean", "var"))
            scale = own["1.weight"] / np.sqrt(var + 1e-5)
            x = convolve(x, own["0.weight"]) * scale.reshape(1, -1, 1, 1)
            x = np.maximum(x + (own["1.bias"] - mean * scale).reshape(1, -1, 1, 1), 0)
        result = convolve(x, weights[f"projections.{n}.2.weight"])
        errors.append(((result - target) ** 2).mean(axis=(1, 2, 3)))
    return np.stack(errors, axis=1).reshape(len(errors[0]), len(student.stages), len(teacher.stages))


def test_semckd_with_frozen_statistics_matches_the_reference_formula():
    (student, teacher), method = networks(5), semckd(freeze_batch_norm=True)
    method(student, teacher, of_epoch(0))
    value = method(student, teacher, of_epoch(1))["matched"].item()
    attention_BST = method.attention(student.stages, teacher.stages).detach().numpy()
    expected = (attention_BST * numpy_frozen_errors(method, student, teacher)).sum(axis=2).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-10)


def test_semckd_trains_every_weight_while_its_statistics_are_frozen():
    (student, teacher), method = networks(5), semckd(freeze_batch_norm=True)
    method(student, teacher, of_epoch(1))["matched"].backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in method.parameters())


@pytest.mark.parametrize("epoch", [0, 1])
def test_semckd_leaves_its_modules_in_the_modes_that_the_engine_gave_them(epoch):
    (student, teacher), method = networks(5), semckd(freeze_batch_norm=True)
    method.projections[0].eval()
    before = [module.training for module in method.modules()]
    method(student, teacher, of_epoch(epoch))
    assert [module.training for module in method.modules()] == before


def test_semckd_with_frozen_statistics_keeps_the_contract():
    # Its batches are of epoch 3; a state that is loaded there goes on with the same bits.
    results = check_method(METHODS["semckd"], options={"mid_channels": 8, "freeze_batch_norm": True}, pairs=PAIRS[-2:])
    assert [result for result in results if not result.passed] == []


@pytest.mark.parametrize(
    ("options", "teacher_channels", "mid_channels"),
    [({}, 256, 512), ({}, 300, 512), ({"mid_channels": None}, 300, 600), ({"mid_channels": 7}, 300, 7)],
)
def test_semckd_projects_through_twice_the_teachers_channels_up_to_the_bound(options, teacher_channels, mid_channels):
    method = semckd(spec(((2, 2, 2),)), spec(((teacher_channels, 2, 2),)), **options)
    assert method.projections[0][1][0].weight.shape == (mid_channels, mid_channels, 3, 3)


def test_semckd_refuses_to_skip_the_only_stage():
    one = spec(((2, 4, 4),))
    with pytest.raises(InputError, match="semckd: skip_first_stage leaves no stage"):
        semckd(one, one, skip_first_stage=True)
