"""Mistakes on the command line, and pipes that close early."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bad_input.command import PLAN, assert_one_line, assert_refused, call, write_plan

DCTKD = str(Path(sys.executable).with_name("dctkd"))
RUN = "results/tiny/shapes/wide__narrow/kd/seed0/metrics.json"

WITHOUT_A_PLAN = {
    "trian": "No such command 'trian'",
    "plan": "Missing option '--config'",
    "plan --confg x": "No such option: --confg",
    "data": "a command is missing",
    "data pack": "Missing argument 'edges'",
    "data fetch imagenet --root r": "choose from ade20k, miniplaces, mit67, sun397",
    "data fetch mit67 --root tiny.yaml": "--root tiny.yaml: cannot be used as a folder",
    "data fetch mit67 --root r --file none": "--file none: expected an official file",
    "data check nosuch --root folder": "unknown format 'nosuch'",
    "data check mit67 --root nowhere": "data root nowhere does not exist",
    "data check synthscenes --root folder": "there is no copy to check; choose",
    "data check mit67 --root .": "lies inside the dataset",
    "data check imagefolder --root folder --option x": "--option x: expected KEY=VALUE",
    "data check imagefolder --root folder --option x=1": "unknown key 'x'",
    "data check imagefolder --root folder --workers 0": "Invalid value for '--workers'",
    "data verify nowhere": "nowhere: no pixel cache there",
    "data verify folder --workers x": "Invalid value for '--workers'",
    "train x": "Missing option '--plan'",
    "train x --plan none.json": "none.json: no such plan; it is written when snakemake starts",
    "train x --plan folder": "folder: cannot be read (Is a directory)",
    "train x --plan tiny.yaml": "tiny.yaml: not a plan of this version",
    "overlap x --plan none.json": "none.json: no such plan",
    "cost x --plan none.json": "none.json: no such plan",
    "cost folder --plan none.json": "target folder: is a folder; give the path of a file",
    "speed tiny.yaml/x --plan none.json": "tiny.yaml is no folder; choose another folder",
    "report --plan none.json --to t": "expected results/<experiment>/plan.json",
    "report --plan folder/plan.json --to t": "folder/plan.json: no such plan",
    "compare a b": "which experiment? Give --experiment NAME",
    "compare kd at --experiment none": "no experiment 'none'",
    "methods check none.py": "none.py: cannot be read",
    "methods check folder": "folder: cannot be read (Is a directory)",
}
WITH_A_PLAN = {
    "train elsewhere/x.json": "expected a path below results/",
    "train results/tiny/x.json": "no run of experiment tiny is published there",
    "train results/../x": "../x: no run of experiment tiny is published there",
    f"train {RUN}": "results/tiny/shapes/data.json: no such file; run snakemake",
    f"train {RUN} results/tiny/shapes/teachers/wide/seed0/teacher.json": "must share dataset, teacher and seed",
    "overlap elsewhere": "expected a path below results/",
    f"overlap {RUN}": "no student of experiment tiny is measured there; did you mean",
    f"overlap {RUN.replace('metrics', 'overlap')}": "metrics.json: no such file; run snakemake",
    "data pack elsewhere": "expected a path below results/",
    "data pack results/tiny/none/data.json": "choose from shapes",
    "data pack results/tiny/shapes/data.json --workers 0": "Invalid value for '--workers'",
    "cost results": "is a folder",
    "cost results/tiny/cost.json": "data.json: no such file; run snakemake",
    "speed results/tiny/speed.json": "data.json: no such file; run snakemake",
    "report --to t": "runs have no published result",
    "report --to tiny.yaml --partial": "--to tiny.yaml: ",
}


@pytest.mark.parametrize(("line", "words"), WITHOUT_A_PLAN.items(), ids=WITHOUT_A_PLAN.keys())
def test_a_mistake_on_the_command_line_is_one_line_and_leaves_nothing(in_folder, monkeypatch, capsys, line, words):
    Path("folder").mkdir()
    assert_refused(monkeypatch, capsys, line.split(), [words])


@pytest.mark.parametrize(("line", "words"), WITH_A_PLAN.items(), ids=WITH_A_PLAN.keys())
def test_a_job_that_cannot_be_is_one_line_and_leaves_nothing(in_folder, monkeypatch, capsys, line, words):
    write_plan()
    assert_refused(monkeypatch, capsys, [*line.split(), "--plan", PLAN], [words])


def test_methods_that_no_experiment_has_are_refused_with_those_it_has(in_folder, monkeypatch, capsys):
    write_plan()
    assert_refused(monkeypatch, capsys, ["compare", "kd", "fitnets"], ["no method 'fitnets'; choose from"])


def test_the_installed_command_ends_with_status_2():
    done = subprocess.run([DCTKD, "plan", "--config", "none.yaml"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: none.yaml: no such file; give the path of an experiment file, such as config/demo.yaml"
    ]


@pytest.mark.parametrize("arguments", [["methods", "list"], ["methods", "list", "--json"]])
def test_a_reader_that_has_seen_enough_causes_no_traceback(arguments):
    reading, writing = os.pipe()
    os.close(reading)  # what `| head` does, but certain to be first
    done = subprocess.run([DCTKD, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode in (1, 141)


def test_a_closed_output_causes_no_traceback():
    command = f'"{DCTKD}" methods list >&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_a_terminal_that_knows_ascii_only_gets_all_lines():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([DCTKD, "methods", "list"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_argument_at_all_shows_help(in_folder, monkeypatch, capsys):
    status, text = call(monkeypatch, capsys)
    assert_one_line(status, text, "a command is missing")
