"""D12: the released classifier has 3136 inputs; a CIFAR ResNet has 64 features for images of 32 pixels."""

import pytest
import torch
from torch import nn


def features(image_size, channels=64):
    """Return what a CIFAR ResNet gives its classifier: 1/4 of the size after its stages, then AvgPool2d(8)."""
    return nn.AvgPool2d(8)(torch.zeros(1, channels, image_size // 4, image_size // 4)).flatten(1)


@pytest.mark.parametrize(("image_size", "channels", "num_features"), [(32, 64, 64), (32, 256, 256), (224, 64, 3136)])
def test_number_of_features(image_size, channels, num_features):
    assert features(image_size, channels).shape == (1, num_features)


def test_released_classifier_takes_images_of_224_pixels():
    assert nn.Linear(3136, 100)(features(224)).shape == (1, 100)


@pytest.mark.parametrize("channels", [64, 256])
def test_released_classifier_does_not_take_images_of_32_pixels(channels):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nn.Linear(3136, 100)(features(32, channels))


def test_resnet32c_is_in_neither_table():
    cifar = ["resnet20", "resnet20c", "resnet56", "resnet56c", "resnet32x4c", "resnet8x4c", "resnet110c"]
    others = ["resnet18", "resnet34", "resnet50", "resnet152"]
    assert "resnet32c" not in cifar + others
