"""The text of results.md, and the command that writes it."""

import re

import pytest

from benchmarks import __main__ as command
from benchmarks.ratios import Ratio
from benchmarks.results import Section, Table, machine, renewed, to_markdown

BROKEN = Ratio("ours / theirs", 2.0, 1.9, 2.1, at_most=1.05)
KEPT = Ratio("ours / theirs", 1.0, 0.9, 1.1, at_most=1.05, detail="of a test")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command with one made-up benchmark that finds a ratio; return its status and what results.md holds."""
    results = tmp_path / "results.md"
    monkeypatch.setattr(command, "RESULTS", results)
    monkeypatch.setattr(
        command, "PAGES", {"made-up page": lambda file: (tmp_path / "page").write_text(file.read_text())}
    )

    def call(ratio, *arguments):
        monkeypatch.setattr(command, "BENCHMARKS", {"made-up": lambda setting: Section("T", "about", (ratio,))})
        return command.main(list(arguments)), results.read_text() if results.exists() else None

    return call


def test_a_section_shows_ratios_tables_and_what_is_missing():
    table = Table(("part", "ms"), (("loader", "1.0"),), "Of one step.")
    text = str(Section("Speed", "How.", (KEPT,), (table,), ("the peer: no network",)))
    assert text.splitlines()[:4] == ["## Speed", "", "How.", ""]
    assert "Not measured: the peer: no network" in text
    assert re.search(r"^\| ours / theirs +\| 1.000 \[0.900, 1.100\] +\| <= 1.05, ok +\| of a test", text, re.MULTILINE)
    assert re.search(r"^\| loader +\| 1.0", text, re.MULTILINE)


def test_two_writings_of_one_finding_are_equal():
    sections = [Section("Speed", "How.", (KEPT,))]
    assert to_markdown(sections) == to_markdown(sections)
    assert machine() in to_markdown(sections)


def test_a_kept_bound_gives_status_0_and_the_file(run):
    status, text = run(KEPT)
    assert status == 0
    assert "## T" in text


def test_a_broken_bound_gives_status_1_and_the_file(run):
    status, text = run(BROKEN)
    assert status == 1
    assert "OUT OF BOUNDS" in text


def test_some_benchmarks_alone_leave_the_file_as_it_is(run):
    assert run(KEPT, "--only", "made-up") == (0, None)


def test_a_quick_run_judges_and_writes_nothing(run):
    assert run(BROKEN, "--quick") == (0, None)


def test_a_full_run_renews_the_page_from_what_it_just_wrote(run, tmp_path):
    _, text = run(KEPT)
    assert (tmp_path / "page").read_text() == text


def test_a_page_alone_measures_nothing(run, tmp_path):
    (tmp_path / "results.md").write_text("recorded")
    assert run(BROKEN, "--only", "made-up page") == (0, "recorded")
    assert (tmp_path / "page").read_text() == "recorded"


def test_a_partial_run_writes_where_it_is_told_to(run, tmp_path):
    run(KEPT, "--only", "made-up", "--to", str(tmp_path / "some.md"))
    assert "## T" in (tmp_path / "some.md").read_text()


def test_some_benchmarks_renew_their_sections_of_a_file(run, tmp_path):
    file = tmp_path / "all.md"
    file.write_text(to_markdown([Section("S", "before"), Section("T", "before", (BROKEN,)), Section("U", "before")]))
    run(KEPT, "--only", "made-up", "--to", str(file))
    assert file.read_text() == to_markdown(
        [Section("S", "before"), Section("T", "about", (KEPT,)), Section("U", "before")]
    )


def test_a_section_that_is_new_comes_last():
    text = renewed(to_markdown([Section("S", "before")]), [Section("T", "now")])
    assert text == to_markdown([Section("S", "before"), Section("T", "now")])


def test_sections_of_another_machine_are_not_mixed():
    with pytest.raises(ValueError, match="is not of"):
        renewed(to_markdown([Section("S", "before")]).replace(machine(), "another"), [])
