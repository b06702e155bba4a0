"""How large a dataset is, before a pixel is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dctkd.data import formats
from dctkd.data.manifest import Manifest
from dctkd.errors import InputError


def survey(format_name: str, options: Mapping[str, Any], root: Path | None) -> tuple[int, int, int]:
    """Return the number of classes, training images and test images of a dataset.

    Photographs are counted from their lists, so images that later turn out to be unreadable are still in the count.

    Args:
        format_name: Name in `formats.FORMATS`.
        options: The format's options, as the config gives them.
        root: Folder of the photographs; ignored by rendered formats.

    Raises:
        InputError: If the options, the root or the lists cannot be used.
    """
    manifest = manifest_of(format_name, options, root)
    if manifest is None:
        values = formats.parse_options(format_name, options).model_dump()
        return values["num_classes"], values["num_train_images"], values["num_test_images"]
    return len(manifest.classes), len(manifest.split("train")), len(manifest.split("test"))


def survey_classes(format_name: str, options: Mapping[str, Any], root: Path | None) -> list[int]:
    """Return the number of training images of each class; arguments and errors are those of `survey`."""
    manifest = manifest_of(format_name, options, root)
    if manifest is None:
        num_classes, num_images, _ = survey(format_name, options, root)
        # Rendered classes take turns.
        return [num_images // num_classes + (label < num_images % num_classes) for label in range(num_classes)]
    counts = Counter(entry.label for entry in manifest.split("train"))
    return [counts[label] for label in range(len(manifest.classes))]


def manifest_of(format_name: str, options: Mapping[str, Any], root: Path | None) -> Manifest | None:
    """Return what a dataset of photographs consists of, with its problems; None if the format is rendered.

    Arguments and errors are those of `survey`.
    """
    kind = formats.get(format_name)
    parsed = formats.parse_options(format_name, options)
    if kind.kind == "rendered":
        return None
    if root is None:
        raise InputError(f"dataset.root: format {format_name} reads photographs; give the folder that they lie in")
    return kind.read_manifest(root, parsed)
