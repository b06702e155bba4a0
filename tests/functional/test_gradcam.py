"""Grad-CAM against closed forms and finite differences, and what is no part of the graph."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dctkd.functional.gradcam import gradcam_maps

torch.set_num_threads(1)


def _values(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


FEATURE = _values(3, 4, 2, 5)
WEIGHT = _values(6, 4, seed=1)
TARGET = torch.tensor([5, 0, 2])


def _pooled_linear(feature_BCHW):
    return feature_BCHW.mean(dim=(2, 3)) @ WEIGHT.T


def test_before_pooling_and_a_linear_layer_the_map_is_the_class_activation_map():
    # d logit_k / d F_c = w_kc / (H W) everywhere, so the map is ReLU(sum_c w_kc F_c) / (H W).
    feature = FEATURE.clone().requires_grad_()
    (map_BHW,) = gradcam_maps([feature], _pooled_linear(feature), TARGET)
    expected = np.einsum("bc,bchw->bhw", WEIGHT.numpy()[TARGET.numpy()], FEATURE.numpy()) / 10
    np.testing.assert_allclose(map_BHW, np.maximum(expected, 0), rtol=1e-12, atol=1e-15)


def test_before_a_pointwise_convolution_its_kernel_is_part_of_the_weights():
    # logit = W mean(V F): the weights of the map are (W V)_k / (H W).
    kernel = _values(4, 3, seed=2)
    feature = _values(3, 3, 2, 5, seed=3).requires_grad_()
    logits = _pooled_linear(F.conv2d(feature, kernel.view(4, 3, 1, 1)))
    weights = (WEIGHT.numpy() @ kernel.numpy())[TARGET.numpy()]
    expected = np.einsum("bc,bchw->bhw", weights, feature.detach().numpy()) / 10
    (map_BHW,) = gradcam_maps([feature], logits, TARGET)
    np.testing.assert_allclose(map_BHW, np.maximum(expected, 0), rtol=1e-12, atol=1e-15)


class _TwoStages(nn.Module):
    """Image -> stage 1 -> stage 2 of half the size -> logits, with curved activations and BatchNorm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 4, 2, stride=2)
        self.classify = nn.Linear(4, 5)
        for seed, parameter in enumerate(self.parameters()):
            parameter.data = _values(*parameter.shape, seed=seed)

    def stage_1(self, image_BCHW):
        return torch.tanh(self.norm(self.first(image_BCHW)))

    def stage_2(self, stage_1):
        return F.softplus(self.second(stage_1))

    def head(self, stage_2):
        return self.classify(torch.sigmoid(stage_2).mean(dim=(2, 3)))

    def forward(self, image_BCHW):
        stage_1 = self.stage_1(image_BCHW)
        stage_2 = self.stage_2(stage_1)
        return [stage_1, stage_2], self.head(stage_2)


NET = _TwoStages().double().eval()
IMAGES = _values(3, 2, 4, 6, seed=9)
CLASSES = torch.tensor([1, 4, 0])


def _map_from_finite_differences(rest, feature_CHW, target, step=1e-5):
    gradient = np.zeros(feature_CHW.shape)
    for position in np.ndindex(*feature_CHW.shape):
        moved = [feature_CHW.clone(), feature_CHW.clone()]
        moved[0][position] += step
        moved[1][position] -= step
        high, low = (rest(feature.unsqueeze(0))[0, target].item() for feature in moved)
        gradient[position] = (high - low) / (2 * step)
    weighted = gradient.mean(axis=(1, 2))[:, None, None] * feature_CHW.numpy()
    return np.maximum(weighted.sum(axis=0), 0)


@pytest.mark.parametrize("stage", [0, 1])
def test_maps_of_a_curved_network_agree_with_finite_differences(stage):
    stages, logits = NET(IMAGES)
    rest = [lambda feature: NET.head(NET.stage_2(feature)), NET.head][stage]
    with torch.no_grad():
        expected = [
            _map_from_finite_differences(rest, feature, target)
            for feature, target in zip(stages[stage].detach(), CLASSES, strict=True)
        ]
    np.testing.assert_allclose(gradcam_maps(stages, logits, CLASSES)[stage], expected, rtol=1e-6, atol=1e-9)
    assert np.any(expected)


