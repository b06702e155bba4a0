"""Tables of an audit on made-up trees: a table per finding with claim, evidence, effect and verdict."""

import csv

import pytest
import yaml

from dctkd.report import report_files
from dctkd.report.audit import document
from dctkd.report.audit.findings import read_entries
from dctkd.report.collect import gather
from dctkd.report.layout import Values
from dctkd.report.tables import write_tables
from dctkd.report.tables.attainability import attainability_table
from dctkd.report.tables.audit import audit_tables
from dctkd.report.tables.rendering import DASH

METHODS = ("baseline", "kd", "at", "at-10", "at-100")
WEIGHTS = {"at": 1.0, "at-10": 10.0, "at-100": 100.0}
CONTRASTS = {
    "q1": [{"label": "kd minus baseline", "a": "kd", "b": "baseline"}],
    "x1": [
        {"label": "at, tuned, minus kd", "a": {"row": "at", "weight": "held_out"}, "b": "kd"},
        {"label": "best epoch minus last", "a": {"row": "*", "epoch": "best_on_test"}, "b": "*"},
    ],
    "x2": [],
}
FINDING = {
    "title": "A slip",
    "claim": "At commit main the loss is summed twice.",
    "evidence": [{"commit": "main", "file": "Zoo/a.py", "lines": "3-9, 12", "shows": "the second sum"}],
    "consequence": "The weight is doubled.",
    "unknown": "Which version the paper ran.",
    "shown_by": ["tests/audit/test_x1_a_slip.py"],
}
SOURCE = {
    "title": "Code of a paper",
    "paper": "A. Author: A paper",
    "repository": "https://github.com/a/b",
    "commits": {"main": {"hash": "0123456789" * 4, "what": "default branch"}},
    "questions": {"q1": {"name": "does_it_help", "title": "Does it help?", "text": "Both at their own weight."}},
    "findings": {
        "x1": {"name": "a_slip", **FINDING},
        "x2": {"name": "a_crash", **FINDING, "title": "A crash", "not_measured": "a crash has no accuracy"},
    },
    "percentages": [{"values": "made_up.csv", "metrics": ["Top1"], "num_test_images": {"A": 2000}, "batch_size": 256}],
}
REPORTED = """source,table,dataset,teacher,student,method,metric,value,note
a,main,A,t,s,kd,Top1,40.95,
a,main,A,t,s,at,Top1,58.34,
a,main,A,t,s,at,MCA,58.34,
"""


@pytest.fixture
def audited(made_up, monkeypatch, tmp_path):
    """Write a results tree with an audit, its findings and published numbers, and work beside them."""
    for folder in ("findings", "reported"):
        (tmp_path / "paper_tables" / folder).mkdir(parents=True)
    (tmp_path / "paper_tables/findings/s.yaml").write_text(yaml.safe_dump(SOURCE, sort_keys=False))
    (tmp_path / "paper_tables/reported/made_up.csv").write_text(REPORTED)
    monkeypatch.chdir(tmp_path)
    return made_up(methods=METHODS, weights=WEIGHTS, audit={"sources": ["s"], "contrasts": CONTRASTS})


@pytest.fixture
def tables(audited):
    collected = gather(audited.folder, audited.store)
    return audit_tables(collected, Values(collected.frame))


def cells(table):
    return {row.name: dict(zip((c.key for c in table.columns), row.cells, strict=True)) for row in table.rows}


def test_every_finding_has_a_table_that_the_plan_announces(audited, tables):
    assert list(tables) == [
        "audit",
        "audit_q1_does_it_help",
        "audit_x1_a_slip",
        "audit_x2_a_crash",
        "audit_weights",
        "audit_attainability",
    ]
    announced = {name.removesuffix(".csv") for name in report_files(audited.plan()) if name.endswith(".csv")}
    assert tables.keys() <= announced


def test_table_of_a_finding_says_claim_evidence_effect_and_verdict(tables):
    (table,) = tables["audit_x1_a_slip"]
    notes = "\n".join(table.notes)
    assert "At commit main the loss is summed twice." in notes
    assert "Zoo/a.py, lines 3-9, 12, commit 0123456 (default branch): the second sum" in notes
    assert "Not known: Which version the paper ran." in notes
    assert "Verdict: No effect is shown: at, tuned, minus kd: " in notes
    row = cells(table)["at, tuned, minus kd"]
    assert row["chosen_rows"].text in ("at / ", "at-10 / ", "at-100 / ")
    assert row["largest_points"].text == DASH
    assert cells(table)["best epoch minus last (5)"]["a_minus_b_points"].value == pytest.approx(5)
    assert len(cells(table)["best epoch minus last (5)"]["a_minus_b_points"].runs) == 15


