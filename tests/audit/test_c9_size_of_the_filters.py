"""C9: parameters of the filters, two real numbers for each of C_in x C_out x H x W, beside those of the students."""

import pytest
import torch
from torchvision.models import resnet18

from dctkd.methods.frequency_attention import FrequencyAttention, FrequencyAttentionOptions

# (channels in, channels out, size) per level, from the released configurations.
CIFAR_16 = [(16, 16, 32), (32, 32, 16), (64, 64, 8), (64, 64, 1)]
PAIRS = {
    "resnet56 or 110 to resnet20 or 32": (CIFAR_16, 1.58),
    "wrn-40-2 to wrn-40-1": ([(16, 32, 32), (32, 64, 16), (64, 128, 8), (64, 128, 1)], 3.16),
    "wrn-40-2 to wrn-16-2": ([(32, 32, 32), (64, 64, 16), (128, 128, 8), (128, 128, 1)], 6.32),
    "resnet32x4 to resnet8x4": ([(64, 64, 32), (128, 128, 16), (256, 256, 8), (256, 256, 1)], 25.3),
    "resnet34 to resnet18": ([(64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7), (512, 512, 1)], 103.3),
    "resnet50 to mobilenet-v1": (
        [(128, 256, 56), (256, 512, 28), (512, 1024, 14), (1024, 2048, 7), (1024, 2048, 1)],
        826.3,
    ),
}


def num_real(levels):
    return sum(2 * c_in * c_out * size * size for c_in, c_out, size in levels)


@pytest.mark.parametrize("pair", PAIRS)
def test_real_parameters_of_the_filters_in_millions(pair):
    levels, millions = PAIRS[pair]
    assert num_real(levels) / 1e6 == pytest.approx(millions, rel=0.003)


def test_filters_of_resnet34_to_resnet18_are_nine_times_the_student():
    with torch.device("meta"):
        num_student = sum(parameter.numel() for parameter in resnet18().parameters())
    assert num_student == 11_689_512
    assert num_real(PAIRS["resnet34 to resnet18"][0]) / num_student == pytest.approx(8.84, abs=0.01)


def test_counting_a_complex_number_as_one_gives_half():
    parameter = torch.nn.Parameter(torch.empty(16, 16, 32, 32, dtype=torch.cfloat, device="meta"))
    assert (parameter.numel(), torch.view_as_real(parameter).numel()) == (262_144, num_real([(16, 16, 32)]))


@pytest.mark.parametrize("level", CIFAR_16)
def test_filter_kept_here_is_the_released_one_folded_to_half_of_its_columns(level):
    c_in, c_out, size = level
    with torch.device("meta"):
        module = FrequencyAttention(c_in, c_out, size, size, FrequencyAttentionOptions())
    assert module.filter_VHIO2.numel() * size == num_real([level]) * (size // 2 + 1)
