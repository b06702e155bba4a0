"""Published results are found, and refused where they are broken or belong to something else."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dctkd.errors import InputError
from dctkd.report.collect import collect, gather
from dctkd.report.edges import rerun_command
from dctkd.store import RunFolder


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refuse(made_up, pattern):
    with pytest.raises(InputError, match=pattern) as caught:
        collect(made_up.folder, made_up.store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_complete_experiment_has_every_planned_run_once_in_the_order_of_the_plan(small):
    collected = gather(small.folder, small.store)
    assert [one.planned.path for one in collected.found] == [
        run.path for run in (*small.plan().teachers, *small.plan().runs)
    ]
    assert collected.missing == ()


def test_missing_runs_are_counted_and_named_with_the_command(made_up):
    tree = made_up(absent=frozenset({("kd", 0), ("kd", 1), ("at", 0), ("at", 2)}))
    message = refuse(tree, "4 of 13 runs have no published result")
    assert "madeup/scenes/wide__narrow/kd/seed0/metrics.json" in message
    assert "and 1 more" in message
    assert "`snakemake --cores all --configfile config/madeup.yaml`" in message


def test_plan_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "plan.json"))):
        collect(tmp_path, None)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}'])
def test_file_that_is_not_whole_is_named_with_the_remedy(made_up, content):
    tree = made_up()
    tree.edge("kd", 1).write_text(content)
    message = refuse(tree, "not whole")
    assert str(tree.edge("kd", 1)) in message
    assert "delete it and run `snakemake" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("dataset", "other"), ("teacher", "other"), ("student", "other"), ("method", "at"), ("seed", 2), ("epochs", 99)],
)
def test_run_block_that_contradicts_the_plan_is_refused(made_up, key, value):
    tree = made_up()
    run = json.loads(tree.edge("kd", 1).read_text())["run"]
    change(tree.edge("kd", 1), run={**run, key: value})
    message = refuse(tree, f"run.{key} is {value!r}, the plan says")
    assert str(tree.edge("kd", 1)) in message


def test_teacher_where_a_student_is_expected_is_refused(made_up):
    tree = made_up()
    change(tree.edge("kd", 1), kind="teacher")
    refuse(tree, "kind is teacher, the plan says student")


def test_result_of_another_version_of_the_config_is_refused(made_up):
    tree = made_up()
    change(tree.edge("kd", 1), spec="f" * 64)
    refuse(tree, "made for another version of the config")


def test_other_schema_is_refused(made_up):
    tree = made_up()
    change(tree.teacher_edge(), schema=2)
    refuse(tree, "schema 2, this version reads 1")


def test_value_that_is_not_a_number_is_refused(made_up):
    tree = made_up()
    row = {"metric": "top1_percent", "stage": "last", "split": "test", "value": float("nan"), "unit": "percent"}
    change(tree.edge("kd", 1), results=[row])
    refuse(tree, r"results\.0: .* must be finite")


def test_finished_run_without_results_is_refused(made_up):
    tree = made_up()
    change(tree.edge("kd", 1), results=[])
    refuse(tree, "status ok, but no results")


def test_digest_that_is_no_digest_cannot_lead_out_of_the_store(made_up):
    tree = made_up()
    change(tree.edge("kd", 1), digest="../../etc")
    refuse(tree, "digest")


def test_partial_report_takes_finished_runs_from_the_store(made_up):
    tree = made_up(unpublished=frozenset({("kd", 1), ("teacher", 0)}), absent=frozenset({("at", 0)}))
    collected = gather(tree.folder, tree.store, partial=True)
    assert [run.path for run in collected.missing] == ["madeup/scenes/wide__narrow/at/seed0/metrics.json"]
    found = {(one.planned.method, one.planned.seed) for one in collected.found}
    assert {("kd", 1), (None, 0)} <= found
    rows = collected.frame.query("method == 'kd' and seed == 1 and metric == 'top1_percent'")
    assert set(rows.pair) == {"wide__narrow"}


def test_partial_report_names_a_run_from_the_store_as_the_plan_does(made_up):
    tree = made_up(unpublished=frozenset({("kd", 1)}))
    path = tree.run_folder("kd", 1).path / "metrics.json"
    content = json.loads(path.read_text())
    content["run"]["method"] = "name_in_another_experiment"
    content.pop("checksum")
    RunFolder(path.parent).finish(content)
    frame = collect(tree.folder, tree.store, partial=True)
    assert len(frame.query("method == 'kd' and seed == 1 and metric == 'top5_percent'")) == 1


def test_partial_report_leaves_out_broken_runs_of_the_store_and_logs_them(made_up, caplog):
    tree = made_up(unpublished=frozenset({("kd", 1)}))
    path = tree.run_folder("kd", 1).path / "metrics.json"
    path.write_text(path.read_text()[:200])
    collected = gather(tree.folder, tree.store, partial=True)
    assert [(run.method, run.seed) for run in collected.missing] == [("kd", 1)]
    assert "metrics.json is not whole" in caplog.text


def test_partial_report_leaves_out_results_of_another_config_and_says_so(made_up):
    tree = made_up()
    change(tree.edge("kd", 1), spec="f" * 64)
    (tree.store / json.loads(tree.edge("kd", 1).read_text())["digest"] / "metrics.json").unlink()
    collected = gather(tree.folder, tree.store, partial=True)
    assert [(run.method, run.seed) for run in collected.missing] == [("kd", 1)]
    assert any("1 published results belong to another version" in note for note in collected.notes)


def test_partial_report_shows_the_newest_of_two_finished_folders_and_says_so(made_up):
    tree = made_up(unpublished=frozenset({("kd", 1)}))
    old = tree.run_folder("kd", 1).path / "metrics.json"
    content = json.loads(old.read_text())
    content.pop("checksum")
    newer = RunFolder(tree.store / "0123456789abcdef")
    newer.finish(content)
    os.utime(old, (1, 1))
    collected = gather(tree.folder, tree.store, partial=True)
    digests = {one.metrics.digest for one in collected.found if (one.planned.method, one.planned.seed) == ("kd", 1)}
    assert digests == {newer.digest}
    assert any("more than one finished folder" in note for note in collected.notes)


def test_command_names_the_target_first_and_the_settings_last_without_the_users_folders(small):
    plan = small.plan()
    config = plan.config.model_copy(update={"variant": "cpu", "data_root": Path("/home/somebody/photographs")})
    command = rerun_command(replace(plan, config=config), "results/x/metrics.json")
    assert command == (
        "snakemake results/x/metrics.json --cores all --configfile config/madeup.yaml "
        "--config data_root=PATH variant=cpu"
    )


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("part", "of_version"),
    [
        ("the engine", lambda number: {"engine_results_version": number}),
        ("the data", lambda number: {"data": {"results_version": number}}),
        ("the method kd", lambda number: {"method": {"method": "kd", "results_version": number}}),
    ],
)
def test_runs_of_versions_whose_results_differ_are_not_put_into_one_table(made_up, part, of_version, partial):
    tree = made_up(versions=lambda run: of_version(2 if (run.method, run.seed) == ("kd", 1) else 1))
    with pytest.raises(InputError, match=rf"/kd/seed1/.*versions of {part} .*run `snakemake --cores all --configfile"):
        gather(tree.folder, tree.store, partial=partial)