def test_notes_say_that_images_were_held_out(tables):
    (table,) = tables["audit"]
    assert "Held out: 0.25 of each class's training images, which no network is trained on." in table.notes


def test_finding_that_no_run_measures_says_why(tables):
    (table,) = tables["audit_x2_a_crash"]
    assert "Verdict: Not measured by training: a crash has no accuracy." in table.notes
    assert [row.name for row in table.rows] == ["not measured"]


def test_summary_has_a_line_and_a_verdict_for_each(tables):
    (table,) = tables["audit"]
    found = cells(table)
    assert list(found) == ["q1", "x1", "x2"]
    assert found["q1"]["finding"].text == "Does it help?"
    assert found["x2"]["verdict"].text.startswith("Not measured by training")
    assert found["x1"]["num_shown"].text.endswith("of 2")


def test_weights_are_chosen_by_held_out_images(made_up, audited, tables):
    (table,) = tables["audit_weights"]
    row = cells(table)["at"]
    assert row["weights"].text == "1, 10, 100"
    assert row["held_out_weight"].value in (1.0, 10.0, 100.0)
    assert row["own_weight"].text == DASH  # every row of this sweep sets a weight


def test_impossible_percentages_are_counted_and_listed(tables):
    (table,) = tables["audit_attainability"]
    row = cells(table)["made_up.csv: main, A"]
    assert row["num_values"].value == 2
    assert (row["num_impossible"].value, row["impossible"].text) == (1, "58.34")
    assert row["num_impossible_by_meter"].value == 0
    assert row["possible_by_chance"].text == "0.4 of 2"


def test_document_says_what_the_written_tables_say(audited, tables, tmp_path):
    write_tables({name: made for name, made in tables.items()}, audited.target)
    (audited.target / "runs.json").write_text(
        '{"experiment": "madeup", "title": "t", "command": "snakemake", "runs": [1, 2]}'
    )
    audit = document.read_audited(audited.target)
    entry = read_entries(("s",))["x1"]
    read = audit.effects(entry)
    with (audited.target / "audit_x1_a_slip.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["column"] == "a_minus_b_points"]
    assert [effect.difference.mean for effect in read] == [float(line["value"]) for line in lines]
    text = document.render([audit], ["s"], findings=tmp_path / "paper_tables/findings", base=tmp_path / "docs")
    assert "### X1. A slip" in text
    assert "[Zoo/a.py, lines 3-9, 12](https://github.com/a/b/blob/" in text
    assert "Not measured by training: a crash has no accuracy." in text
    assert "| best epoch minus last (5) |" in text
    assert "58.34" in text


def test_side_of_which_every_run_diverged_is_told_and_read_back(made_up, audited, tmp_path):
    failures = {("kd", seed): "diverged" for seed in range(3)}
    tree = made_up(
        experiment="again",
        methods=METHODS,
        weights=WEIGHTS,
        audit={"sources": ["s"], "contrasts": CONTRASTS},
        failures=failures,
    )
    collected = gather(tree.folder, tree.store)
    made = audit_tables(collected, Values(collected.frame))
    (table,) = made["audit_q1_does_it_help"]
    assert "Verdict: No comparison is possible: kd minus baseline: of a 3 diverged." in table.notes
    assert cells(table)["kd minus baseline"]["a_percent"].text == "3 div."
    write_tables(made, tree.target)
    (read,) = document.read_effects(tree.target / "audit_q1_does_it_help.csv")
    assert read.failed == ("3 div.", "")


def test_test_set_of_unknown_size_is_refused(tmp_path, audited):
    from dctkd.errors import InputError

    broken = {**SOURCE, "percentages": [{**SOURCE["percentages"][0], "num_test_images": {"B": 10}}]}
    (tmp_path / "paper_tables/findings/s.yaml").write_text(yaml.safe_dump(broken))
    with pytest.raises(InputError, match="num_test_images"):
        attainability_table(["s"])
