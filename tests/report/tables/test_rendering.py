"""The three forms of a table hold the same numbers, whatever the names are."""

import csv
import html
import io
import re

import pytest

from dctkd.report.tables.rendering import (
    DASH,
    Cell,
    Column,
    Table,
    TableRow,
    escape_latex,
    escape_markdown,
    to_csv,
    to_latex,
    to_markdown,
)

from .latex import compile_latex, needs_latex

AWKWARD = r"a_b __c__ 50% R&D #1 $x$ x^2 ~y \z {w} <i> [k] *s* `q` a|b"
NUMBERS = {
    ("teacher", "top1"): Cell("75.12 (n = 1)", 75.123456789, None, None, 1, ("d0",)),
    (AWKWARD, "top1"): Cell("71.30 \u00b1 1.21", 71.29999, 70.09, 72.51, 3, ("d1", "d2", "d3")),
    ("teacher", "gain"): Cell(),
    (AWKWARD, "gain"): Cell("-0.52 \u00b1 0.10", -0.5218, -0.62, -0.42, 3, ("d1", "d2", "d3")),
}


@pytest.fixture
def table() -> Table:
    columns = (Column("top1", "top-1 (%)"), Column("gain", AWKWARD))
    rows = tuple(TableRow(name, tuple(NUMBERS[name, c.key] for c in columns)) for name in ("teacher", AWKWARD))
    return Table(
        f"accuracy of {AWKWARD}", columns, rows, notes=(f"note {AWKWARD}",), experiment="demo", commits="abc123"
    )


def read_markdown(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[html.unescape(re.sub(r"\\([^\w\s])", r"\1", c.strip()).replace("\\_", "_")) for c in row] for row in cells]


def read_latex(text: str) -> list[list[str]]:
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r"\\")]
    return [[unescape_latex(cell.strip()) for cell in re.split(r"(?<!\\)&", line)] for line in lines]


def unescape_latex(text: str) -> str:
    words = {"textbackslash": "\\", "textasciicircum": "^", "textasciitilde": "~", "textless": "<", "textgreater": ">"}
    words |= {"textbar": "|"}
    text = text.replace(r"$\pm$", "\u00b1").replace("$-$", "-").replace("---", DASH)
    text = re.sub(r"\{([\[\]*])\}", r"\1", text)
    return re.sub(r"\\(text\w+)\{\}|\\([{}_%&#$])", lambda m: words[m[1]] if m[1] else m[2], text)


@pytest.mark.parametrize(("render", "read"), [(to_markdown, read_markdown), (lambda t: to_latex(t, "x"), read_latex)])
def test_page_shows_the_texts_of_the_cells_whatever_the_names(table, render, read):
    assert read(render([table])) == [
        ["method", "top-1 (%)", AWKWARD],
        ["teacher", "75.12 (n = 1)", DASH],
        [AWKWARD, "71.30 \u00b1 1.21", "-0.52 \u00b1 0.10"],
    ]


def test_csv_has_every_number_at_full_precision_with_its_runs(table):
    rows = {(row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(to_csv([table])))}
    assert rows.keys() == NUMBERS.keys()
    for key, cell in NUMBERS.items():
        read = [float(rows[key][name]) if rows[key][name] else None for name in ("value", "ci_low", "ci_high", "n")]
        assert read == [cell.value, cell.ci_low, cell.ci_high, cell.n]
        assert rows[key]["runs"].split() == list(cell.runs)
        assert rows[key]["commits"] == "abc123"


def test_missing_cell_is_a_dash_on_the_page_and_empty_in_csv(table):
    row = next(
        row
        for row in csv.DictReader(io.StringIO(to_csv([table])))
        if (row["row"], row["column"]) == ("teacher", "gain")
    )
    assert (row["value"], row["n"], row["text"]) == ("", "", DASH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_", r"\_"),
        ("%&#$", r"\%\&\#\$"),
        ("^~", r"\textasciicircum{}\textasciitilde{}"),
        ("\\{}", r"\textbackslash{}\{\}"),
        ("71.30 \u00b1 0.12", r"71.30 $\pm$ 0.12"),
        ("-0.5 of top-1", "$-$0.5 of top-1"),
    ],
)
def test_latex_specials_are_escaped(text, expected):
    assert escape_latex(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("*x* `y` [z]", r"\*x\* \`y\` \[z\]"),
        ("wide__narrow", "wide__narrow"),
        ("__init__", r"\_\_init\_\_"),
        ("\\", r"\\"),
    ],
)
def test_markdown_specials_are_escaped_and_names_stay_readable(text, expected):
    assert escape_markdown(text) == expected


def test_row_of_another_length_than_the_columns_is_refused():
    with pytest.raises(ValueError, match="has 0 cells for 1 columns"):
        Table("t", (Column("a", "a"),), (TableRow("r", ()),))


@pytest.mark.slow
@needs_latex
def test_latex_compiles_with_the_packages_it_names(table, tmp_path):
    (tmp_path / "table.tex").write_text(to_latex([table, table], "demo_x-accuracy"), encoding="utf-8")
    compile_latex(tmp_path / "table.tex")
