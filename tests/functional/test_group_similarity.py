"""Similarities in groups against loops over images in float64."""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dctkd.functional.group_similarity import similarities_in_groups


def features(batch_size, dtype=torch.float32):
    return torch.randn(batch_size, 2, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 8])
def test_similarities_match_the_reference_formula(batch_size):
    feature = features(batch_size)
    expected = np.zeros((batch_size, 4))
    for image, other in np.ndindex(batch_size, batch_size):
        if image // 4 == other // 4:
            expected[image, other % 4] = (feature[image].double().numpy() * feature[other].double().numpy()).sum()
    np.testing.assert_allclose(similarities_in_groups(feature, group_size=4).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_similarities_are_float32_products_under_autocast():
    expected = similarities_in_groups(features(5), group_size=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarities_in_groups(features(5), group_size=4), expected)


def test_similarities_of_bfloat16_features_are_float32():
    assert similarities_in_groups(features(5).bfloat16(), group_size=4).dtype == torch.float32


def test_similarities_have_the_right_gradient():
    feature = features(5, torch.float64).requires_grad_()
    assert gradcheck(lambda x: similarities_in_groups(x, group_size=3), feature)


@pytest.mark.parametrize(("shape", "group_size"), [((3,), 2), ((3, 2), 0)])
def test_similarities_refuse_other_shapes_and_sizes(shape, group_size):
    with pytest.raises(ValueError, match="expected features"):
        similarities_in_groups(torch.zeros(shape), group_size=group_size)
