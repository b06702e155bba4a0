"""The words of a dataset's check: Markdown for people, JSON for programs, from the values that `check` returns.

The Markdown names no folder of the machine; the JSON keeps the root as the user gave it. File names come from untrusted
archives: what could break a table or a terminal is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dctkd.data.check import differing_counts
from dctkd.data.check.inspection import FINDINGS
from dctkd.data.check.markdown import code, counted, cut_list, cut_table, percent, plain, span, table, tally
from dctkd.data.manifest import PROBLEM_KINDS
from dctkd.errors import InputError
from dctkd.provenance import write_atomic

MAX_NAMES_PER_GROUP = 5
"""Images of one group of duplicates that the Markdown names."""

REMARKS: Mapping[str, str] = MappingProxyType(
    {
        **PROBLEM_KINDS,
        **FINDINGS,
        "counts_differ": "numbers that are not the published ones",
        "named_lists_overlap": "images of the named test list that are also in the named training list: accuracy on "
        "them is accuracy on training images",
        "official_lists_overlap": "test images that have the name and the pixels of a training image",
        "same_pixels_across": "groups of images with the same pixels in training and in test",
        "same_pixels_train": "groups of training images with the same pixels",
        "same_pixels_test": "groups of test images with the same pixels",
        "conflicting_labels": "groups of images with the same pixels under more than one class: no network can be "
        "right on all of a group",
        "untrained_classes": "classes without a training image: their test images cannot be right",
        "untested_classes": "classes without a test image: they count 0 in the mean class accuracy over all classes",
        "unlisted": "files among the images that no list names; they are not used",
    }
)
"""Kinds of remarks and what they mean."""
_BLOCKING: Mapping[str, str] = MappingProxyType(
    {
        **PROBLEM_KINDS,
        "no_train_images": "no usable training image is left",
        "no_test_images": "no usable test image is left",
    }
)
_COUNT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "num_classes": "classes",
        "num_train_images": "training images",
        "num_test_images": "test images",
        "num_trained_classes": "classes with training images",
        "num_tested_classes": "classes with test images",
        "train_images_per_class": "training images per class",
        "test_images_per_class": "test images per class",
    }
)
_SCOPE_NAMES: Mapping[str, str] = MappingProxyType(
    {"across": "across training and test", "train": "within training", "test": "within test"}
)


def require_outside(root: Path, folder: Path) -> None:
    """Check that a report would not be written among the photographs, which are only read.

    Raises:
        InputError: If the folder is the root or lies below it.
    """
    if folder.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{folder}: lies inside the dataset {root}, where nothing is written; choose a folder by --to")


def write_report(result: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write `check-<format>.md` and `check-<format>.json`.

    Args:
        result: As `check` returns it.
        folder: Made if missing.

    Returns:
        Both paths.

    Raises:
        InputError: If the folder cannot be written.
    """
    name = f"check-{result['dataset']['format']}"
    paths = (folder / f"{name}.md", folder / f"{name}.json")
    try:
        for path, text in zip(paths, (to_markdown(result), to_json(result)), strict=True):
            write_atomic(path, text)
    except OSError as error:
        raise InputError(f"{folder}: the report cannot be written: {error.strerror}; choose another by --to") from error
    return paths


