"""What a benchmark found, and results.md: no dates, so that a rerun on the same machine differs only in numbers."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from tabulate import tabulate

from benchmarks.ratios import Ratio
from dctkd.engine.device import cpu_model, resolve_precision

VERSIONS_OF = ("torch", "torchvision", "timm", "numpy", "pillow", "snakemake")
SECTION = "\n\n## "
HEADING = """# What the benchmarks measured

Written by `make bench`. A ratio is one of medians, with its 95 % bootstrap interval over interleaved repeats; the
command fails where a whole interval lies beyond its bound. Images/s, seconds and MiB hold for this machine only.
"""


@dataclass(frozen=True)
class Table:
    """Cells as text, with what the reader must know of them."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        lines = tabulate(self.rows, headers=self.header, tablefmt="pipe", disable_numparse=True)
        return f"{self.caption}\n\n{lines}" if self.caption else lines


@dataclass(frozen=True)
class Section:
    """One benchmark's findings.

    Attributes:
        title: What was asked.
        about: How it was measured.
        ratios: Those with a bound must keep it.
        tables: What else was measured.
        missing: What could not be measured, with the reason, one line each.
    """

    title: str
    about: str
    ratios: tuple[Ratio, ...] = ()
    tables: tuple[Table, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Tell whether every bound is kept."""
        return all(ratio.holds for ratio in self.ratios)

    def __str__(self) -> str:
        parts = [f"## {self.title}", self.about]
        parts += [f"Not measured: {line}" for line in self.missing]
        if self.ratios:
            rows = tuple((ratio.name, ratio.interval, ratio.bound, ratio.detail) for ratio in self.ratios)
            parts.append(str(Table(("ratio", "value [95 % interval]", "bound", "of what"), rows)))
        parts += [str(table) for table in self.tables]
        return "\n\n".join(parts)


def machine() -> str:
    """Return hardware and versions in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS_OF)
    precision = resolve_precision("auto", "cpu")
    cores = f"{os.cpu_count()} cores"
    return f"{cpu_model()}, {cores}, our training in {precision}; Python {platform.python_version()}, {versions}"


def to_markdown(sections: Sequence[Section]) -> str:
    """Return the text of results.md."""
    return "\n\n".join([HEADING.rstrip(), f"**Machine.** {machine()}", *map(str, sections)]) + "\n"


def renewed(text: str, sections: Sequence[Section]) -> str:
    """Return the text of results.md with some sections as they were found now; new ones come last.

    Raises:
        ValueError: If the others were measured on another machine or with other versions.
    """
    head, *former = text.rstrip("\n").split(SECTION)
    if head + "\n" != to_markdown([]):
        raise ValueError(f"the file is not of {machine()}; leave --only away to measure all anew")
    now = {section.title: str(section).removeprefix("## ") for section in sections}
    kept = [now.pop(body.partition("\n")[0], body) for body in former]
    return SECTION.join([head, *kept, *now.values()]) + "\n"
