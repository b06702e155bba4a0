"""The command line as a user meets it: its status, its lines, and what it leaves behind."""

import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dctkd import cli
from dctkd.config import load
from dctkd.plan import make_plan

PLAN = "results/tiny/plan.json"


def call(monkeypatch, capsys, *arguments):
    """Run the command line; return its status and what it wrote to standard error."""
    monkeypatch.setattr(sys, "argv", ["dctkd", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code, capsys.readouterr().err


def assert_one_line(status, text, *words):
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert status == 2, text
    assert len(errors) == 1, text
    assert "Traceback" not in text
    assert [word for word in words if word not in errors[0]] == [], errors[0]
    assert errors[0].isprintable()


def snapshot(folder=Path()):
    """Map every file and folder below a folder to what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path(folder).rglob("*")}


def assert_refused(monkeypatch, capsys, arguments, words):
    """Assert that a command ends with one line that holds the words, and leaves the working folder as it was."""
    before = snapshot()
    assert_one_line(*call(monkeypatch, capsys, *arguments), *words)
    assert snapshot() == before


def write(raw):
    Path("tiny.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))


def write_plan():
    plan = make_plan(load(Path("tiny.yaml")), config_file="tiny.yaml")
    Path(PLAN).parent.mkdir(parents=True)
    Path(PLAN).write_text(plan.to_json())
    return plan


def put(raw, path, value):
    """Put a value into nested mappings and lists, at a path with slashes; `...` deletes what is there."""
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    for part in parents:
        raw = raw[part]
    if value is ...:
        del raw[last]
    else:
        raw[last] = value


def files_below(folder):
    return sorted(
        str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file() and path.name != "plan.json"
    )


def write_miniplaces(root):
    """Write fourteen photographs of two classes in the layout of MiniPlaces."""
    lists = {"train": [], "val": []}
    for split, number in (("train", 10), ("val", 4)):
        for index in range(number):
            name = f"{split}/a/abbey/{index:08d}.jpg" if index % 2 else f"{split}/b/bar/{index:08d}.jpg"
            path = root / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.linear_gradient("L").resize((48, 40)).rotate(index).convert("RGB").save(path)
            lists[split].append(f"{name} {0 if index % 2 else 1}")
    for split, lines in lists.items():
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    (root / "categories.txt").write_text("/a/abbey 0\n/b/bar 1\n")
    return root
