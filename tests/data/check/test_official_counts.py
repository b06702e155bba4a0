"""The published numbers of the datasets."""

import pytest

from dctkd.data.check.official_counts import OFFICIAL_COUNTS, official_counts


@pytest.mark.parametrize(
    ("name", "num_classes", "num_train", "num_test"),
    [("mit67", 67, 5360, 1340), ("sun397", 397, 19850, 19850), ("ade20k", 1055, 20210, 2000)],
)
def test_published_counts_are_those_of_the_datasets_papers(name, num_classes, num_train, num_test):
    counts = OFFICIAL_COUNTS[name]
    assert (counts.num_classes, counts.num_train_images, counts.num_test_images) == (num_classes, num_train, num_test)


def test_published_counts_follow_a_choice_of_classes_only_where_classes_are_equal():
    assert official_counts("miniplaces", {"num_classes": 20}).num_test_images == 2000
    assert official_counts("mit67", {"num_classes": 20}) is None
    assert official_counts("imagefolder", {}) is None
