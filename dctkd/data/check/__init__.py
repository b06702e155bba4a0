"""Checking a copy of a dataset: what is there, what is wrong with it, and what accuracy it allows at most.

The result is one tree of JSON values (`check`); `report` puts it into words. Photographs are decoded once and
forgotten: per image, a hash and a few numbers are kept. Nothing is written.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from dctkd.data import formats
from dctkd.data.check.duplicates import find_duplicates
from dctkd.data.check.inspection import FATAL_FINDINGS, FINDINGS, Inspection, inspect_files
from dctkd.data.check.list_overlap import (
    NAMINGS,
    compare_lists,
    place_in_splits,
    read_image_list,
    shared_names,
    telling_overlap,
)
from dctkd.data.check.official_counts import OfficialCounts, official_counts
from dctkd.data.decode_pool import MAX_CHUNK_IMAGES
from dctkd.data.manifest import BLOCKING_KINDS, SPLITS, Entry, Manifest, Split
from dctkd.errors import InputError
from dctkd.worker_pool import map_chunks

SCHEMA = 1
"""Of the JSON values; raised when a key changes its meaning."""
EXIT_NOT_USABLE = 2
SEEN_OTHERWISE = frozenset({"untested_class", "untrained_class", "misnamed", "sixteen_bit", "same_pixels"})
"""Kinds of the lists' problems that the check finds by itself."""

Progress = Callable[[int, int], None]
"""Called with the number of images done and the number of all images."""


@dataclass(frozen=True)
class Request:
    """What is to be checked.

    Attributes:
        format_name: Name in `formats.FORMATS`, of a format that reads photographs.
        root: Folder of the copy; only read.
        options: The format's options, as a config gives them.
        lists: A training and a test list to be compared with each other and with the dataset; None compares none.
    """

    format_name: str
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    lists: tuple[Path, Path] | None = None


def check(request: Request, *, workers: int = 1, progress: Progress | None = None) -> dict[str, Any]:
    """Read every photograph of a copy and report on all of it.

    Args:
        request: What to check.
        workers: Processes that decode; changes speed only.
        progress: Called after each image.

    Returns:
        JSON values, the same for the same tree but for the key `timing`: `dataset`, `verdict`, `counts`, `classes`,
        `ceilings`, `files`, `problems` (of the lists, by kind), `duplicates` and `lists`.

    Raises:
        InputError: If format, options, root or lists cannot be used at all.
    """
    started = time.monotonic()
    kind = formats.get(request.format_name)
    if kind.kind != "photographs":
        names = ", ".join(name for name, row in formats.FORMATS.items() if row.kind == "photographs")
        raise InputError(f"{request.format_name}: its images are computed, there is no copy to check; choose {names}")
    options = formats.parse_options(request.format_name, request.options)
    manifest = kind.read_manifest(request.root, options)
    inspections = _inspect(manifest, workers, progress)
    usable = [(entry, seen) for entry, seen in zip(manifest.entries, inspections, strict=True) if seen.is_usable]
    entries = [entry for entry, _ in usable]
    values = options.model_dump(mode="json")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "dataset": {
            "format": request.format_name,
            "options": values,
            "root": str(request.root),
            "images_below_root": Path(os.path.relpath(manifest.root, request.root)).as_posix(),
        },
        "counts": _counts(manifest.classes, entries, official_counts(request.format_name, values)),
        "classes": _classes(manifest.classes, entries),
        "ceilings": ceilings(entries, len(manifest.classes)),
        "files": _files(manifest.entries, inspections),
        "problems": _problems(manifest),
        "duplicates": find_duplicates([(entry, seen.digest) for entry, seen in usable], manifest.classes),
        "lists": {"official": _official_lists(manifest, inspections), "named": _named_lists(request, manifest)},
    }
    result = {"verdict": _verdict(result), **result}
    return {**result, "timing": {"seconds": round(time.monotonic() - started, 1), "workers": workers}}


def _inspect(manifest: Manifest, workers: int, progress: Progress | None) -> list[Inspection]:
    paths = [entry.path for entry in manifest.entries]
    chunks = [paths[first : first + MAX_CHUNK_IMAGES] for first in range(0, len(paths), MAX_CHUNK_IMAGES)]
    inspections: list[Inspection] = []
    with closing(map_chunks(partial(inspect_files, root=manifest.root), chunks, workers=workers)) as results:
        for inspection in results:
            inspections.append(inspection)
            if progress is not None:
                progress(len(inspections), len(paths))
    return inspections


