"""A table as data, and its three forms: Markdown to read, LaTeX to print, CSV to compute with.

All three are made from the same cells. Markdown and LaTeX show rounded text; the CSV file holds every cell at full
precision, with the digests of the runs it is made from, so that a number can be followed from the page to
`results/store/<digest>/`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

DASH = "\u2014"
"""Stands where there is no value; never zero."""

CSV_COLUMNS = ("row", "column", "value", "ci_low", "ci_high", "n", "runs", "text", "bold", "experiment", "commits")

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\u00b1": r"$\pm$",
    "\u2020": r"\dag{}",
    "\u2021": r"\ddag{}",
    DASH: "---",
}
# The last three would be read as arguments of the line break before a row name.
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True)
class Cell:
    """One number of a table, as shown and in full.

    Attributes:
        text: What Markdown and LaTeX show, as plain text.
        value: The number at full precision, in the unit of the column; None if there is none.
        ci_low: Lower end of its 95 % interval; None if there is no interval.
        ci_high: Upper end.
        n: Number of seeds behind the value; None for what does not depend on a seed.
        runs: Digests of the runs behind the value.
        is_bold: Whether it stands out; the table's notes say what that means.
    """

    text: str = DASH
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    runs: tuple[str, ...] = ()
    is_bold: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its unique key in the CSV file and its heading."""

    key: str
    label: str


@dataclass(frozen=True)
class TableRow:
    """A row: its name and one cell per column."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table and what one must know to read it.

    Attributes:
        title: Names the experiment, what is shown, and n.
        columns: Columns without that of the row names.
        rows: Rows, each with a cell per column.
        corner: Heading of the row names.
        notes: Footnotes, plain text.
        experiment: Name of the experiment.
        commits: Code versions the runs were made with.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    corner: str = "method"
    notes: tuple[str, ...] = ()
    experiment: str = ""
    commits: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"{self.title}: row {row.name} has {len(row.cells)} cells for {len(self.columns)} columns"
                )


def escape_latex(text: str) -> str:
    r"""Return text that LaTeX prints as it is given.

    Example:
        >>> escape_latex("wide__narrow: 50%")
        'wide\\_\\_narrow: 50\\%'
    """
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", escaped)


def escape_markdown(text: str) -> str:
    r"""Return text that Markdown shows as it is given, also inside a table: no markup, no HTML, no column break.

    An underscore between two letters or digits is not markup in GitHub's Markdown and stays readable in the source.

    Example:
        >>> escape_markdown("a|b <i> wide__narrow _x_")
        'a\\|b &lt;i&gt; wide__narrow \\_x\\_'
    """
    escaped = re.sub(r"([\\`*\[\]|~$#])", r"\\\1", text)
    escaped = "".join(_HTML.get(character, character) for character in escaped)
    return re.sub(r"(?<!\w)_+|_+(?!\w)", lambda match: r"\_" * len(match.group()), escaped)


def to_markdown(tables: Sequence[Table]) -> str:
    """Return the tables one below the other, as GitHub-flavoured Markdown."""
    parts: list[str] = []
    for table in tables:
        headings = [escape_markdown(text) for text in (table.corner, *(column.label for column in table.columns))]
        body = [
            [
                escape_markdown(row.name),
                *(_emphasised(escape_markdown(cell.text), "**{}**", cell) for cell in row.cells),
            ]
            for row in table.rows
        ]
        alignment = ("left", *("right" for _ in table.columns))
        parts.append(f"**{escape_markdown(table.title)}**\n")
        parts.append(tabulate(body, headings, tablefmt="pipe", disable_numparse=True, colalign=alignment) + "\n")
        parts.extend(f"- {escape_markdown(note)}" for note in table.notes)
        parts.extend([""] if table.notes else [])
    return "\n".join(parts).rstrip("\n") + "\n"


def to_latex(tables: Sequence[Table], name: str) -> str:
    r"""Return the tables as LaTeX floats, to be read by `\input` in any document.

    Needs the packages booktabs and graphicx: a table that is wider than the line is scaled down.

    Args:
        tables: One float each.
        name: Start of the labels: `\ref{tab:<name>-1}` is the first table.
    """
    label = re.sub(r"[^A-Za-z0-9]+", "-", name)
    lines = [
        r"% \usepackage{booktabs,graphicx}; then \input this file.",
        f"% Labels: tab:{label}-1 to tab:{label}-{len(tables)}.",
    ]
    for number, table in enumerate(tables, start=1):
        lines += [
            r"\begin{table}[tbp]",
            r"\centering\footnotesize",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\label{{tab:{label}-{number}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            _latex_line(escape_latex(text) for text in (table.corner, *(column.label for column in table.columns))),
            r"\midrule",
            *(
                _latex_line(
                    [
                        escape_latex(row.name),
                        *(_emphasised(escape_latex(cell.text), r"\textbf{{{}}}", cell) for cell in row.cells),
                    ]
                )
                for row in table.rows
            ),
            r"\bottomrule",
            r"\end{tabular}}",
            *_latex_notes(table.notes),
            r"\end{table}",
            "",
        ]
    return "\n".join(lines)


def to_csv(tables: Sequence[Table]) -> str:
    """Return every cell on a line of its own, numbers at full precision; cells without a value have empty fields."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                numbers = ("" if x is None else repr(x) for x in (cell.value, cell.ci_low, cell.ci_high, cell.n))
                shown = (" ".join(cell.runs), cell.text, "yes" if cell.is_bold else "")
                writer.writerow((row.name, column.key, *numbers, *shown, table.experiment, table.commits))
    return buffer.getvalue()


def _emphasised(text: str, form: str, cell: Cell) -> str:
    return form.format(text) if cell.is_bold else text


def _latex_line(texts: Iterable[str]) -> str:
    return " & ".join(texts) + r" \\"


def _latex_notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [
        r"\par\smallskip\begin{minipage}{\linewidth}\scriptsize",
        *(escape_latex(n) + r"\par" for n in notes),
        r"\end{minipage}",
    ]
