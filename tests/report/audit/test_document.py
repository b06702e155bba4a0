"""docs/audit.md says what the published tables say, and is the one that the command writes."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dctkd.cli import app
from dctkd.errors import InputError
from dctkd.report.audit.document import read_audited, read_effects, render
from dctkd.report.audit.findings import FINDINGS

ROOT = Path(__file__).parents[3]
PUBLISHED = [ROOT / "docs/results" / name for name in ("audit-headline", "audit", "audit-miniplaces", "audit-transfer")]


@pytest.fixture(scope="module")
def text():
    found = [read_audited(folder) for folder in PUBLISHED]
    return render(found, ["p1", "p2"], findings=ROOT / FINDINGS, base=ROOT / "docs")


def test_the_published_document_is_what_its_tables_give(text):
    assert (ROOT / "docs/audit.md").read_text() == text


def test_links_of_the_document_lead_to_files_and_headings(text):
    headings = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    anchors = {"".join(c for c in h.lower() if c.isalnum() or c in " -_").replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("http"):
            assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_effect_in_the_document_is_that_of_the_table(text, folder):
    for path in sorted(folder.glob("audit_*.csv")):
        if path.stem in ("audit_weights", "audit_attainability"):
            continue
        for effect in read_effects(path):
            assert (f"{effect.difference.mean:+.2f}" if effect.difference else "".join(effect.failed)) in text


def test_folder_without_an_audit_is_refused(tmp_path):
    with pytest.raises(InputError, match="not the tables of an audit"):
        read_audited(tmp_path)


def test_command_writes_the_document(tmp_path):
    target, folders = tmp_path / "audit.md", [str(folder) for folder in PUBLISHED]
    options = ["--to", str(target), "--findings", str(ROOT / FINDINGS)]
    outcome = CliRunner().invoke(app, ["audit", "document", *folders, *options])
    assert outcome.exit_code == 0, outcome.output
    found = [read_audited(folder) for folder in PUBLISHED]
    assert target.read_text() == render(found, ["p1", "p2"], findings=ROOT / FINDINGS, base=tmp_path)