def _counts(classes: Sequence[str], entries: Sequence[Entry], official: OfficialCounts | None) -> dict[str, Any]:
    """Count classes and usable images, beside what was published."""
    found: dict[str, Any] = {"num_classes": len(classes)}
    for split in SPLITS:
        labels = Counter(entry.label for entry in entries if entry.split == split)
        per_class = sorted(labels.get(label, 0) for label in range(len(classes)))
        found[f"num_{split}_images"] = sum(per_class)
        found[f"num_{'trained' if split == 'train' else 'tested'}_classes"] = len(labels)
        found[f"{split}_images_per_class"] = {
            "min": per_class[0],
            "median": median(per_class),
            "max": per_class[-1],
        }
    return {"found": found, "official": None if official is None else _json_of(official)}


def _json_of(official: OfficialCounts) -> dict[str, Any]:
    values = asdict(official)
    for split in SPLITS:
        span = values[f"{split}_images_per_class"]
        values[f"{split}_images_per_class"] = None if span is None else {"min": span[0], "max": span[1]}
    return values


def _classes(classes: Sequence[str], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    counts = Counter((entry.split, entry.label) for entry in entries)
    return [
        {"name": name, "num_train_images": counts["train", label], "num_test_images": counts["test", label]}
        for label, name in enumerate(classes)
    ]


def ceilings(entries: Iterable[Entry], num_classes: int) -> dict[str, Any]:
    """Return the accuracies that no network can exceed, because it has never been shown a class or a class is absent.

    A test image of a class without training images cannot be right. The mean class accuracy (MCA) over all classes
    counts a class without test images as 0, as the released code of López-Cifuentes et al. does (arXiv:2205.01997):
    of ADE20K's 1,055 scene classes 672 have test images, so that it is at most 63.7 %.

    Args:
        entries: Usable images.
        num_classes: All classes, with or without images.

    Returns:
        Ceilings in percent, None where there is no test image, and the counts that they follow from.

    Example:
        >>> pairs = [("train", 0), ("test", 0), ("test", 1)]
        >>> images = [Entry(str(number), "", label, split) for number, (split, label) in enumerate(pairs)]
        >>> found = ceilings(images, 4)
        >>> found["top1_percent"], found["mca_present_percent"], found["mca_all_percent"]
        (50.0, 50.0, 25.0)
    """
    labels: dict[str, list[int]] = {split: [] for split in SPLITS}
    for entry in entries:
        labels[entry.split].append(entry.label)
    trained, tested = set(labels["train"]), set(labels["test"])
    num_hopeless = sum(label not in trained for label in labels["test"])
    return {
        "num_classes": num_classes,
        "num_tested_classes": len(tested),
        "num_tested_and_trained_classes": len(tested & trained),
        "num_test_images": len(labels["test"]),
        "num_test_images_of_untrained_classes": num_hopeless,
        "top1_percent": _percent(len(labels["test"]) - num_hopeless, len(labels["test"])),
        "mca_present_percent": _percent(len(tested & trained), len(tested)),
        "mca_all_percent_if_all_were_trained": _percent(len(tested), num_classes),
        "mca_all_percent": _percent(len(tested & trained), num_classes),
    }


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _files(entries: Sequence[Entry], inspections: Sequence[Inspection]) -> dict[str, Any]:
    """Describe the files that lists name and that exist."""
    findings: dict[str, list[dict[str, str]]] = {kind: [] for kind in FINDINGS}
    for entry, seen in zip(entries, inspections, strict=True):
        for finding in seen.findings:
            findings[finding.kind].append({"path": entry.path, "message": finding.message})
    usable = [seen for seen in inspections if seen.is_usable]
    sides = {
        "short": sorted(min(seen.height, seen.width) for seen in usable),
        "long": sorted(max(seen.height, seen.width) for seen in usable),
    }
    return {
        "num_read": len(inspections),
        "num_usable": len(usable),
        "num_bytes": sum(seen.num_bytes for seen in inspections),
        "formats": dict(sorted(Counter(seen.format for seen in usable).items())),
        "modes": dict(sorted(Counter(seen.mode for seen in usable).items())),
        "sides_pixels": {
            name: {"min": values[0], "median": median(values), "max": values[-1]} if values else None
            for name, values in sides.items()
        },
        "findings": findings,
    }


def _problems(manifest: Manifest) -> dict[str, list[dict[str, str]]]:
    problems: dict[str, list[dict[str, str]]] = defaultdict(list)
    for problem in manifest.problems:
        problems[problem.kind].append({"where": problem.where, "message": problem.message})
    return dict(sorted(problems.items()))


def _official_lists(manifest: Manifest, inspections: Sequence[Inspection]) -> dict[str, Any]:
    """Compare the names in both splits; equal names count as one image only where the pixels agree too."""
    digest_of: dict[Split, dict[str, bytes]] = {split: {} for split in SPLITS}
    for entry, seen in zip(manifest.entries, inspections, strict=True):
        digest_of[entry.split][entry.id] = seen.digest
    if not all(digest_of.values()):
        return {"by": None, "overlap_by": None, "num_same_pixels": 0}
    table = shared_names(list(digest_of["train"]), list(digest_of["test"]))
    naming = telling_overlap(table)
    num_same_pixels = 0
    if naming is not None:
        shorten = NAMINGS[naming]
        known = {shorten(name): digest for name, digest in digest_of["train"].items()}
        num_same_pixels = sum(
            bool(digest) and known.get(shorten(name)) == digest for name, digest in digest_of["test"].items()
        )
    return {"by": table, "overlap_by": naming, "num_same_pixels": num_same_pixels}


def _named_lists(request: Request, manifest: Manifest) -> dict[str, Any] | None:
    """Compare the lists that the user named, with each other and with the dataset."""
    if request.lists is None:
        return None
    train, test = (read_image_list(path) for path in request.lists)
    splits = {split: [entry.id for entry in manifest.split(split)] for split in SPLITS}
    return {
        "train": request.lists[0].name,
        "test": request.lists[1].name,
        **compare_lists(train, test),
        "train_list_in_dataset": place_in_splits(train.names, splits),
        "test_list_in_dataset": place_in_splits(test.names, splits),
    }


def _verdict(result: Mapping[str, Any]) -> dict[str, Any]:
    """Decide whether the copy can be used: as `on_problem: fail` does, with remarks for what does not stop it."""
    blocking = {kind: len(found) for kind, found in result["problems"].items() if kind in BLOCKING_KINDS}
    if unreadable := sum(len(result["files"]["findings"][kind]) for kind in FATAL_FINDINGS):
        blocking["unreadable"] = unreadable
    for split in SPLITS:
        if not result["counts"]["found"][f"num_{split}_images"]:
            blocking[f"no_{split}_images"] = 1
    remarks = {kind: count for kind, count in _remarks(result) if count}
    official = result["counts"]["official"]
    status = "as_published" if official and not remarks else "usable"
    return {
        "status": "not_usable" if blocking else status,
        "exit_status": EXIT_NOT_USABLE if blocking else 0,
        "has_published_counts": None if official is None else "counts_differ" not in remarks,
        "blocking": [{"kind": kind, "count": count} for kind, count in sorted(blocking.items())],
        "remarks": [{"kind": kind, "count": count} for kind, count in remarks.items()],
    }


def _remarks(result: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield kinds of remarks with their counts; those that count 0 are none."""
    counts, found, duplicates = result["counts"], result["ceilings"], result["duplicates"]
    yield "counts_differ", len(differing_counts(counts["found"], counts["official"]))
    yield "named_lists_overlap", _num_shared(result["lists"]["named"])
    yield "official_lists_overlap", result["lists"]["official"]["num_same_pixels"]
    yield "same_pixels_across", duplicates["by_scope"]["across"]["num_groups"]
    yield "same_pixels_train", duplicates["by_scope"]["train"]["num_groups"]
    yield "same_pixels_test", duplicates["by_scope"]["test"]["num_groups"]
    yield "conflicting_labels", sum(scope["num_conflicting_groups"] for scope in duplicates["by_scope"].values())
    yield "untrained_classes", found["num_classes"] - counts["found"]["num_trained_classes"]
    yield "untested_classes", found["num_classes"] - found["num_tested_classes"]
    for kind, files in result["files"]["findings"].items():
        if kind not in FATAL_FINDINGS:
            yield kind, len(files)
    for kind, problems in result["problems"].items():
        is_published = kind == "unlisted" and bool(counts["official"]) and counts["official"]["has_unlisted_images"]
        if kind not in BLOCKING_KINDS | SEEN_OTHERWISE and not is_published:
            yield kind, len(problems)


def differing_counts(found: Mapping[str, Any], official: Mapping[str, Any] | None) -> list[str]:
    """Return the counts that are not the published ones; numbers per class differ where a class leaves their span.

    Args:
        found: `counts.found` of a report.
        official: `counts.official`, or None where nothing was published.
    """
    differing = []
    for key, value in found.items() if official is not None else ():
        expected = (official or {})[key]
        if isinstance(value, Mapping):
            is_equal = expected is None or all(value[end] == expected[end] for end in ("min", "max"))
        else:
            is_equal = value == expected
        if not is_equal:
            differing.append(key)
    return differing


def _num_shared(named: Mapping[str, Any] | None) -> int:
    if named is None or named["overlap_by"] is None:
        return 0
    return int(named["by"][named["overlap_by"]]["num_shared"])
