"""What can be wrong with a copy of a dataset, format by format: packing refuses it in one line and leaves no cache."""

import os
import shutil

import pytest

from tests.bad_input.command import PLAN, assert_one_line, call, files_below, write, write_plan
from tests.data import trees

FORMATS = {
    "ade20k": trees.make_ade20k,
    "mit67": trees.make_mit67,
    "sun397": trees.make_sun397,
}


def _imagefolder(root):
    for split, number in (("train", 4), ("test", 2)):
        for index in range(number):
            trees.save_photograph(root / split / f"class {index % 2}" / f"{index}.jpg", index)
    return root


def _append(name, line):
    def append(root):
        path = next(root.rglob(name))
        path.write_text(f"{path.read_text()}{line}\n")

    return append


def _write(name, content):
    return lambda root: next(root.rglob(name)).write_bytes(content)


def _remove(name):
    return lambda root: next(root.rglob(name)).unlink()


def _spoil_first_image(root):
    next(path for path in sorted(root.rglob("*.jpg")) if "train" in path.as_posix().lower()).write_bytes(b"no image")


DAMAGES = [
    ("imagefolder", lambda root: shutil.rmtree(root / "train"), ["the folder train"]),
    ("imagefolder", lambda root: shutil.rmtree(root / "test"), ["no test images"]),
    ("imagefolder", lambda root: shutil.copytree(root / "test", root / "val"), ["choose one by options.test_folder"]),
    ("imagefolder", lambda root: [shutil.rmtree(p) for p in (root / "train").iterdir()], ["no training image"]),
    ("imagefolder", lambda root: (root / "train").rename(root / "Train"), ["the folder train"]),
    ("imagefolder", _spoil_first_image, ["it is no image of a known format", "on_problem: drop"]),
    ("ade20k", _remove("sceneCategories.txt"), ["the list sceneCategories.txt"]),
    ("ade20k", _append("sceneCategories.txt", "ADE_train_1 x"), ["expected a line 'ADE_", "mend the list"]),
    ("ade20k", _append("sceneCategories.txt", "ADE_train_99999999 misc"), ["1 missing", "does not exist"]),
    ("ade20k", _write("sceneCategories.txt", b"\xff\xfe"), ["sceneCategories.txt: cannot be read as UTF-8 text"]),
    ("ade20k", _write("sceneCategories.txt", b""), ["no usable train image"]),
    ("mit67", _remove("TrainImages.txt"), ["the list TrainImages.txt"]),
    ("mit67", _append("TrainImages.txt", "noslash.jpg"), ["expected a line '<class>/<file>.jpg'", "mend the list"]),
    ("mit67", _append("TestImages.txt", "../x/y.jpg"), ["may leave the dataset's folder"]),
    ("mit67", _append("TestImages.txt", "/etc/passwd"), ["may leave the dataset's folder"]),
    ("mit67", _append("TestImages.txt", "children_room/\x07.jpg"), [r"\x07", "1 missing"]),
    ("sun397", _remove("ClassName.txt"), ["the list ClassName.txt"]),
    ("sun397", _append("ClassName.txt", "/a/abbey"), ["is listed twice; mend the list"]),
    ("sun397", _append("Training_01.txt", "/q/quarry/x.jpg"), ["which ClassName.txt does not list"]),
    ("sun397", _append("Training_01.txt", "//etc/passwd"), ["may leave the dataset's folder"]),
    ("sun397", _write("Testing_01.txt", b"\x00\n"), ["may leave the dataset's folder"]),
]


@pytest.mark.parametrize(("name", "damage", "words"), DAMAGES, ids=[f"{n} {w[0][:30]}" for n, _, w in DAMAGES])
def test_a_copy_that_cannot_be_used_is_refused(tiny, tmp_path, monkeypatch, capsys, name, damage, words):
    monkeypatch.chdir(tmp_path)
    root = FORMATS.get(name, _imagefolder)(tmp_path / "photographs")
    tiny["datasets"] = {"scenes": {"format": name, "input": {"short_side": 36, "crop": 32}}}
    tiny["data_root"] = str(root)
    write(tiny)
    write_plan()
    damage(root)
    status = call(monkeypatch, capsys, "data", "pack", "results/tiny/scenes/data.json", "--plan", PLAN)
    assert_one_line(*status, *words)
    assert [left for left in files_below("results") if not left.endswith(".lock")] == []


HOSTILE_NAMES = {
    "newline": "a\nb",
    "escape": "\x1b[2J",
    "no utf-8": os.fsdecode(b"\xe9t\xe9"),
    "half a pair": os.fsdecode(b"\xed\xa0\x80"),
}


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES.keys())
@pytest.mark.parametrize("place", ["class", "image"])
def test_a_name_that_no_table_can_hold_is_refused_in_escaped_form(tiny, tmp_path, monkeypatch, capsys, name, place):
    monkeypatch.chdir(tmp_path)
    root = _imagefolder(tmp_path / "photographs")
    old = root / "train" / "class 0"
    if place == "class":
        old.rename(old.with_name(name))
    else:
        (old / "0.jpg").rename(old / f"{name}.jpg")
    tiny["datasets"] = {"scenes": {"format": "imagefolder", "root": str(root), "input": {"short_side": 36, "crop": 32}}}
    write(tiny)
    write_plan()
    status = call(monkeypatch, capsys, "data", "pack", "results/tiny/scenes/data.json", "--plan", PLAN)
    assert_one_line(*status, "rename it", "control character or bytes that are no UTF-8", "\\")
    assert [left for left in files_below("results") if not left.endswith(".lock")] == []
