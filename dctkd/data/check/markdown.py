"""Pieces of Markdown: tables and lists of bounded length, numbers, and names that cannot break them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_ROWS = 20
"""Longest table or list; the JSON file beside the text holds all of it."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table.

    Args:
        header: Names of the columns.
        rows: Cells, already escaped.
    """
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def cut_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of at most MAX_ROWS rows; a last line counts the others."""
    return [*table(header, rows[:MAX_ROWS]), *_rest(len(rows))]


def cut_list(texts: Sequence[str]) -> list[str]:
    """Return the lines of a list of at most MAX_ROWS items, already escaped; a last line counts the others."""
    return [*(f"- {text}" for text in texts[:MAX_ROWS]), *_rest(len(texts))]


def _rest(num_rows: int) -> list[str]:
    return ["", f"... and {num_rows - MAX_ROWS:,} more; the JSON file lists all."] if num_rows > MAX_ROWS else []


def tally(counts: Mapping[str, int]) -> str:
    """Return names with their counts.

    Example:
        >>> tally({"JPEG": 12000, "PNG": 3})
        'JPEG 12,000, PNG 3'
    """
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "-"


def span(value: Any) -> str:
    """Return a number, or the numbers of a mapping, with thousands separated.

    Example:
        >>> span({"min": 1, "median": 4.0, "max": 1500})
        '1 / 4 / 1,500'
    """
    if isinstance(value, Mapping):
        return " / ".join(span(number) for number in value.values())
    return f"{value:,}".removesuffix(".0")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "image"), counted(2000, "image")
        ('1 image', '2,000 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(value: float | None) -> str:
    """Return a percentage with one decimal; a dash if there is none."""
    return "-" if value is None else f"{value:.1f} %"


def code(text: str) -> str:
    """Return text as Markdown code; a backtick in it, which would end it, becomes an apostrophe."""
    return f"`{_printable(text).replace('`', chr(39))}`"


def plain(text: str) -> str:
    r"""Return text in which no letter starts a link, code or HTML.

    Example:
        >>> plain("a <b>")
        'a \\<b>'
    """
    return "".join(f"\\{letter}" if letter in "<[`" else letter for letter in _printable(text))


def _printable(text: str) -> str:
    """Escape what cannot be printed or encoded, and the bar that would end a table's cell."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown.replace("|", "\\|")
