"""What a user can get wrong: one line, exit status 2, nothing half-written."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.bad_input.command import assert_one_line, call, files_below, write, write_plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw["methods"].update(fitnett=None), ["tiny.yaml: methods.fitnett", "unknown method"]),
        (lambda raw: raw.update(student_recipe="sohrt"), ["tiny.yaml: student_recipe", "unknown recipe", "'short'"]),
        (lambda raw: raw["recipes"]["short"].update(epochs="ten"), ["tiny.yaml: recipes.short.epochs", "'ten'"]),
        (lambda raw: raw["models"]["narrow"].update(architecture="resnet81"), ["resnet81", "did you mean"]),
        (lambda raw: raw["models"]["narrow"]["options"].update(layrs=[1]), ["resnet18", "layrs"]),
        (lambda raw: raw.update(data_root="nowhere"), ["nowhere"]),
        (lambda raw: raw["datasets"]["scenes"].update(format="miniplace"), ["scenes.format", "did you mean"]),
        (lambda raw: raw["models"]["wide"].update(weights="none.pth"), ["models.wide.weights", "none.pth"]),
        (lambda raw: raw["pairs"][0].update(stages=[[9, 0]]), ["pairs.stages", "stage 9"]),
    ],
)
def test_a_plan_that_cannot_be_is_refused(experiment, monkeypatch, capsys, change, words):
    change(experiment)
    write(experiment)
    assert_one_line(*call(monkeypatch, capsys, "plan", "--config", "tiny.yaml"), *words)
    assert not Path("results").exists()


def _append(name, line):
    return lambda root: (root / name).write_text((root / name).read_text() + line)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, ["photographs"]),
        (lambda root: (root / "train.txt").unlink(), ["train.txt"]),
        (_append("train.txt", "train/a/abbey/none.jpg 0\n"), ["none.jpg", "1 missing"]),
        (_append("val.txt", "val/a/abbey/00000001.jpg 7\n"), ["7", "label_range"]),
        (_append("categories.txt", "/c/cellar 2\n"), ["cellar", "no training image"]),
        (_append("train.txt", "../../etc/passwd 0\n"), ["../../etc/passwd"]),
        (
            lambda root: (root / "images/train/b/bar/00000000.jpg").write_bytes(b"no image"),
            ["00000000.jpg", "mend the file"],
        ),
    ],
    ids=["no root", "no list", "missing file", "label out of range", "empty class", "outside", "unreadable image"],
)
def test_a_dataset_that_cannot_be_used_is_refused_and_leaves_no_cache(experiment, monkeypatch, capsys, damage, words):
    write(experiment)
    write_plan()
    damage(Path(experiment["data_root"]))
    edge = "results/tiny/scenes/data.json"
    assert_one_line(*call(monkeypatch, capsys, "data", "pack", edge, "--plan", "results/tiny/plan.json"), *words)
    assert [name for name in files_below("results") if not name.endswith(".lock")] == []


def test_a_full_disk_while_packing_is_said_in_one_line_and_leaves_no_cache(experiment, monkeypatch, capsys):
    write(experiment)
    write_plan()
    writes = []

    def full(self, *_):
        writes.append(self)
        raise OSError(errno.ENOSPC, "No space left on device")

    from dctkd.data import packing

    monkeypatch.setattr(packing.os, "fsync", full)
    status = call(
        monkeypatch, capsys, "data", "pack", "results/tiny/scenes/data.json", "--plan", "results/tiny/plan.json"
    )
    assert writes, "the simulated disk was never written to"
    assert_one_line(*status, "results/cache", "free")
    assert [name for name in files_below("results") if not name.endswith(".lock")] == []


def test_weights_of_another_class_count_are_refused_for_a_teacher_that_is_not_trained(experiment, monkeypatch, capsys):
    import timm

    options = {key: tuple(value) for key, value in experiment["models"]["wide"]["options"].items()}
    net = timm.create_model("resnet18", num_classes=7, **options)
    save_file(net.state_dict(), "seven.safetensors")
    experiment["models"]["wide"]["weights"] = "seven.safetensors"
    experiment["recipes"]["ready"] = {**experiment["recipes"]["short"], "epochs": 0}
    experiment["teacher_recipe"] = "ready"
    write(experiment)
    write_plan()
    plan = ["--plan", "results/tiny/plan.json"]
    assert call(monkeypatch, capsys, "data", "pack", "results/tiny/scenes/data.json", *plan)[0] == 0
    edge = "results/tiny/scenes/teachers/wide/seed0/teacher.json"
    assert_one_line(*call(monkeypatch, capsys, "train", edge, *plan), "7 classes", "2", "seven.safetensors")
    assert not Path(edge).exists()


def test_a_pickle_payload_as_weights_is_refused_and_not_executed(experiment, monkeypatch, capsys):
    class Payload:
        def __reduce__(self):
            return (Path("executed").write_text, ("yes",))

    torch.save({"weights": Payload()}, "evil.pth")
    experiment["models"]["wide"]["weights"] = "evil.pth"
    write(experiment)
    write_plan()
    plan = ["--plan", "results/tiny/plan.json"]
    call(monkeypatch, capsys, "data", "pack", "results/tiny/scenes/data.json", *plan)
    edge = "results/tiny/scenes/teachers/wide/seed0/teacher.json"
    assert_one_line(*call(monkeypatch, capsys, "train", edge, *plan), "evil.pth")
    assert not Path("executed").exists()
