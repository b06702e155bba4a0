"""Files of findings: every one is whole, cites lines at a commit, and names tests that are there."""

from pathlib import Path

import pytest
import yaml

from dctkd.config import load
from dctkd.errors import InputError
from dctkd.report.audit.findings import FINDINGS, Finding, read_entries, read_source

ROOT = Path(__file__).parents[3]
SOURCES = ("p1", "p2")
ENTRIES = read_entries(SOURCES, ROOT / FINDINGS)
FOUND = {key: entry for key, entry in ENTRIES.items() if isinstance(entry.content, Finding)}
AUDITS = {
    path.stem: load(path, overrides)
    for path, overrides in (
        (ROOT / "config/audit.yaml", {}),
        (ROOT / "config/audit_miniplaces.yaml", {"data_root": "."}),
    )
}


@pytest.mark.parametrize("key", FOUND)
def test_finding_names_tests_that_are_there_and_are_about_it(key):
    paths = [ROOT / path for path in FOUND[key].content.shown_by]
    assert paths[0].name.startswith(f"test_{key}_")
    assert all("def test_" in path.read_text() for path in paths)


def test_every_test_of_the_audit_belongs_to_a_finding():
    named = {path for entry in FOUND.values() for path in entry.content.shown_by}
    assert {f"tests/audit/{path.name}" for path in (ROOT / "tests/audit").glob("test_*.py")} <= named


@pytest.mark.parametrize("key", FOUND)
def test_finding_is_measured_by_the_audit_or_says_why_not(key):
    contrasts = AUDITS["audit"].audit.contrasts
    assert key in contrasts
    assert bool(contrasts[key]) != bool(FOUND[key].content.not_measured)


@pytest.mark.parametrize("key", FOUND)
def test_evidence_is_a_link_to_lines_at_a_full_commit(key):
    entry = FOUND[key]
    for evidence in entry.content.evidence:
        link = entry.source.link(evidence)
        commit = entry.source.commits[evidence.commit]
        assert link.startswith(f"{commit.repository or entry.source.repository}/blob/{commit.hash}/")
        assert " " not in link
        assert ("#L" in link) == evidence.lines[0].isdigit()


@pytest.mark.parametrize("name", AUDITS)
def test_contrasts_of_an_experiment_are_about_findings_and_questions(name):
    assert AUDITS[name].audit.contrasts.keys() <= ENTRIES.keys()


def test_wording_never_speaks_of_motives():
    for entry in FOUND.values():
        text = " ".join((entry.content.claim, entry.content.consequence, entry.content.unknown)).lower()
        assert not [word for word in ("cheat", "careless", "sloppy", "wrongly", "dishonest", "fake") if word in text]


def a_source(**changes):
    finding = {
        "name": "a_slip",
        "title": "A slip",
        "claim": "It does this.",
        "evidence": [{"commit": "main", "file": "Some Zoo/a.py", "lines": "3-9", "shows": "this"}],
        "consequence": "That follows.",
        "unknown": "Why.",
        "shown_by": ["tests/audit/test_x1_a_slip.py"],
    }
    return {
        "title": "T",
        "paper": "P",
        "repository": "https://github.com/a/b",
        "commits": {"main": {"hash": "0" * 40, "what": "default"}},
        "findings": {"x1": finding | changes},
    }


def test_link_leads_to_the_first_lines_at_the_commit(tmp_path):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(a_source()))
    source = read_source("s", tmp_path)
    evidence = source.findings["x1"].evidence[0]
    assert source.link(evidence) == f"https://github.com/a/b/blob/{'0' * 40}/Some%20Zoo/a.py#L3-L9"
    assert source.cite(evidence) == "Some Zoo/a.py, lines 3-9, commit 0000000 (default)"


def test_one_line_is_called_a_line(tmp_path):
    evidence = [
        {"commit": "main", "file": "a.py", "lines": lines, "shows": "this"} for lines in ("3", "3, 5", "all lines")
    ]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(a_source(evidence=evidence)))
    places = [one.place for one in read_source("s", tmp_path).findings["x1"].evidence]
    assert places == ["a.py, line 3", "a.py, lines 3, 5", "a.py, all lines"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evidence": [{"commit": "dev", "file": "a", "lines": "1", "shows": "b"}]}, "unknown commit 'dev'"),
        ({"evidence": []}, "evidence"),
        ({"evidence": [{"commit": "main", "file": "a", "lines": "", "shows": "b"}]}, "lines"),
        ({"shown_by": []}, "shown_by"),
        ({"motive": "none"}, "motive"),
    ],
)
def test_broken_file_is_refused_with_its_place(tmp_path, changes, message):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(a_source(**changes)))
    with pytest.raises(InputError, match=r"s\.yaml") as caught:
        read_source("s", tmp_path)
    assert message in str(caught.value)


def test_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "p1.yaml").write_text(yaml.safe_dump(a_source()))
    with pytest.raises(InputError, match="p1"):
        read_source("p11", tmp_path)


def test_one_id_in_two_sources_is_refused(tmp_path):
    for name in ("s", "t"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(a_source()))
    with pytest.raises(InputError, match="x1 is also in another source"):
        read_entries(("s", "t"), tmp_path)
