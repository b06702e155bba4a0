"""D8: after the first validation SemCKD's regressors stay in evaluation mode; its layers fit one batch size only."""

import pytest
import torch
from torch import nn


def num_moves(*, is_set_back):
    """Return in how many of three epochs the running mean of the loss's BatchNorm moves."""
    generator = torch.Generator().manual_seed(0)
    student, loss = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    moves = 0
    for _ in range(3):
        student.train()
        if is_set_back:
            loss.train()
        before = loss.running_mean.clone()
        loss(torch.randn(4, 2, 3, 3, generator=generator))
        moves += not torch.equal(before, loss.running_mean)
        student.eval()
        loss.eval()
    return moves


@pytest.mark.parametrize(("is_set_back", "expected"), [(False, 1), (True, 3)])
def test_statistics_of_the_regressors_move_in_the_first_epoch_only(is_set_back, expected):
    assert num_moves(is_set_back=is_set_back) == expected


@pytest.mark.parametrize(("batch_size", "fits"), [(128, True), (256, False)])
def test_layers_for_batches_of_128_do_not_take_similarities_of_256_images(batch_size, fits):
    layer = nn.Linear(128, 64)
    features = torch.zeros(batch_size, 3)
    if fits:
        assert layer(features @ features.T).shape == (128, 64)
        return
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(features @ features.T)


@pytest.mark.parametrize(("num_images", "num_counted"), [(2000, 1920), (1340, 1280), (19850, 19840)])
def test_epoch_is_chosen_on_whole_batches_of_128_alone(num_images, num_counted):
    sizes = [min(128, num_images - start) for start in range(0, num_images, 128)]
    assert sum(size for size in sizes if size == 128) == num_counted
