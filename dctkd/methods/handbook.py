"""docs/methods.md, generated from the methods' classes and docstrings. `dctkd methods sync` writes it."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dctkd.methods import METHODS, catalogue
from dctkd.provenance import write_atomic

if TYPE_CHECKING:
    from dctkd.methods.base import Method

HEAD = """# Methods

Generated from the code by `dctkd methods sync`; do not edit. The name is the key everywhere: experiment file, results,
tables, and the file `dctkd/methods/<name>.py`.

The loss of a run is `ce * CE + weight * ramp * sum(terms) + kd * T^2 KL`: `ramp` rises from 0 to 1 over the warm-up,
and the last part exists in rows named `<name>+kd` only. Every term is a mean over the batch. Weight, warm-up and `ce`
can be set in each row of an experiment file; the defaults and where they come from stand below. `teacher_correct_only`,
of a recipe for all rows or of one row, counts only the images that the teacher classifies correctly; a relational
method then leaves the others in the batch but gives them no loss of their own.

`shuffled_teacher` and `baseline` are controls. `dct_release`, `dct_main`, `fam_layer`, the controls of `dct` (`map_l2`,
`dft_magnitude`) and the options `release_negatives`, `skip_first_stage`, `freeze_batch_norm`, `size_normalised` and
`high_pass` exist for the audit of published code. SimKD and CAT-KD need the teacher's classifier, and OFD its
batch-normalisation statistics, which `Outputs` does not hold; they are left out for now.
"""


LABEL = r"(?:Papers?|Reference code|Released code|Differences from|Option|Its code|What it is for)\b"
"""How the labelled lines of a method's docstring start."""


def render() -> str:
    """Return the text of docs/methods.md."""
    entries = {name: catalogue.describe(method_class) for name, method_class in METHODS.items()}
    sections = [_section(name, METHODS[name], entry) for name, entry in entries.items()]
    return "\n".join([HEAD, *_overview(entries), "", *sections])


def write(path: Path) -> None:
    """Write the text to a file."""
    write_atomic(path, render())


def _overview(entries: Mapping[str, catalogue.Entry]) -> list[str]:
    rows = [
        f"| [`{name}`](#{name}) | {e['title']} | {e['year'] or ''} | {e['features']} | {e['default_weight']:g} | "
        f"{e['default_ce']:g} | {e['default_warmup_epochs']:g} |"
        for name, e in entries.items()
    ]
    head = "| name | title | year | reads | weight | ce | warm-up (epochs) |"
    return [head, "|---|---|---|---|---|---|---|", *rows]


def _section(name: str, method_class: type[Method], entry: catalogue.Entry) -> str:
    module = sys.modules[method_class.__module__]
    lines = [
        f"## {name}",
        "",
        f"**{entry['title']}.** {_paragraph(inspect.getdoc(method_class) or '')}",
        "",
        f"- Default weight: {entry['default_weight']:g}. {entry['default_weight_source']}",
        f"- Parts: {', '.join(_properties(entry))}",
        "",
        _as_markdown(inspect.getdoc(module) or ""),
        "",
    ]
    properties = entry["options_schema"].get("properties", {})
    if properties:
        lines += ["| option | default | meaning |", "|---|---|---|"]
        lines += [
            f"| `{key}` | `{_default(value)}` | {_paragraph(value['description'])} |"
            for key, value in properties.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _properties(entry: catalogue.Entry) -> list[str]:
    parts = [f"reads {entry['features']}", f"cross-entropy times {entry['default_ce']:g}"]
    if entry["default_warmup_epochs"]:
        parts.append(f"warm-up of {entry['default_warmup_epochs']:g} epochs")
    if entry["needs_whole_batch"]:
        parts.append("compares the images of a batch, so that its value depends on the batch size")
    return parts


def _as_markdown(text: str) -> str:
    """Turn a module docstring into paragraphs: a labelled line, a link and a blank line each start a new one."""
    blocks = re.split(rf"\n\n|\n(?={LABEL})|\n(?=https://)", text)
    kept = [_paragraph(block) for block in blocks if not block.startswith("Shapes:")]
    return "\n\n".join(re.sub(rf"^({LABEL}[^:]*:)", r"**\1**", paragraph) for paragraph in kept)


def _paragraph(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema["default"]) if "default" in schema else "required"
