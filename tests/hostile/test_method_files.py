"""A method file is the only code of the user's that is run, and only as the plan knew it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dctkd.config import load
from dctkd.engine.build import method_of
from dctkd.errors import InputError
from dctkd.methods import load_method
from dctkd.plan import make_plan
from tests.bad_input.command import assert_refused, write

MINE = """
import torch
from pydantic import Field
from dctkd.methods.base import Method
from dctkd.methods.options import MethodOptions

class Mine(Method):
    class Options(MethodOptions):
        power: float = Field(2.0, gt=0, description="no unit")
    title, paper, year = "mine", "none", None
    features, default_weight, default_weight_source = "logits", 1.0, "none"

    def forward(self, student, teacher, batch):
        return {"difference": batch.mean((student.logits_BK - teacher.logits_BK).square().mean(dim=1))}
"""
MARK = "\nfrom pathlib import Path as _Path\n_Path('executed').write_text('yes')\n"

BROKEN = {
    "empty": ("", "found none"),
    "no python": ("def", "does not run: SyntaxError"),
    "a NUL": ("x = 1\0", "does not run"),
    "no text": (b"\xff\xfe", "does not run"),
    "raises": ("raise RuntimeError('boom')", "does not run: RuntimeError: boom"),
    "exits": ("import sys\nsys.exit(0)", "does not run: SystemExit: 0"),
    "missing import": ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
    "deep": ("(" * 50_000, "does not run"),
    "two": (MINE + "\nclass Other(Mine):\n    pass\n", "exactly one subclass"),
    "imported only": ("from dctkd.methods.kd import KD", "found none"),
    "no title": (MINE.replace("title, paper, year =", "a, b, c ="), "lacks the class attributes title, paper, year"),
    "options of another kind": (MINE.replace("class Options(MethodOptions)", "class Options"), "Mine.Options must be"),
    "options of text": (MINE.replace("    title,", "    Options = 'x'\n    title,"), "Mine.Options must be"),
}


@pytest.mark.parametrize(("source", "words"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("command", ["plan --config tiny.yaml", "methods check mine.py"])
def test_a_method_file_that_cannot_be_used_is_one_line(tiny, tmp_path, monkeypatch, capsys, source, words, command):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    tiny["methods"] = {"mine": {"file": "mine.py"}}
    write(tiny)
    assert_refused(monkeypatch, capsys, command.split(), ["mine.py", words])


@pytest.fixture
def plan(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    tiny["methods"] = {"mine": {"file": "mine.py", "options": {"power": 3}}}
    write(tiny)
    return make_plan(load(Path("tiny.yaml")), config_file="tiny.yaml")


def test_the_file_that_the_plan_was_made_with_is_run(plan):
    assert method_of(plan, plan.runs[0]).__name__ == "Mine"


def test_a_file_that_changed_after_the_plan_is_not_run(plan):
    Path("mine.py").write_text(MINE + MARK)
    with pytest.raises(InputError, match=r"mine\.py: changed since the plan was made, so it is not run"):
        method_of(plan, plan.runs[0])
    assert not Path("executed").exists()


def test_only_the_text_that_was_hashed_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text(MINE + MARK)
    with pytest.raises(InputError, match="changed since the plan was made"):
        load_method(file, sha256="0" * 64)
    assert not Path("executed").exists()


LURES = (
    "torch",
    "dctkd",
    "yaml",
    "timm",
    "numpy",
    "json",
    "sitecustomize",
    "usercustomize",
    "conftest",
    "typer",
    "PIL",
)
COMMANDS = (
    "methods list",
    "plan --config tiny.yaml",
    "status --config tiny.yaml",
    "data check imagefolder --root photographs --to out",
    "compare kd at",
    "report --plan results/tiny/plan.json --to tables --partial",
)


@pytest.mark.parametrize("line", COMMANDS)
def test_no_python_file_that_lies_about_is_imported(tiny, tmp_path, line):
    root = tmp_path / "photographs"
    for folder in (tmp_path, root, root / "train" / "a", root / "test" / "a", tmp_path / "results/tiny"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in LURES:
            (folder / f"{name}.py").write_text(
                "open('/dev/null'); raise SystemExit('imported from the working folder')"
            )
        (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--nonsense'\n")
    tiny["data_root"] = "photographs"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    command = [str(Path(sys.executable).with_name("dctkd")), *line.split()]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert "imported from the working folder" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
