"""What an experiment needs, and what is missing."""

import dataclasses
import shutil
from collections import namedtuple

import pytest
from PIL import Image

from dctkd.doctor import experiment
from dctkd.engine.packing import cache_folder, publish_data
from dctkd.errors import InputError

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _networks_are_known(monkeypatch):
    def describe(models):
        return {model["name"]: {"parameters": 1000, "pretrained": None} for model in models}

    monkeypatch.setattr(experiment, "ask_networks", describe)


def states(findings):
    return [(finding.check, finding.state) for finding in findings]


def test_without_an_experiment_nothing_is_said(surroundings):
    assert [finding for check in experiment.CHECKS for finding in check(surroundings)] == []


def test_an_experiment_that_lacks_nothing_is_ok(with_plan):
    here = with_plan()
    found = [finding for check in experiment.CHECKS for finding in check(here)]
    assert states(found) == [
        ("config", "ok"),
        ("dataset shapes", "ok"),
        ("networks", "ok"),
        ("disk needed", "ok"),
        ("progress", "ok"),
    ]
    assert found[0].text == "tiny: 3 student runs, 1 teacher"
    assert found[1].text == "not packed yet: 50 training and 24 test images of 12 classes, rendered"
    assert found[-1].text == "of 4 runs: 4 waiting"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("tiny.yaml: seeds: this key is required"), "tiny.yaml: seeds: this key is required"),
        (PermissionError(13, "Permission denied"), "tiny.yaml: PermissionError: [Errno 13] Permission denied"),
        (SystemExit(3), "tiny.yaml: SystemExit: 3"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_problem(surroundings, error, text):
    def fail():
        raise error

    here = dataclasses.replace(
        surroundings, config=surroundings.folder.relative_to(surroundings.folder), load_plan=fail
    )
    here = dataclasses.replace(here, config=here.config / "tiny.yaml")
    found = [finding for check in experiment.CHECKS for finding in check(here)]
    assert [(finding.check, finding.state, finding.text) for finding in found] == [("config", "problem", text)]


def test_cuda_without_a_driver_is_a_problem(with_plan, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "NVIDIA_DRIVER", tmp_path / "none")
    found = list(experiment.config(with_plan({**tiny, "device": "cuda"})))[1]
    assert (found.check, found.state) == ("device", "problem")
    assert found.remedy == "snakemake --cores all --configfile tiny.yaml --config device=auto"


def photographs(tiny, **dataset):
    return {**tiny, "datasets": {"shapes": {"input": {"crop": 32, "short_side": 32}, **dataset}}}


def test_photographs_without_a_place_are_a_problem(with_plan, tiny):
    (found,) = experiment.datasets(with_plan(photographs(tiny, format="mit67", root="MIT67")))
    assert (found.check, found.state) == ("dataset shapes", "problem")
    assert found.remedy == "dctkd doctor --config tiny.yaml --set data_root=PATH"


def test_photographs_that_are_not_there_can_be_fetched(with_plan, tiny):
    raw = {**photographs(tiny, format="mit67", root="MIT67"), "data_root": "/no where"}
    (found,) = experiment.datasets(with_plan(raw))
    assert (found.state, found.remedy) == ("problem", "dctkd data fetch mit67 --root '/no where'")


def test_a_format_without_official_files_has_no_such_command(with_plan, tiny):
    (found,) = experiment.datasets(with_plan(photographs(tiny, format="imagefolder", root="/nowhere")))
    assert (found.state, found.remedy) == ("problem", None)


def test_a_copy_that_lacks_something_is_to_be_checked(with_plan, tiny, tmp_path):
    (tmp_path / "copy/train/a").mkdir(parents=True)
    (found,) = experiment.datasets(with_plan(photographs(tiny, format="imagefolder", root=str(tmp_path / "copy"))))
    assert (found.state, found.remedy) == ("problem", f"dctkd data check imagefolder --root {tmp_path}/copy")


def test_a_copy_that_holds_everything_is_counted(with_plan, tiny, tmp_path):
    for split, number in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / "copy" / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("RGB", (4, 4)).save(tmp_path / "copy" / split / name / f"{index}.png")
    (found,) = experiment.datasets(with_plan(photographs(tiny, format="imagefolder", root=str(tmp_path / "copy"))))
    assert found.state == "ok"
    assert found.text == f"not packed yet: 6 training and 4 test images of 2 classes in {tmp_path}/copy"


@pytest.fixture
def packed(with_plan):
    """An experiment whose dataset is packed."""
    here = with_plan()
    publish_data(here.plan, here.results / "tiny/shapes/data.json", here.results, workers=1)
    return here


def test_a_packed_dataset_is_counted_from_its_cache(packed):
    (found,) = experiment.datasets(packed)
    assert (found.state, found.text) == ("ok", "packed: 50 training and 24 test images of 12 classes")
    (disk,) = experiment.disk(packed)
    assert disk.text.startswith("weights 0.0 MB to come")


def test_a_damaged_cache_is_to_be_deleted(packed):
    folder = cache_folder(packed.plan, "shapes")
    pixels = packed.results / folder / "train/pixels.bin"
    pixels.write_bytes(pixels.read_bytes()[:-1])
    (found,) = experiment.datasets(packed)
    assert (found.state, found.remedy) == ("problem", f"rm -r results/{folder}")


def test_a_disk_that_is_too_small_is_a_problem(with_plan, monkeypatch):
    here = with_plan()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 300_000))
    (found,) = experiment.disk(here)
    # 74 images of 3 x 32 x 32 x 4 / 3 bytes, and three students of 1000 parameters of 4 bytes, with a tenth to spare.
    assert (74 * 3 * 32 * 32 * 4 / 3 + 3 * 4000) * 1.1 > 300_000
    assert found.state == "problem"
    assert found.remedy == f"du -xh --max-depth=2 {here.folder} | sort -h | tail"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, 400_000))
    assert next(iter(experiment.disk(here))).state == "ok"


