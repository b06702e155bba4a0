"""D11: the mean and deviation by which images are normalised are those of Kinetics-400, not of ImageNet."""

import pytest
from torchvision.models import ResNet50_Weights
from torchvision.models.video import R3D_18_Weights

RELEASED_MEAN, RELEASED_STD = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]
IMAGENET = ResNet50_Weights.IMAGENET1K_V1.transforms()


def test_released_numbers_are_those_of_torchvisions_video_models():
    video = R3D_18_Weights.KINETICS400_V1.transforms()
    assert (video.mean, video.std) == (RELEASED_MEAN, RELEASED_STD)


def test_they_are_not_those_of_the_pretrained_teachers():
    assert (IMAGENET.mean, IMAGENET.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_images_reach_a_pretrained_teacher_brighter_than_it_was_trained_on():
    columns = zip(IMAGENET.mean, RELEASED_MEAN, RELEASED_STD, strict=True)
    shifts = [(mean - released) / std for mean, released, std in columns]
    assert shifts == pytest.approx([0.232, 0.277, 0.136], abs=0.0005)
