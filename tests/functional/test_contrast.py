"""The pieces of CRD: similarity, NCE loss against hand-worked values, and the draw of negatives."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.contrast import contrastive_loss_per_sample, draw_other_classes, similarity_to_memory

LABELS = torch.tensor([2, 0, 1, 0, 2, 2, 1])
ORDER = torch.argsort(LABELS, stable=True)
COUNT = torch.bincount(LABELS)
FIRST = COUNT.cumsum(0) - COUNT


def unit(rows, columns, seed, dtype=torch.float64):
    x = torch.randn(rows, columns, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def test_similarity_equals_the_products_with_the_gathered_entries():
    embedding, memory = unit(3, 4, 0), unit(7, 4, 1)
    chosen = torch.tensor([[0, 6, 6], [1, 2, 3], [5, 5, 5]])
    rows, entries = embedding.numpy(), memory.numpy()
    expected = [[math.exp(rows[b] @ entries[n] / 0.1) for n in row] for b, row in enumerate(chosen.tolist())]
    np.testing.assert_allclose(similarity_to_memory(embedding, memory, chosen, temperature=0.1), expected, rtol=1e-12)


def test_similarity_under_autocast_is_not_computed_in_bfloat16():
    embedding, memory = unit(3, 64, 0, torch.float32), unit(7, 64, 1, torch.float32)
    chosen = torch.zeros(3, 1, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity_to_memory(embedding, memory, chosen, temperature=0.07)
    assert torch.equal(inside, similarity_to_memory(embedding, memory, chosen, temperature=0.07))


def test_loss_of_one_positive_and_two_negatives_by_hand():
    # noise = m / N = 2 / 8; positive 3/4 -> 3/4; negatives 1/4 and 1/2 -> 1/2 and 1/3.
    loss = contrastive_loss_per_sample(
        torch.tensor([[0.75, 0.25, 0.5]], dtype=torch.float64), num_noise_samples=2, memory_size=8
    )
    assert loss.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 2) + math.log(1 / 3)), rel=1e-5)  # EPSILON.


def test_gradients_are_right():
    chosen = torch.tensor([[0, 4, 6], [1, 1, 3]])

    def loss(embedding):
        similarity = similarity_to_memory(embedding, unit(7, 4, 1), chosen, temperature=0.5)
        return contrastive_loss_per_sample(similarity / 10.0, num_noise_samples=2, memory_size=7)

    assert gradcheck(loss, unit(2, 4, 0).requires_grad_())


def draw(targets, num_draws, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw_other_classes(torch.tensor(targets), ORDER, FIRST, COUNT, num_draws=num_draws)


def test_negatives_are_never_of_the_sample_s_class():
    drawn = draw([0, 1, 2], 500)
    for row, target in zip(drawn, (0, 1, 2), strict=True):
        assert not (LABELS[row] == target).any()


def test_every_image_of_the_other_classes_is_drawn_equally_often():
    num_draws = 30_000
    for target in (0, 1, 2):
        counts = torch.bincount(draw([target], num_draws)[0], minlength=7)
        others = target != LABELS
        expected = num_draws / int(others.sum())
        # Five standard deviations of a binomial count.
        assert (counts[others] - expected).abs().max() < 5 * math.sqrt(expected)
        assert counts[~others].sum() == 0


def test_draws_follow_the_global_generator():
    assert torch.equal(draw([0, 1], 20, seed=3), draw([0, 1], 20, seed=3))
    assert not torch.equal(draw([0, 1], 20, seed=3), draw([0, 1], 20, seed=4))
