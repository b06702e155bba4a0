"""Names that mean something to a shell, a page or a table go through the whole workflow and mean nothing on the way."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dctkd.data import formats
from dctkd.data.cache import PixelCache
from dctkd.data.check import Request, check
from dctkd.data.check.report import to_json, to_markdown
from dctkd.data.prepare import prepare
from dctkd.plan_file import read_plan
from dctkd.report.edges import rerun_command
from tests.data.trees import save_photograph
from tests.hostile.names import CLASSES, write_hostile_images

REPOSITORY = Path(__file__).parents[2]
WORKING_FOLDER = "wd $(touch pwned) ; 'q' \"d\" `touch pwned` %d {x}"
DATA = "photographs $(touch pwned) {x}"
CONFIG = "tiny $(touch pwned) ;'q.yaml"
TITLE = "<script>alert(1)</script> $(touch pwned) | \\input{x}"


def pwned(folder):
    """List files of the name that every payload would make."""
    return [path for path in Path(folder).rglob("*") if path.name == "pwned"]


def test_hostile_names_are_packed_as_they_are(tmp_path):
    root = write_hostile_images(tmp_path / DATA)
    cache = prepare("imagefolder", {}, root, 36, "fail", tmp_path / "cache", 1)
    assert cache.classes == tuple(sorted(CLASSES))
    assert PixelCache.open(tmp_path / "cache").num_images("train") == 2 * len(CLASSES)
    assert pwned(tmp_path) == []


def test_a_check_shows_hostile_names_as_text(tmp_path):
    root = write_hostile_images(tmp_path / DATA)
    result = check(Request("imagefolder", root))
    text = to_markdown(result)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) >= 3 for line in tables)
    assert "<img" not in re.sub(r"`[^`]*`", "", text)
    assert json.loads(to_json(result))["classes"]


def _run_snakemake(folder, *arguments):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--cores", "2"]
    command += ["--workflow-profile", REPOSITORY / "profiles/default", *arguments, "--configfile", CONFIG]
    environment = {**os.environ, "PATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_whole_experiment_with_hostile_names_everywhere_runs_nothing_of_them(tiny, tmp_path):
    folder = tmp_path / WORKING_FOLDER
    folder.mkdir()
    write_hostile_images(folder / DATA)
    tiny["datasets"] = {"scenes": {"format": "imagefolder", "input": {"short_side": 36, "crop": 32}}}
    tiny |= {"data_root": DATA, "title": TITLE, "methods": {"baseline": None, "at": None}}
    tiny["recipes"]["short"]["epochs"] = 1
    (folder / CONFIG).write_text(yaml.safe_dump(tiny))
    done = _run_snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert pwned(tmp_path) == []
    tables = folder / "paper_tables/tiny"
    page = (tables / "index.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "<script>" not in (tables / "accuracy.md").read_text()
    names = {row["row"] for path in tables.glob("*.csv") for row in csv.DictReader(path.read_text().splitlines())}
    assert [name for name in names if name[:1] in "=+-@\t\r"] == []
    command = json.loads((tables / "runs.json").read_text())["command"]
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], cwd=folder, capture_output=True, text=True)
    assert CONFIG in words.stdout.splitlines()
    assert rerun_command(read_plan(folder / "results/tiny/plan.json")) == command
    assert pwned(tmp_path) == []


LINKS = {
    "imagefolder": "train/a/{}.jpg",
    "miniplaces": "images/train/a/abbey/{}.jpg",
    "mit67": "Images/bar/{}.jpg",
}


@pytest.fixture
def outside(tmp_path):
    return [save_photograph(tmp_path / "elsewhere" / f"{number}.jpg", number) for number in range(3)]


def _link_tree(name, root, outside):
    """Make a dataset whose photographs are all links to files outside of it."""
    lists = {
        "imagefolder": {},
        "miniplaces": {"train.txt": "train/a/abbey/0.jpg 0\n", "categories.txt": "/a/abbey 0\n"},
        "mit67": {"TrainImages.txt": "bar/0.jpg\n", "TestImages.txt": "bar/1.jpg\n"},
    }[name]
    for file, text in lists.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    places = [LINKS[name].format(number) for number in range(2)]
    if name != "mit67":
        places[1] = {"imagefolder": "test/a/1.jpg", "miniplaces": "images/val/a/1.jpg"}[name]
    if name == "miniplaces":
        (root / "val.txt").write_text("val/a/1.jpg 0\n")
    for place, target in zip(places, outside, strict=False):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(target)
    return root


@pytest.mark.parametrize("name", LINKS)
def test_links_to_photographs_outside_the_root_are_followed(tmp_path, outside, name):
    root = _link_tree(name, tmp_path / "links", outside)
    manifest = formats.get(name).read_manifest(root, formats.parse_options(name, {}))
    assert [entry.split for entry in manifest.entries] == ["train", "test"]


def test_a_class_folder_may_be_a_link_but_links_within_it_to_folders_are_left_out(tmp_path, outside):
    root = _link_tree("imagefolder", tmp_path / "links", outside)
    (root / "train" / "b").symlink_to(outside[0].parent)
    (root / "train" / "a" / "around").symlink_to(root)  # would never end
    manifest = formats.get("imagefolder").read_manifest(root, formats.parse_options("imagefolder", {}))
    assert sorted(entry.path for entry in manifest.split("train")) == [
        "train/a/0.jpg",
        "train/b/0.jpg",
        "train/b/1.jpg",
        "train/b/2.jpg",
    ]


def test_a_link_to_nothing_is_a_file_that_does_not_decode(tmp_path, outside):
    from dctkd.errors import InputError

    root = _link_tree("imagefolder", tmp_path / "links", outside)
    (root / "train" / "a" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match=r"train/a/2\.jpg"):
        prepare("imagefolder", {}, root, 36, "fail", tmp_path / "cache", 1)
