"""Damaged, old and foreign files below results/: one line that names the file and says how it is renewed."""

import json
from pathlib import Path

import pytest

from tests.bad_input.command import PLAN, assert_refused, write_plan

FOLDER = Path("results/tiny/shapes")
RUN = FOLDER / "wide__narrow/kd/seed0/metrics.json"
DATA = FOLDER / "data.json"
TEACHER = FOLDER / "teachers/wide/seed0/teacher.json"
WHOLE_DATA = {"fingerprint": "a1", "cache": "cache/x", "num_classes": 8, "num_train_images": 9, "num_test_images": 9}
WHOLE_RUN = {"status": "ok", "digest": "0123456789abcdef"}


def _with_run(change):
    return lambda plan: change(plan["runs"][1])


PLANS = {
    "empty": lambda plan: "",
    "half": lambda plan: json.dumps(plan)[:1000],
    "a list": lambda plan: "[1]",
    "null": lambda plan: "null",
    "no text": lambda plan: b"\xff\xfe\x00",
    "deep": lambda plan: "[" * 100_000,
    "no runs": lambda plan: plan.pop("runs"),
    "runs of text": lambda plan: plan.update(runs="x"),
    "runs of lists": lambda plan: plan.update(runs=[[1]]),
    "no config": lambda plan: plan.update(config={}),
    "no teachers": lambda plan: plan.update(teachers=[]),
    "packs of numbers": lambda plan: plan.update(packs=[1]),
    "another key": _with_run(lambda run: run.update(x=1)),
    "no identity": _with_run(lambda run: run.update(identity={})),
    "another spec": _with_run(lambda run: run.update(spec="0")),
    "a path outside": _with_run(lambda run: run.update(path="../../x")),
    "a seed of text": _with_run(lambda run: run.update(seed="0")),
    "a changed recipe": _with_run(lambda run: run["identity"]["recipe"].update(epochs=99)),
    "an older version": _with_run(lambda run: run["identity"].pop("engine_results_version")),
}


@pytest.mark.parametrize("damage", PLANS.values(), ids=PLANS.keys())
def test_a_damaged_plan_is_refused_and_nothing_is_trained(in_folder, monkeypatch, capsys, damage):
    plan = json.loads(write_plan().to_json())
    text = damage(plan)
    content = text if isinstance(text, (str, bytes)) and "runs" in plan else json.dumps(plan)
    Path(PLAN).write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["results/tiny/plan.json: not a plan of this version", "run snakemake again"]
    assert_refused(monkeypatch, capsys, ["train", str(RUN), "--plan", PLAN], words)


EDGES = {
    "data: a list": (DATA, "[]", "expected a JSON object"),
    "data: half": (DATA, "{", "not whole"),
    "data: empty": (DATA, "{}", "not whole (fingerprint is None)"),
    "data: deep": (DATA, "[" * 100_000, "not whole"),
    "data: no number": (DATA, {**WHOLE_DATA, "num_classes": "many"}, "not whole (num_classes is 'many')"),
    "data: cache outside": (DATA, {**WHOLE_DATA, "cache": "cache/../../../etc"}, "not whole (cache is"),
    "teacher: empty": (TEACHER, "{}", "not whole (status is None)"),
    "teacher: failed": (TEACHER, {**WHOLE_RUN, "status": "diverged"}, "the teacher's status is diverged"),
    "teacher: no digest": (TEACHER, {"status": "ok"}, "not whole (digest is None)"),
    "teacher: digest outside": (TEACHER, {"status": "ok", "digest": "../../../etc"}, "not whole (digest is"),
}


@pytest.mark.parametrize(("path", "content", "words"), EDGES.values(), ids=EDGES.keys())
def test_a_damaged_edge_is_refused_with_its_path(in_folder, monkeypatch, capsys, path, content, words):
    write_plan()
    for edge, whole in ((DATA, WHOLE_DATA), (TEACHER, WHOLE_RUN)):
        edge.parent.mkdir(parents=True, exist_ok=True)
        edge.write_text(json.dumps(whole))
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert_refused(monkeypatch, capsys, ["train", str(RUN), "--plan", PLAN], [f"{path}: ", words])


@pytest.mark.parametrize("command", [["cost", "results/tiny/cost.json"], ["speed", "results/tiny/speed.json"]])
def test_costs_of_a_damaged_dataset_are_refused(in_folder, monkeypatch, capsys, command):
    write_plan()
    DATA.parent.mkdir(parents=True)
    DATA.write_text("{}")
    assert_refused(monkeypatch, capsys, [*command, "--plan", PLAN], [f"{DATA}: not whole"])


METRICS = {
    "{": "not whole",
    "[]": "not whole",
    "{}": "not whole",
    '{"schema": 1, "status": "ok"}': "not whole",
    "[" * 100_000: "not whole",
    "\x00": "not whole",
}


@pytest.mark.parametrize(("content", "words"), METRICS.items(), ids=[key[:20].strip("\0") for key in METRICS])
def test_damaged_metrics_are_refused_by_the_report(in_folder, monkeypatch, capsys, content, words):
    write_plan()
    TEACHER.parent.mkdir(parents=True)
    TEACHER.write_text(content)
    arguments = ["report", "--plan", PLAN, "--to", "tables", "--partial"]
    assert_refused(monkeypatch, capsys, arguments, [f"{TEACHER}: {words}", "delete it and run"])


def test_metrics_without_a_digest_are_refused_by_the_overlap(in_folder, monkeypatch, capsys):
    write_plan()
    RUN.parent.mkdir(parents=True)
    RUN.write_text(json.dumps({"status": "ok"}))
    arguments = ["overlap", str(RUN.with_name("overlap.json")), "--plan", PLAN]
    assert_refused(monkeypatch, capsys, arguments, [f"{RUN}: not whole (digest is None)"])


def test_cost_that_is_no_object_is_refused_by_the_report(in_folder, monkeypatch, capsys):
    write_plan()
    Path("results/tiny/cost.json").write_text("[1]")
    arguments = ["report", "--plan", PLAN, "--to", "tables", "--partial"]
    assert_refused(monkeypatch, capsys, arguments, ["results/tiny/cost.json: expected a JSON object"])