def to_json(result: Mapping[str, Any]) -> str:
    """Return the JSON text of a check, in ASCII, with every finding."""
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the report for people.

    Args:
        result: As `check` returns it.

    Returns:
        Markdown that can be encoded as UTF-8; the last line alone depends on the time it took.
    """
    sections = (_head, _what, _counts, _classes, _ceilings, _files, _problems, _duplicates, _official, _named)
    lines = [line for section in sections for line in section(result)]
    timing = result["timing"]
    last = f"Checked in {timing['seconds']:.1f} s with {counted(timing['workers'], 'worker')}."
    return "\n".join([*lines, last]) + "\n"


def verdict_line(result: Mapping[str, Any]) -> str:
    """Return the verdict in one line, without a full stop.

    Example:
        >>> remark = {"kind": "grey", "count": 3}
        >>> verdict_line({"verdict": {"status": "usable", "remarks": [remark], "blocking": []}})
        'usable, with 1 remark'
    """
    verdict = result["verdict"]
    if verdict["status"] == "as_published":
        return "as published"
    if verdict["status"] == "not_usable":
        return "not usable: " + ", ".join(f"{row['count']:,} {row['kind']}" for row in verdict["blocking"])
    if not verdict["remarks"]:
        return "usable, nothing to remark"
    return f"usable, with {counted(len(verdict['remarks']), 'remark')}"


def _head(result: Mapping[str, Any]) -> Iterator[str]:
    verdict = result["verdict"]
    counts = {
        True: " The counts are the published ones.",
        False: " The counts are not the published ones.",
        None: " There are no published counts to compare with.",
    }[verdict["has_published_counts"]]
    yield from (f"# Check of {result['dataset']['format']}", "", f"**Verdict: {verdict_line(result)}.**{counts}", "")
    if verdict["blocking"]:
        yield from (f"- **{row['kind']}** ({row['count']:,}): {_BLOCKING[row['kind']]}" for row in verdict["blocking"])
        found = result["counts"]["found"]
        left = f"{found['num_train_images']:,} training and {found['num_test_images']:,} test images"
        yield from ("", f"Mend the files or lists; `on_problem: drop` would go on with what is left: {left}.", "")
    if verdict["remarks"]:
        yield from ("Remarks:", "")
        yield from (f"- {row['kind']} ({row['count']:,}): {REMARKS[row['kind']]}" for row in verdict["remarks"])
        yield ""


def _what(result: Mapping[str, Any]) -> Iterator[str]:
    dataset, files = result["dataset"], result["files"]
    below = dataset["images_below_root"]
    options = ", ".join(f"{key}={json.dumps(value)}" for key, value in dataset["options"].items())
    rows = [
        ("format", dataset["format"]),
        ("options", code(options) if options else "none"),
        ("layout", "found at the root" if below == "." else f"found below the root, in {code(below)}"),
        ("files read", f"{files['num_read']:,} ({files['num_bytes']:,} bytes)"),
        ("files that decode", f"{files['num_usable']:,}"),
        ("formats", tally(files["formats"])),
        ("colour modes", tally(files["modes"])),
        *(
            (f"{side} side", "-" if pixels is None else f"{span(pixels)} pixels")
            for side, pixels in files["sides_pixels"].items()
        ),
    ]
    yield from ("## What was checked", "", *table(("", "found"), rows), "")


def _counts(result: Mapping[str, Any]) -> Iterator[str]:
    found, official = result["counts"]["found"], result["counts"]["official"]
    differing = differing_counts(found, official)
    rows = []
    for key, name in _COUNT_NAMES.items():
        published = "-" if official is None or official[key] is None else span(official[key])
        rows.append((name, span(found[key]), published, "**differs**" if key in differing else ""))
    yield from ("## Counts", "", *table(("", "found", "published", ""), rows), "")
    yield "Found: usable images. Numbers per class: fewest, median and most; published: fewest and most."
    if official is not None:
        yield f"Published: {official['source']}."
    yield ""


def _classes(result: Mapping[str, Any]) -> Iterator[str]:
    medians = [result["counts"]["found"][f"{split}_images_per_class"]["median"] for split in ("train", "test")]
    rows = []
    for row in result["classes"]:
        counts = (row["num_train_images"], row["num_test_images"])
        distance = sum(abs(count - middle) for count, middle in zip(counts, medians, strict=True))
        if distance:
            rows.append((-distance, code(row["name"]), *(f"{count:,}" for count in counts)))
    if not rows:
        return
    rows.sort(key=lambda row: row[0])  # stable: equal distances stay in the order of the classes
    yield from ("## Classes that differ most from the median", "")
    yield from (*cut_table(("class", "training images", "test images"), [row[1:] for row in rows]), "")


def _ceilings(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["ceilings"]
    rows = [
        ("top-1 accuracy", percent(found["top1_percent"]), "test images of classes with training images"),
        (
            "MCA over the classes present in test",
            percent(found["mca_present_percent"]),
            f"{found['num_tested_and_trained_classes']:,} of {found['num_tested_classes']:,} classes",
        ),
        (
            "MCA over all classes, absent ones counting 0",
            percent(found["mca_all_percent"]),
            f"{found['num_tested_and_trained_classes']:,} of {found['num_classes']:,} classes",
        ),
        (
            "the same, were all tested classes trained",
            percent(found["mca_all_percent_if_all_were_trained"]),
            f"{found['num_tested_classes']:,} of {found['num_classes']:,} classes",
        ),
    ]
    hopeless = found["num_test_images_of_untrained_classes"]
    yield from ("## What accuracy is possible at most", "", *table(("measure", "ceiling", "because of"), rows), "")
    yield (
        f"{hopeless:,} of {found['num_test_images']:,} test images are of classes without a training image. "
        "MCA: mean class accuracy."
    )
    yield ""
    for title, key in (("without a training image", "num_train_images"), ("without a test image", "num_test_images")):
        names = [code(row["name"]) for row in result["classes"] if not row[key]]
        if names:
            yield from (f"Classes {title} ({len(names):,}):", "", *cut_list(names), "")


def _files(result: Mapping[str, Any]) -> Iterator[str]:
    findings = {kind: rows for kind, rows in result["files"]["findings"].items() if rows}
    yield from ("## Files", "")
    if not findings:
        yield from ("Every listed file that exists decodes to the last pixel, and none is unusual.", "")
        return
    rows = [(kind, f"{len(found):,}", FINDINGS[kind]) for kind, found in findings.items()]
    yield from (*table(("finding", "files", "meaning"), rows), "")
    if "rotated" in findings:
        yield from ("EXIF orientation is not applied, as torchvision's usual pipeline does not apply it either.", "")
    for kind, found in findings.items():
        yield from (f"### {kind} ({len(found):,})", "")
        yield from (*cut_list([f"{code(row['path'])}: {plain(row['message'])}" for row in found]), "")


def _problems(result: Mapping[str, Any]) -> Iterator[str]:
    for kind, found in result["problems"].items():
        if kind in ("empty_class", "untested_class", "untrained_class"):
            continue  # named with the ceilings
        # Formats whose archives hold more than their lists use sum such files up in one problem.
        count = "" if kind == "unlisted" and len(found) == 1 else f" ({len(found):,})"
        yield from (f"## {kind}{count}", "", f"{REMARKS[kind][0].upper()}{REMARKS[kind][1:]}.", "")
        yield from (*cut_list([f"{code(row['where'])}: {plain(row['message'])}" for row in found]), "")


def _duplicates(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["duplicates"]
    yield from ("## Images with the same pixels", "")
    if not found["groups"]:
        yield from ("There are none.", "")
        return
    rows = [
        (
            name,
            *(f"{found['by_scope'][scope][key]:,}" for key in ("num_groups", "num_images", "num_conflicting_groups")),
        )
        for scope, name in _SCOPE_NAMES.items()
    ]
    yield from (*table(("", "groups", "images", "groups under several classes"), rows), "")
    num_seen, num_tests = found["num_test_images_trained_on"], result["counts"]["found"]["num_test_images"]
    if num_seen:
        others = found["num_test_images_trained_on_under_other_classes_only"]
        share = percent(100 * num_seen / num_tests)
        verb = "has" if num_seen == 1 else "have"
        what = f"{verb} the pixels of a training image; {others:,} of other classes only"
        yield f"{counted(num_seen, 'test image')} ({share}) {what}."
        yield ""
    for scope, name in _SCOPE_NAMES.items():
        groups = [group for group in found["groups"] if group["scope"] == scope]
        if groups:
            yield from (f"### {name} ({len(groups):,})", "", *cut_list([_group(group) for group in groups]), "")


def _group(group: Mapping[str, Any]) -> str:
    images = group["images"]
    names = [f"{code(image['path'])} ({image['split']}, {code(image['class'])})" for image in images]
    if len(names) > MAX_NAMES_PER_GROUP:
        names[MAX_NAMES_PER_GROUP:] = [f"and {len(names) - MAX_NAMES_PER_GROUP:,} more"]
    return f"{'**several classes**: ' if group['labels_conflict'] else ''}{', '.join(names)}"


def _official(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["lists"]["official"]
    if found["by"] is None:
        return
    yield from ("## Overlap of the dataset's training and test lists", "", *_overlap_table(found["by"]), "")
    if found["overlap_by"] is None:
        yield "No name that tells images apart is in both."
    else:
        same = f"{found['num_same_pixels']:,} have the same pixels too"
        yield f"Of the test images with the {found['overlap_by']} of a training image, {same}."
    yield ""


def _named(result: Mapping[str, Any]) -> Iterator[str]:
    found = result["lists"]["named"]
    if found is None:
        return
    yield from ("## Overlap of the named lists", "")
    names = [f"{code(found[split])} names {counted(found[f'num_{split}'], 'image')}" for split in ("train", "test")]
    yield f"{'; '.join(names)}."
    yield from ("", *_overlap_table(found["by"]), "")
    naming = found["overlap_by"]
    if naming is None:
        yield "No name that tells images apart is in both lists."
    else:
        row = found["by"][naming]
        order = "the same" if found["is_same_order"] else "another"
        share = percent(row["percent_of_test"])
        verb = "is" if row["num_shared"] == 1 else "are"
        what = f"{counted(row['num_shared'], 'image')} of the test list ({share}) {verb} in the training list"
        if found["is_same_set"]:
            what = f"Both lists name the same {counted(row['num_shared'], 'image')} (100 %), in {order} order"
        yield f"**{what}, compared by {naming}.** Accuracy on them is accuracy on training images."
        if found["num_other_label"]:
            yield f"{found['num_other_label']:,} of them have another class id there."
    yield ""
    yield from _places(found)


def _places(found: Mapping[str, Any]) -> Iterator[str]:
    """Say where the dataset has the images of the named lists."""
    rows = []
    for split in ("train", "test"):
        place = found[f"{split}_list_in_dataset"]
        if place is None:
            yield from ("File names do not tell the dataset's images apart: where it has these is left open.", "")
            return
        rows.append((code(found[split]), *(f"{place[key]:,}" for key in ("train", "test", "neither"))))
    yield from table(("list", "in the dataset's training split", "in its test split", "in neither"), rows)
    yield from ("", "By file name.", "")


def _overlap_table(by: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [
        (naming, f"{row['num_shared']:,}", percent(row["percent_of_test"]), "yes" if row["is_unique"] else "no")
        for naming, row in by.items()
    ]
    return table(("compared", "test images also in training", "share", "tells images apart"), rows)