def test_an_image_does_not_see_the_others_of_its_batch():
    whole = gradcam_maps(*NET(IMAGES), CLASSES)
    for image in range(3):
        alone = gradcam_maps(*NET(IMAGES[[image]]), CLASSES[[image]])
        for map_, maps in zip(alone, whole, strict=True):
            torch.testing.assert_close(map_, maps[[image]], rtol=1e-10, atol=1e-14)


def test_a_map_depends_on_the_class():
    stages, logits = NET(IMAGES)
    first = gradcam_maps(stages, logits, CLASSES)[0]
    assert not torch.equal(first, gradcam_maps(*NET(IMAGES), (CLASSES + 1) % 5)[0])


def test_all_stages_take_one_backward_pass():
    stages, logits = NET(IMAGES)
    passes = []
    logits.register_hook(passes.append)
    gradcam_maps(stages, logits, CLASSES)
    assert len(passes) == 1


def test_no_parameter_receives_a_gradient():
    gradcam_maps(*NET(IMAGES), CLASSES)
    assert all(parameter.grad is None for parameter in NET.parameters())


def test_maps_are_detached():
    assert not any(map_BHW.requires_grad for map_BHW in gradcam_maps(*NET(IMAGES), CLASSES))


def test_maps_of_bfloat16_are_float32_sums():
    feature = FEATURE.bfloat16().requires_grad_()
    logits = F.linear(feature.mean(dim=(2, 3)), WEIGHT.bfloat16())
    (map_BHW,) = gradcam_maps([feature], logits, TARGET)
    exact = FEATURE.bfloat16().double().requires_grad_()
    (expected,) = gradcam_maps([exact], exact.mean(dim=(2, 3)) @ WEIGHT.bfloat16().double().T, TARGET)
    assert map_BHW.dtype == torch.float32
    # The gradients w / (H W) are rounded to bfloat16 (2^-9), the sum over channels is not.
    np.testing.assert_allclose(map_BHW, expected, rtol=0, atol=2**-9 * 4 * expected.max().item())


def test_autocast_does_not_round_the_maps():
    feature = FEATURE.float().requires_grad_()
    (expected,) = gradcam_maps([feature], feature.mean(dim=(2, 3)) @ WEIGHT.float().T, TARGET)
    logits = feature.mean(dim=(2, 3)) @ WEIGHT.float().T
    with torch.autocast("cpu", torch.bfloat16):
        (map_BHW,) = gradcam_maps([feature], logits, TARGET)
    torch.testing.assert_close(map_BHW, expected, rtol=1e-6, atol=0)


def test_a_stage_whose_gradient_vanishes_has_a_blank_map():
    feature = FEATURE.clone().requires_grad_()
    (map_BHW,) = gradcam_maps([feature], _pooled_linear(0 * feature), TARGET)
    assert map_BHW.shape == (3, 2, 5)
    assert not map_BHW.any()


def test_a_stage_that_the_logits_were_not_computed_from_is_refused():
    stages, logits = NET(IMAGES)
    with pytest.raises(ValueError, match=r"not computed from the stages at \[1\]"):
        gradcam_maps([stages[0], stages[1].clone()], logits, CLASSES)


def test_a_forward_pass_without_a_graph_is_refused():
    with torch.no_grad():
        stages, logits = NET(IMAGES)
    with pytest.raises(ValueError, match=r"stages at \[0, 1\] .* have no graph: .*torch.enable_grad"):
        gradcam_maps(stages, logits, CLASSES)
    with pytest.raises(ValueError, match="the logits have no graph"):
        gradcam_maps(NET(IMAGES)[0], logits, CLASSES)


def test_what_does_not_fit_is_refused():
    stages, logits = NET(IMAGES)
    with pytest.raises(ValueError, match=r"got \(3, 5\) and \(2,\)"):
        gradcam_maps(stages, logits, CLASSES[:2])
    with pytest.raises(ValueError, match="with B = 3, got the shapes"):
        gradcam_maps([stages[0][:2]], logits, CLASSES)
    with pytest.raises(ValueError, match=r"got the shapes \[\]"):
        gradcam_maps([], logits, CLASSES)
    with pytest.raises(ValueError, match=r"targets in 0 to 4, got \[1, 2, 5\]"):
        gradcam_maps(stages, logits, torch.tensor([5, 1, 2]))
