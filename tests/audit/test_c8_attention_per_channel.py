"""C8: the local attention takes a softmax per channel; dot-product attention has one weight per neighbour."""

import pytest
import torch

QUERY_C = torch.tensor([1.0, -1.0])
KEYS_CK = torch.tensor([[1.0, -1.0], [1.0, -1.0]])


def test_weights_per_channel_and_of_the_dot_product_differ():
    per_channel = torch.softmax(QUERY_C.unsqueeze(1) * KEYS_CK, dim=1)
    dot_product = torch.softmax(QUERY_C @ KEYS_CK, dim=0)
    assert per_channel.flatten().tolist() == pytest.approx([0.881, 0.119, 0.119, 0.881], abs=0.0005)
    assert dot_product.tolist() == [0.5, 0.5]


def released(query_BCHW, key_BCHWK, value_BCHWK, groups):
    """Return the sum over neighbours of value * softmax(query * key), computed in groups of channels."""
    batch, channels, *rest = key_BCHWK.shape
    key, value = (x.reshape(batch, groups, channels // groups, *rest) for x in (key_BCHWK, value_BCHWK))
    query = query_BCHW.reshape(batch, groups, channels // groups, *rest[:2], 1)
    return (torch.softmax(query * key, dim=-1) * value).sum(dim=-1).reshape(batch, channels, *rest[:2])


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_number_of_groups_changes_nothing(groups):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 8, 3, 3, generator=generator)
    key, value = (torch.randn(2, 8, 3, 3, 9, generator=generator) for _ in range(2))
    assert torch.equal(released(query, key, value, groups), released(query, key, value, 1))
