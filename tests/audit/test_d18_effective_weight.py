"""D18: images that the teacher gets wrong count as 0 in a mean over all images, which lowers the weight of the loss."""

import pytest
import torch

from tests.methods.cases import batch


@pytest.mark.parametrize("num_right", [8, 6, 3, 0])
def test_weight_of_the_loss_is_alpha_times_the_teachers_accuracy(num_right):
    alpha, is_right_B = 1.0, (torch.arange(8) < num_right).float()
    loss = alpha * batch(8, sample_weight_B=is_right_B).mean(torch.ones(8))
    assert loss.item() == alpha * num_right / 8


def test_a_teacher_that_is_right_on_three_of_four_images_lowers_the_weight_to_three_quarters():
    loss_B, is_right_B = torch.full((4,), 2.0), torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert batch(4, sample_weight_B=is_right_B).mean(loss_B).item() == 0.75 * 2.0
    assert loss_B[is_right_B > 0].mean().item() == 2.0
