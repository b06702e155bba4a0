"""Findings for people."""

import pytest

from dctkd.doctor.finding import Finding
from dctkd.doctor.printout import print_findings

COMMAND = "find results -name '.*.part' -type f -mmin +10 -not -path '*/.*.part/*' -delete && echo a long command line"
FOUND = {
    "environment": [
        Finding("Python", "ok", "3.11"),
        Finding("commands", "warning", "dctkd is another's " + "word " * 40, "source a"),
        Finding("commands", "warning", "snakemake is another's", "source a"),
    ],
    "compute": [],
    "disk": [Finding("disk", "problem", "[b]full[/b]", COMMAND), Finding("mount", "problem", "read-only")],
    "leftovers": [Finding("packing", "note", "not finished", "rm -r x")],
}


@pytest.fixture(params=[80, 120])
def lines(request, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(request.param))
    print_findings(FOUND, has_config=True)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(len(line) for line in lines if COMMAND not in line) <= request.param
    return lines


def test_what_to_do_comes_last_problems_first_each_command_once_and_whole(lines):
    tasks = lines[lines.index("what to do") + 1 :]
    assert tasks == [
        "  1. disk",
        f"     {COMMAND}",
        "  2. mount: read-only",
        "  3. commands",
        "     source a",
        "2 problems, 2 warnings, 1 note",
    ]


def test_a_note_has_its_command_beside_it_and_text_is_no_markup(lines):
    assert "$ rm -r x" in [line.strip() for line in lines]
    assert any("[b]full[/b]" in line for line in lines)
    assert "compute" not in lines


def test_where_all_is_well_it_says_so(capsys):
    print_findings({"environment": [Finding("Python", "ok", "3.11")]}, has_config=False)
    out = capsys.readouterr().out
    assert "what to do" not in out
    assert "all is well" in out
    assert "dctkd doctor --config FILE" in out
