"""Accuracy of each class and what is taken for what, from the predictions of finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dctkd.report.attention import students_of
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.evidence import Predictions
from dctkd.report.layout import Group, Layout

MAX_CONFUSIONS = 2000
"""How many pairs of classes a confusion keeps, the most frequent ones; 40 classes fit in whole."""


def describe_classes(collected: Collected) -> list[dict[str, Any]]:
    """Return, per dataset and pair, the accuracy of each class and the confusion of each method.

    Returns:
        Per group with predictions: group, classes (names), num_images (per class, in the test set), and methods: name,
        num_runs, accuracy_percent (per class, mean over runs, one decimal; null for a class without images), confusion
        (triples: label, prediction, number of images over all runs; prediction -1: no prediction), num_confusions
        (how many pairs occur; more than listed means that the rarest are left out).
    """
    layout = Layout.of(collected.plan)
    described = (_describe_group(collected, layout, group) for group in layout.groups)
    return [one for one in described if one["methods"]]


def _describe_group(collected: Collected, layout: Layout, group: Group) -> dict[str, Any]:
    predictions = {
        method: found
        for method in (TEACHER, *layout.methods)
        if (found := list(_predictions_of(collected, group, method)))
    }
    num_classes = max((int(one.target_N.max()) + 1 for runs in predictions.values() for one in runs), default=0)
    names = collected.data.get(group.dataset, {}).get("classes") or [str(number) for number in range(num_classes)]
    methods = [_describe_method(method, runs, len(names)) for method, runs in predictions.items()]
    some = next(iter(predictions.values()), None)
    images = np.bincount(some[0].target_N, minlength=len(names)).tolist() if some else []
    return {"group": layout.label(group), "classes": names, "num_images": images, "methods": methods}


def _predictions_of(collected: Collected, group: Group, method: str) -> Iterator[Predictions]:
    if method == TEACHER:
        teacher = group.pair.split("__")[0]
        digests = [
            one.metrics.digest
            for one in collected.found
            if one.planned.student is None and (one.planned.dataset, one.planned.teacher) == (group.dataset, teacher)
        ]
    else:
        digests = [digest for (name, _), digest in students_of(collected, group).items() if name == method]
    for digest in digests:
        predictions = collected.evidence.predictions(digest)
        if predictions is not None and len(predictions.target_N):
            yield predictions


def _describe_method(method: str, runs: list[Predictions], num_classes: int) -> dict[str, Any]:
    right_K, images_K = (
        sum(counts) for counts in zip(*(one.right_and_images(num_classes) for one in runs), strict=True)
    )
    accuracy = [
        round(100 * float(right) / float(images), 1) if images else None
        for right, images in zip(right_K, images_K, strict=True)
    ]
    confusion = count_confusions(runs, num_classes)
    return {
        "method": method,
        "num_runs": len(runs),
        "accuracy_percent": accuracy,
        "confusion": confusion[:MAX_CONFUSIONS].tolist(),
        "num_confusions": len(confusion),
    }


def count_confusions(runs: list[Predictions], num_classes: int) -> NDArray[np.int64]:
    """Return rows of (label, prediction, number of images over all runs), most frequent first; shape (M, 3).

    A prediction of -1 stands for none: the logits held a NaN.
    """
    target = np.concatenate([one.target_N for one in runs]).astype(np.int64)
    prediction = np.concatenate([one.prediction_N for one in runs]).astype(np.int64)
    codes, counts = np.unique(target * (num_classes + 1) + prediction + 1, return_counts=True)
    rows = np.stack([codes // (num_classes + 1), codes % (num_classes + 1) - 1, counts], axis=1)
    order = np.lexsort((rows[:, 1], rows[:, 0], -rows[:, 2]))
    return rows[order]
