"""Noise-contrastive estimation against a memory of embeddings, and the draw of its negatives.

Shapes: B images, N entries of the memory, D embedding, M negatives per image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dctkd.functional.precision import outside_autocast, widen

EPSILON = 1e-7
"""Added to the denominators, as the reference code does."""


@outside_autocast
def similarity_to_memory(embedding_BD: Tensor, memory_ND: Tensor, chosen_BM: Tensor, *, temperature: float) -> Tensor:
    """Return exp(embedding . memory entry / temperature) for some entries of the memory.

    All N products are taken and then the chosen ones are read: this needs B N numbers where gathering the entries first
    would need B M D.

    Args:
        embedding_BD: Embeddings of unit length, shape (B, D), any float dtype.
        memory_ND: Memory, shape (N, D).
        chosen_BM: Positions in the memory, shape (B, M), int64.
        temperature: Written tau in the paper, > 0, no unit.

    Returns:
        Shape (B, M), float32 or wider, > 0.

    Example:
        >>> one = torch.tensor([[1.0, 0.0]])
        >>> similarity_to_memory(one, torch.eye(2), torch.tensor([[0, 1]]), temperature=1.0)
        tensor([[2.7183, 1.0000]])
    """
    product_BN = widen(embedding_BD) @ memory_ND.T.to(widen(embedding_BD).dtype)
    return (product_BN.gather(1, chosen_BM) / temperature).exp()


def contrastive_loss_per_sample(probability_BM: Tensor, *, num_noise_samples: int, memory_size: int) -> Tensor:
    """Return the NCE loss of telling the first entry (a positive) from the others (drawn from uniform noise).

    -log(P(0) / (P(0) + m / N)) - sum over the negatives of log((m / N) / (P + m / N)).

    Args:
        probability_BM: Unnormalised model probabilities, shape (B, 1 + m), > 0, the positive first.
        num_noise_samples: Negatives m per positive.
        memory_size: Entries N of the memory; uniform noise has the probability 1 / N.

    Returns:
        Shape (B,), in nats, >= 0 up to `EPSILON`.

    Source:
        Tian et al. 2020, arXiv:1910.10699, equations 11 and 18; RepDistiller, crd/criterion.py, ContrastLoss.

    Example:
        >>> contrastive_loss_per_sample(torch.tensor([[1.0, 1.0]]), num_noise_samples=1, memory_size=1)
        tensor([1.3863])
    """
    noise = num_noise_samples / memory_size
    positive_B, negative_BM = probability_BM[:, 0], probability_BM[:, 1:]
    log_positive_B = torch.log(positive_B / (positive_B + noise + EPSILON))
    log_negative_BM = torch.log(noise / (negative_BM + noise + EPSILON))
    return -(log_positive_B + log_negative_BM.sum(dim=1))


def draw_other_classes(
    target_B: Tensor, order_N: Tensor, first_K: Tensor, count_K: Tensor, *, num_draws: int
) -> Tensor:
    """Draw images of other classes, uniformly and with replacement, from torch's global generator of the device.

    One draw for the whole batch: uniform over the N - count images that are not of the sample's class, in an order in
    which each class is one block, and then moved past that block.

    Args:
        target_B: Label of each sample, shape (B,), int64.
        order_N: Positions of the images, grouped by label, shape (N,), int64.
        first_K: Where each label's block starts in `order_N`, shape (K,), int64.
        count_K: Length of each block, shape (K,), int64; less than N for every label that occurs in `target_B`.
        num_draws: Negatives M per sample.

    Returns:
        Positions of shape (B, M), int64.

    Example:
        >>> order_N, first_K, count_K = torch.tensor([0, 2, 1]), torch.tensor([0, 2]), torch.tensor([2, 1])
        >>> draw_other_classes(torch.tensor([0]), order_N, first_K, count_K, num_draws=3)
        tensor([[1, 1, 1]])
    """
    num_others_B1 = (len(order_N) - count_K[target_B]).unsqueeze(1)
    # float64: float32 has too few steps to reach every image of a large dataset.
    uniform_BM = torch.rand(len(target_B), num_draws, dtype=torch.float64, device=target_B.device)
    drawn_BM = torch.minimum((uniform_BM * num_others_B1).long(), num_others_B1 - 1)
    is_past_BM = drawn_BM >= first_K[target_B].unsqueeze(1)
    return order_N[drawn_BM + is_past_BM * count_K[target_B].unsqueeze(1)]
