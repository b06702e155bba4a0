"""Which images of a dataset share their pixels, within a split or across, and whether their classes agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from dctkd.data.manifest import SPLITS, Entry


def find_duplicates(images: Sequence[tuple[Entry, bytes]], classes: Sequence[str]) -> dict[str, Any]:
    """Find the images that share their pixels.

    Args:
        images: Usable images with the hash of their pixels, in official order.
        classes: Class names; the position is the label.

    Returns:
        `groups`, in the order of their first images: `scope` (`train`, `test`, or `across` for images of both),
        whether their classes conflict, and the images. `by_scope`: numbers of groups, images and conflicts. Numbers
        of test images whose pixels are in the training split, under the same class or only under others.
    """
    members: dict[bytes, list[Entry]] = defaultdict(list)
    for entry, digest in images:
        members[digest].append(entry)
    groups = [_group(group, classes) for group in members.values() if len(group) > 1]
    by_scope = {}
    for scope in (*SPLITS, "across"):
        chosen = [group for group in groups if group["scope"] == scope]
        by_scope[scope] = {
            "num_groups": len(chosen),
            "num_images": sum(len(group["images"]) for group in chosen),
            "num_conflicting_groups": sum(group["labels_conflict"] for group in chosen),
        }
    seen = {"same": 0, "other": 0}
    for group in members.values():
        trained = {entry.label for entry in group if entry.split == "train"}
        for entry in group:
            if trained and entry.split == "test":
                seen["same" if entry.label in trained else "other"] += 1
    return {
        "by_scope": by_scope,
        "num_test_images_trained_on": seen["same"] + seen["other"],
        "num_test_images_trained_on_under_other_classes_only": seen["other"],
        "groups": groups,
    }


def _group(entries: Sequence[Entry], classes: Sequence[str]) -> dict[str, Any]:
    splits = {entry.split for entry in entries}
    return {
        "scope": "across" if len(splits) > 1 else entries[0].split,
        "labels_conflict": len({entry.label for entry in entries}) > 1,
        "images": [{"path": entry.path, "split": entry.split, "class": classes[entry.label]} for entry in entries],
    }
