"""D15: a setting from the command line is text, and the text "False" is true; "first block" is all of MobileNetV2."""

import pytest
import torch
from torchvision.models import mobilenet_v2, resnet18


@pytest.mark.parametrize(("value", "is_on"), [(False, False), (True, True), ("False", True), ("True", True)])
def test_text_false_is_true(value, is_on):
    assert bool(value) is is_on


def freeze_first_five_children(network):
    for number, child in enumerate(network.children()):
        if number <= 4:
            child.requires_grad_(False)
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def test_resnet18_keeps_what_follows_its_first_stage():
    with torch.device("meta"):
        network = resnet18()
    assert [name for name, _ in network.named_children()][:5] == ["conv1", "bn1", "relu", "maxpool", "layer1"]
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total - freeze_first_five_children(network) == 157_504


def test_mobilenetv2_has_two_children_and_nothing_left_to_train():
    with torch.device("meta"):
        network = mobilenet_v2()
    assert [name for name, _ in network.named_children()] == ["features", "classifier"]
    assert freeze_first_five_children(network) == 0


def test_frozen_weights_do_not_freeze_running_statistics():
    norm = torch.nn.BatchNorm2d(1).requires_grad_(False).train()
    norm(torch.full((2, 1, 2, 2), 3.0))
    assert norm.running_mean.item() == pytest.approx(0.3)
