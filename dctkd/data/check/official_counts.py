"""How many classes and images each dataset has as it was published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class OfficialCounts:
    """The published numbers of one dataset.

    Attributes:
        num_classes: Classes, with or without images.
        num_train_images: Images of the official training list.
        num_test_images: Images of the official test list.
        num_trained_classes: Classes with a training image.
        num_tested_classes: Classes with a test image.
        train_images_per_class: Fewest and most training images of a class.
        test_images_per_class: Fewest and most test images of a class.
        has_unlisted_images: Whether the published archive holds images that are in neither list.
        source: Where the numbers are from.
    """

    num_classes: int
    num_train_images: int
    num_test_images: int
    num_trained_classes: int
    num_tested_classes: int
    train_images_per_class: tuple[int, int] | None
    test_images_per_class: tuple[int, int] | None
    has_unlisted_images: bool
    source: str


OFFICIAL_COUNTS: Mapping[str, OfficialCounts] = MappingProxyType(
    {
        "mit67": OfficialCounts(
            67, 5360, 1340, 67, 67, (77, 83), (17, 23), True,
            "Quattoni and Torralba 2009, TrainImages.txt and TestImages.txt; the archive holds 15,620 images",
        ),
        "sun397": OfficialCounts(
            397, 19850, 19850, 397, 397, (50, 50), (50, 50), True,
            "Xiao et al. 2010, each of the ten partitions; the archive holds 108,754 images",
        ),
        "ade20k": OfficialCounts(
            1055, 20210, 2000, 1040, 672, None, None, False,
            "Zhou et al. 2017, ADEChallengeData2016, sceneCategories.txt",
        ),
        "miniplaces": OfficialCounts(
            100, 100_000, 10_000, 100, 100, (1000, 1000), (100, 100), False,
            "MIT 6.869, train.txt and val.txt of the Miniplaces Challenge",
        ),
    }
)  # fmt: skip
"""Published numbers by the name of the format; formats for the user's own photographs have none."""


def official_counts(format_name: str, options: Mapping[str, Any]) -> OfficialCounts | None:
    """Return the published numbers of what a format's options keep.

    Args:
        format_name: Name in `formats.FORMATS`.
        options: The format's options with their defaults filled in. `num_classes` cuts a dataset that has equally many
            images in each class.

    Returns:
        The numbers, or None if there are none for this format or for this choice of classes.

    Example:
        >>> official_counts("miniplaces", {"num_classes": 10}).num_train_images
        10000
    """
    counts = OFFICIAL_COUNTS.get(format_name)
    num_classes = options.get("num_classes")
    if counts is None or num_classes is None or num_classes == counts.num_classes:
        return counts
    train, test = counts.train_images_per_class, counts.test_images_per_class
    if train is None or test is None or train[0] != train[1] or test[0] != test[1]:
        return None
    return replace(
        counts,
        num_classes=num_classes,
        num_train_images=num_classes * train[0],
        num_test_images=num_classes * test[0],
        num_trained_classes=num_classes,
        num_tested_classes=num_classes,
    )