def test_what_is_not_known_of_the_disk_is_said(with_plan, tiny, monkeypatch):
    monkeypatch.setattr(experiment, "ask_networks", lambda _: {"error": "no torch"})
    (found,) = experiment.disk(with_plan(photographs(tiny, format="imagefolder", root="/nowhere")))
    assert found.state == "note"
    assert found.text.startswith("unknown pixels of shapes and weights to come, ")


def test_a_torch_that_cannot_be_used_is_a_problem(with_plan, monkeypatch):
    monkeypatch.setattr(experiment, "ask_networks", lambda _: {"error": "ImportError: libgomp.so.1"})
    (found,) = experiment.networks(with_plan())
    assert (found.state, found.text) == ("problem", "torch or timm cannot be used: ImportError: libgomp.so.1")


def test_a_network_that_timm_does_not_have_is_one_problem(with_plan, monkeypatch):
    monkeypatch.setattr(experiment, "ask_networks", lambda models: {m["name"]: {"error": "no such"} for m in models})
    assert [(finding.state, finding.text) for finding in experiment.networks(with_plan())] == [("problem", "no such")]


@pytest.mark.parametrize(("where", "state"), [("cached", "ok"), ("reachable", "note"), ("unreachable", "problem")])
def test_pretrained_weights_are_told(with_plan, tiny, monkeypatch, where, state):
    tiny["models"]["wide"] = {"architecture": "resnet18.tv_in1k", "pretrained": True}
    answer = {
        "shapes/wide": {"parameters": 1, "pretrained": where},
        "shapes/narrow": {"parameters": 1, "pretrained": None},
    }
    monkeypatch.setattr(experiment, "ask_networks", lambda _: answer)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = next(iter(experiment.networks(with_plan(tiny))))
    assert (found.check, found.state) == ("weights", state)
    assert "resnet18.tv_in1k" in found.text
    call = "from dctkd.weights import resolve_pretrained as fetch; fetch('resnet18.tv_in1k')"
    assert found.remedy == (f'HF_HUB_OFFLINE=0 python -c "{call}"' if state == "problem" else None)


@pytest.mark.parametrize(("pairs", "frozen"), [("wide narrow", (None, 2)), ("wide wide", (2, None))])
def test_networks_are_asked_for_the_stages_that_their_recipes_freeze(with_plan, tiny, monkeypatch, pairs, frozen):
    teacher, student = pairs.split()
    tiny["pairs"] = [{"teacher": teacher, "student": student}]
    tiny["recipes"]["later"] = {**tiny["recipes"]["short"], "frozen_stages": 2}
    tiny["student_recipe"] = "later"
    asked = {}
    monkeypatch.setattr(experiment, "ask_networks", lambda models: asked.update((m["name"], m) for m in models) or {})
    list(experiment.networks(with_plan(tiny)))
    stages = tuple(asked.get(f"shapes/{name}", {}).get("frozen_stages") for name in ("wide", "narrow"))
    assert stages == frozen
    assert {model["crop"] for model in asked.values()} == {32}


def test_networks_are_asked_once_with_the_classes_of_the_data(with_plan, monkeypatch):
    asked = []

    def describe(models):
        asked.append(models)
        return {model["name"]: {"parameters": 1000, "pretrained": None} for model in models}

    monkeypatch.setattr(experiment, "ask_networks", describe)
    here = with_plan()
    assert [finding.state for check in experiment.CHECKS for finding in check(here)] == ["ok"] * 5
    assert [(model["name"], model["num_classes"]) for models in asked for model in models] == [
        ("shapes/wide", 12),
        ("shapes/narrow", 12),
    ]


@pytest.mark.parametrize(
    ("to", "limit_gb", "free_bytes", "state", "words"),
    [
        ("{}/local/dctkd", None, 10**10, "ok", "are copied to"),
        ("{}/local/dctkd", 1e-6, 10**10, "note", "raise stage_limit_gb"),
        ("{}/local/dctkd", 1.0, 10, "note", "not all of them at a time"),
        ("$NOT_SET_HERE/dctkd", None, 10**10, "note", "a variable of $NOT_SET_HERE/dctkd is not set here"),
    ],
)
def test_whether_pixels_can_be_staged_is_told(
    with_plan, tiny, tmp_path, monkeypatch, to, limit_gb, free_bytes, state, words
):
    here = with_plan(tiny | {"stage_to": to.format(tmp_path), "stage_limit_gb": limit_gb})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free_bytes))
    (found,) = experiment.staging(here)
    assert (found.state, words in found.text) == (state, True)


def test_a_place_for_pixels_that_cannot_be_written_is_a_warning(with_plan, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment.os, "access", lambda *_: False)
    (found,) = experiment.staging(with_plan(tiny | {"stage_to": str(tmp_path / "local")}))
    assert found.state == "warning"
