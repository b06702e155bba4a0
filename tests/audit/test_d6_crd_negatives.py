"""D6: CRD's lists of positives and negatives are filled from the first images, as many as there are classes."""

import pytest
import torch

from dctkd.functional.contrast import draw_other_classes
from dctkd.methods import create
from dctkd.methods.base import DataSpec
from tests.methods.cases import spec

NUM_NEGATIVES = 16384


@pytest.mark.parametrize(
    ("num_classes", "times"), [(1055, 15.5), (397, 41.3), (67, 244.5)], ids=["ADE20K", "SUN397", "MIT67"]
)
def test_every_candidate_is_drawn_many_times_per_image(num_classes, times):
    assert NUM_NEGATIVES / num_classes == pytest.approx(times, abs=0.05)


def test_a_list_sorted_by_class_with_fifty_images_each_leaves_eight_of_397_classes():
    labels = [index // 50 for index in range(19850)]
    assert (len(set(labels)), len(set(labels[:397]))) == (397, 8)


@pytest.mark.parametrize(("release_negatives", "expected"), [(True, {0, 1, 2, 3}), (False, set(range(40)))])
def test_negatives_come_from_the_first_images_alone(release_negatives, expected):
    data = DataSpec(4, 40, tuple(index % 4 for index in range(40)))
    model = spec([(2, 4, 4)], num_classes=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method = create("crd", model, model, data, embedding_dim=4, release_negatives=release_negatives)
        blocks = (method.order_N, method.first_K, method.count_K)
        drawn = draw_other_classes(torch.arange(4), *blocks, num_draws=400)
    assert set(drawn.flatten().tolist()) == expected
