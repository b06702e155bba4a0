"""`dctkd store list|verify|gc|export|import` as a user calls them, over stores that hold something to find."""

import json
import os
import shutil
import time

import pytest
from typer.testing import CliRunner

from dctkd import report
from dctkd.errors import InputError
from dctkd.store.published import RUNS_FILE, TABLES
from dctkd.store.removal import find_garbage
from dctkd.store.seal import json_text
from dctkd.store_commands import store_app

DAY_S = 24 * 3600


@pytest.fixture(scope="module")
def trained(make_shared_experiment):
    """Two students and their teacher, trained; no test changes it."""
    experiment = make_shared_experiment("commands", methods={"baseline": None, "kd": None}).prepare().train()
    (experiment.results / "tiny" / "plan.json").write_text(experiment.plan.to_json())
    return experiment


@pytest.fixture
def ours(trained, tmp_path, monkeypatch):
    """A copy of it, and the working folder in it."""
    shutil.copytree(trained.folder, tmp_path / "ours", symlinks=True)
    monkeypatch.chdir(tmp_path / "ours")
    return type(trained)(tmp_path / "ours", trained.raw)


def call(*arguments, status=0):
    done = CliRunner().invoke(store_app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


def garbage_of(experiment):
    garbage, _ = find_garbage(experiment.results)
    return {str(one.path.relative_to(experiment.results)).removeprefix("store/"): one.why for one in garbage}


def forget(experiment, method):
    """Remove whatever names a run: its edge, and its row in the plan."""
    folder = experiment.store.folder(experiment.store_folder(method).name)
    for path in (experiment.results / "tiny").rglob(f"{method}/seed0/metrics.json"):
        path.unlink()
    plan = json.loads((experiment.results / "tiny" / "plan.json").read_text())
    plan["runs"] = [run for run in plan["runs"] if run["method"] != method]
    (experiment.results / "tiny" / "plan.json").write_text(json.dumps(plan))
    return folder


def test_every_run_has_a_row_with_its_names_and_the_totals_are_told(ours):
    rows = json.loads(call("list", "--json"))
    assert {(row["method"], row["pair"], row["seed"], row["status"]) for row in rows} == {
        ("teacher", "wide", 0, "ok"),
        ("baseline", "wide__narrow", 0, "ok"),
        ("kd", "wide__narrow", 0, "ok"),
    }
    assert all(row["experiments"] == ["tiny"] and row["bytes"] > 1000 and row["platform"] for row in rows)
    text = call("list")
    assert "3 runs, " in text
    assert ours.teacher_digest[:12] in text


def test_a_damaged_run_is_listed_as_such_and_an_empty_store_has_no_rows(ours, tmp_path, monkeypatch):
    path = ours.store_folder("kd") / "metrics.json"
    path.write_bytes(path.read_bytes()[:50])
    assert "damaged" in {row["status"] for row in json.loads(call("list", "--json"))}
    monkeypatch.chdir(tmp_path)
    assert call("list") == "0 runs, 0 B\n"


def test_verify_tells_each_damaged_thing_in_a_line_and_mending_removes_it_with_its_edges(ours):
    assert "3 runs, 0 measured, 4 published files: 0 damaged" in call("verify")
    folder, edge = ours.store_folder("kd"), next((ours.results / "tiny").rglob("kd/seed0/metrics.json"))
    tables = ours.folder / TABLES / "tiny"
    tables.mkdir(parents=True)
    (tables / RUNS_FILE).write_text("{}")
    (folder / "history.jsonl").write_text("")
    text = call("verify", status=2)
    assert [line.partition(":")[0] for line in text.splitlines()[:-1]] == [str(folder.relative_to(ours.folder))]
    assert "`dctkd store verify --mend` removes it" in text
    assert "run snakemake again" in call("verify", "--mend")
    assert {path.name for path in folder.iterdir()} <= {"lock"}
    assert not edge.exists()
    assert not (tables / report.RUNS_FILE).exists(), "snakemake misses an edge only if a table is missing"
    assert "0 damaged" in call("verify")


def test_verify_looks_only_at_what_is_asked_for(ours):
    kd, baseline = (ours.store_folder(method) for method in ("kd", "baseline"))
    (kd / "history.jsonl").write_text("")
    assert "1 runs, 0 measured, 1 published files: 0 damaged" in call("verify", baseline.name[:8])
    call("verify", kd.name, status=2)
    call("verify", "--experiment", "tiny", status=2)
    done = CliRunner().invoke(store_app, ["verify", "--experiment", "tinny"])
    assert isinstance(done.exception, InputError)
    assert "no experiment 'tinny'" in str(done.exception)
    assert isinstance(CliRunner().invoke(store_app, ["verify", "xyz"]).exception, InputError)


def test_what_is_in_use_is_left_and_the_status_says_so(ours):
    folder = ours.store.folder(ours.store_folder("kd").name)
    (folder.path / "history.jsonl").write_text("")
    outside = ours.folder / "elsewhere"
    folder.path.rename(outside)
    folder.path.symlink_to(outside)
    assert "a link to elsewhere" in call("verify", "--mend", status=2)
    assert (outside / "metrics.json").is_file()


def test_nothing_that_an_experiment_names_is_garbage(ours):
    assert garbage_of(ours) == {}
    assert call("gc") == "0 B can be freed: say --delete\n"


def test_a_run_that_no_edge_and_no_plan_names_is_freed_but_not_before_one_says_so(ours):
    folder = forget(ours, "kd")
    assert garbage_of(ours) == {folder.digest: "no experiment names this run"}
    call("gc")
    assert folder.is_finished()
    assert "freed" in call("gc", "--delete")
    assert not folder.path.exists()
    assert len(list(ours.store.folders())) == 2


def test_a_run_is_needed_as_long_as_its_plan_or_its_edge_or_a_student_names_it(ours):
    edge = next((ours.results / "tiny").rglob("kd/seed0/metrics.json"))
    edge.rename(ours.folder / "kept")
    assert garbage_of(ours) == {}, "the plan names it"
    (ours.folder / "kept").rename(edge)
    (ours.results / "tiny" / "plan.json").unlink()
    assert garbage_of(ours) == {}, "its edge names it"
    next((ours.results / "tiny").rglob("teacher.json")).unlink()
    assert garbage_of(ours) == {}, "its students name it"


def test_checkpoints_leftovers_and_former_measurements_are_garbage(ours):
    folder = ours.store_folder("kd")
    (folder / "checkpoint.pt").write_bytes(b"x")
    (folder / "eval" / "overlap-0").mkdir(parents=True)
    for name in (".log.txt.a.part", ".log.txt.b.part"):
        (folder / name).write_bytes(b"x")
    yesterday_s = time.time() - DAY_S - 60
    published = ours.results / "tiny" / ".plan.json.c.part"
    published.write_bytes(b"x")
    for path in (folder / ".log.txt.a.part", published):
        os.utime(path, (yesterday_s, yesterday_s))
    assert garbage_of(ours) == {
        "tiny/.plan.json.c.part": "what a killed process was writing",
        f"{folder.name}/checkpoint.pt": "checkpoint of a finished run",
        f"{folder.name}/eval/overlap-0": "measurements of a former version",
        f"{folder.name}/.log.txt.a.part": "what a killed process was writing",
    }
    call("gc", "--delete")
    assert garbage_of(ours) == {}
    assert "0 damaged" in call("verify")


def test_garbage_that_is_locked_or_a_link_is_left_alone(ours):
    folder = forget(ours, "kd")
    with folder.claim():
        garbage, left_alone = find_garbage(ours.results)
        assert (garbage, len(left_alone)) == ([], 1)
        call("gc", "--delete")
    outside = ours.folder / "elsewhere"
    folder.path.rename(outside)
    folder.path.symlink_to(outside)
    assert "is a link to elsewhere; left alone" in call("gc", "--delete")
    assert (outside / "metrics.json").is_file()


@pytest.mark.parametrize("name", ["plan.json", "shapes/data.json", "shapes/wide__narrow/kd/seed0/metrics.json"])
def test_nothing_is_freed_while_an_experiment_does_not_tell_what_it_needs(ours, name):
    path = ours.results / "tiny" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not "):
        find_garbage(ours.results)


def test_runs_are_exported_and_imported_by_command(ours, tmp_path, monkeypatch):
    archive = tmp_path / "runs.tar.gz"
    assert "3 runs, " in call("export", archive, "--experiment", "tiny")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert "3 runs added, 0 were here, 0 refused" in call("import", archive)
    assert "0 runs added, 3 were here, 0 refused" in call("import", archive)
    assert "3 runs, 0 measured, 0 published files: 0 damaged" in call("verify")
    folder = ours.store.folder(ours.store_folder("kd").name)
    metrics = folder.metrics()
    metrics["results"][0]["value"] += 1
    folder.finish(metrics)
    monkeypatch.chdir(ours.folder)
    text = call("import", archive, status=2)
    assert f"{folder.digest}: refused: it is here with other results; what is here is kept" in text


def test_a_data_json_is_compared_with_its_cache_in_what_it_says(ours):
    path = ours.results / "tiny" / "shapes" / "data.json"
    content = json.loads(path.read_text())
    path.write_text(json_text({key: value for key, value in content.items() if key != "classes"}))
    assert "0 damaged" in call("verify"), "a former version did not write the names of the classes"
    path.write_text(json_text({**content, "num_classes": 3}))
    assert "data.json: is not what the pixel cache says" in call("verify", status=2)
