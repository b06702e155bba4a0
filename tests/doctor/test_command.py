"""`dctkd doctor` as a user calls it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dctkd.cli import main
from dctkd.doctor import examine as examining
from dctkd.doctor import experiment
from dctkd.doctor.finding import Finding

REPOSITORY = Path(__file__).parents[2]


def call(folder, *arguments, **variables):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python_path = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), str(REPOSITORY)]))
    environment = {**os.environ, "PATH": path, "PYTHONPATH": python_path, **variables}
    code = "from dctkd.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, "doctor", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def snapshot(folder):
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")
    }


def records_of(done):
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def work(tmp_path):
    """A working folder with a bit of everything in it."""
    folder = tmp_path / "work"
    for name in (".snakemake/locks/0.input.lock", "results/store/a/state.json", "results/x/.y.part"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("{}")
    (folder / "results/x/plan.json").write_text("{")
    return folder


def test_a_dead_snakemakes_lock_is_status_2_and_nothing_is_written(work, tiny):
    (work / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    temporary = work.parent / "temporary"
    temporary.mkdir()
    before = snapshot(work)
    done = call(work, "--config", "tiny.yaml", "--json", TMPDIR=str(temporary), HOME=str(work))
    records = records_of(done)
    assert done.returncode == 2
    assert {"problem"} == {record["state"] for record in records if record["check"] == "Snakemake's lock"}
    assert snapshot(work) == before
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("state", "status"), [("ok", 0), ("note", 0), ("warning", 0), ("problem", 2)])
def test_only_a_problem_is_status_2(monkeypatch, capsys, state, status):
    found = {"environment": [Finding("x", "ok", ""), Finding("y", state, "broken")]}
    monkeypatch.setattr(examining, "examine", lambda _: found)
    monkeypatch.setattr(sys, "argv", ["dctkd", "doctor"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert "broken" in capsys.readouterr().out


def test_it_is_quick_without_an_experiment(tmp_path):
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    call(tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # 0.75 s on 2 cores of an AMD EPYC, where importing timm takes 4.6 s.
    assert after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime < 2.5


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("torch", ["--config", "tiny.yaml"]), ("numpy", ["--config", "tiny.yaml"]), ("psutil", []), ("packaging", [])],
)
def test_a_library_that_cannot_be_imported_ends_nothing(tmp_path, tiny, module, arguments):
    (tmp_path / "broken").mkdir()
    (tmp_path / f"broken/{module}.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    done = call(tmp_path, *arguments, "--json", PYTHONPATH=str(tmp_path / "broken"))
    texts = " ".join(record["text"] for record in records_of(done))
    assert "libgomp.so.1" in texts
    assert done.returncode in (0, 2)


@pytest.mark.parametrize("module", ["typer", "pydantic", "yaml", "rich"])
def test_without_the_libraries_of_the_command_line_the_module_still_tells(tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    command = [sys.executable, "-P", "-m", "dctkd.doctor"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert {"environment", "compute", "disk and memory"} <= {record["group"] for record in records_of(done)}


def test_an_experiment_that_does_not_hold_is_status_2(tmp_path):
    done = call(tmp_path, "--config", "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml: no such file" in " ".join(done.stdout.split())


def test_a_value_that_is_set_is_heeded(tmp_path, tiny, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "ask_networks", lambda _: {"error": "not asked"})
    monkeypatch.setattr(sys, "argv", ["dctkd", "doctor", "--config", "tiny.yaml", "--set", "seeds=[0, 1]", "--json"])
    with pytest.raises(SystemExit):
        main()
    records = json.loads(capsys.readouterr().out)
    assert [record["text"] for record in records if record["check"] == "config"] == ["tiny: 6 student runs, 1 teacher"]
