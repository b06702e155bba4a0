"""Every kind of mistake in an experiment file: one line with file, key and what to do; nothing left."""

import copy
from pathlib import Path

import pytest

from tests.bad_input.command import assert_one_line, assert_refused, call, put, write
from tests.conftest import TINY

PLAN_OF = ["plan", "--config", "tiny.yaml"]
NAME = "expected a name of letters, digits"
MISTAKES = [
    # names
    ("experiment", None, "experiment: expected text, got None"),
    ("experiment", 5, "experiment: expected text, got 5"),
    ("experiment", "a/b", f"experiment: {NAME}"),
    ("experiment", "..", f"experiment: {NAME}"),
    ("experiment", "a b", f"experiment: {NAME}"),
    ("experiment", "a__b", f"experiment: {NAME}"),
    ("experiment", "-x", f"experiment: {NAME}"),
    ("experiment", "a\nb", f"experiment: {NAME}"),
    ("experiment", "x" * 101, "at most 100 characters"),
    ("experiment", "store", "experiment: 'store' is the name of another folder"),
    ("experiment", "Reported", "experiment: 'Reported' is the name of another folder"),
    ("title", ["x"], "title: expected text, got ['x']"),
    ("title", "\ud800", "title: text with the control character U+D800"),
    ("variant", "none", "variant: unknown variant 'none'"),
    ("variant", [1], "variant: unknown variant [1]"),
    ("variants", [1], "variants: expected a mapping"),
    ("sedes", [1], "unknown key 'sedes'; did you mean 'seeds'?"),
    ("reported", ["../x"], f"reported.0: {NAME}"),
    # datasets
    ("datasets", {}, "datasets: expected at least 1 entry, got {}"),
    ("datasets", [], "datasets: expected a mapping"),
    ("datasets", {"a$b": {"format": "imagefolder", "input": {"crop": 8}}}, f"datasets.a$b: {NAME}"),
    ("datasets/shapes", None, "datasets.shapes: expected a mapping"),
    ("datasets/shapes/format", "jpgs", "datasets.shapes.format: unknown format 'jpgs'"),
    ("datasets/shapes/fromat", "x", "datasets.shapes: unknown key 'fromat'; did you mean 'format'"),
    ("datasets/shapes/input/crop", 0, "datasets.shapes.input.crop: expected greater than or equal to 1, got 0"),
    ("datasets/shapes/input/crop", 10**9, "datasets.shapes.input.crop: expected less than or equal to 65535"),
    ("datasets/shapes/input/crop", 1.5, "datasets.shapes.input.crop: expected an integer, got 1.5"),
    ("datasets/shapes/input/crop", ..., "datasets.shapes.input.crop: this key is required"),
    ("datasets/shapes/input/short_side", 16, "crop 32 must not exceed short_side 16"),
    ("datasets/shapes/input/mean", [0, 0], "datasets.shapes.input.mean.2: this key is required"),
    ("datasets/shapes/input/std", [0, 1, 1], "std must be > 0"),
    ("datasets/shapes/input/std", [float("nan"), 1, 1], "datasets.shapes.input.std.0: expected a finite number"),
    ("datasets/shapes/input/hflip", "maybe", "datasets.shapes.input.hflip: expected true or false, got 'maybe'"),
    ("datasets/shapes/options", {"nubmer": 1}, "datasets.shapes.options: unknown key 'nubmer'"),
    ("datasets/shapes/options", {"num_classes": "x"}, "datasets.shapes.options.num_classes: expected an integer"),
    ("datasets/shapes/on_problem", "ignore", "datasets.shapes.on_problem: expected 'fail' or 'drop'"),
    ("datasets/shapes/root", 5, "datasets.shapes.root: expected a path"),
    ("data_root", ["x"], "data_root: expected a path"),
    # networks
    ("models", {}, "models: expected at least 1 entry"),
    ("models/wide/architecture", ..., "models.wide.architecture: this key is required"),
    ("models/wide/architecture", "resnet81", "did you mean 'resnet18'"),
    ("models/wide/architecture", "resnet18.nosuch", "no pretrained weights of that name and tag"),
    ("models/wide/options", {"layrs": [1]}, "layrs"),
    ("models/wide/options", {"layers": "many"}, "options are arguments of timm.create_model"),
    ("models/wide/options", {"layers": []}, "change the crop, or the options"),
    ("models/wide/options", {"channels": [10**9] * 4}, "timm cannot build it"),
    ("models/wide/weights", "none.pth", "models.wide.weights: no such file none.pth"),
    ("models/wide/weights", ".", "models.wide.weights: no such file .; give the path"),
    ("models/wide/weights", "y" * 300, "models.wide.weights: cannot read"),
    ("models/wide/pretrained", "often", "models.wide.pretrained: expected true or false"),
    ("models/wide", {"architecture": "resnet18", "pretrained": True, "weights": "x.pth"}, "exclude each other"),
    # pairs
    ("pairs", [], "pairs: expected at least 1 entry"),
    ("pairs/0/teacher", "none", "pairs.0.teacher: unknown model 'none'; choose from narrow, wide"),
    ("pairs", [{"teacher": "wide", "student": "narrow"}] * 2, "pairs must not repeat"),
    ("pairs/0/stages", [[9, 0]], "tiny.yaml: pairs.stages: student stage 9 does not exist"),
    ("pairs/0/stages", [[-1, 0]], "student stage -1 does not exist"),
    ("pairs/0/stages", [[0]], "pairs.0.stages: expected"),
    ("pairs/0/stages", "all", "pairs.0.stages: expected 'auto', got 'all'"),
    # methods
    ("methods", {}, "methods: expected at least 1 entry"),
    ("methods", ["kd"], "methods: expected a mapping, got ['kd']"),
    ("methods", {"fitnett": None}, "methods.fitnett: unknown method 'fitnett'; did you mean 'fitnets'?"),
    ("methods", {"../x": {"method": "kd"}}, f"methods.../x: {NAME}"),
    ("methods", {"m" * 120: {"method": "kd"}}, "at most 100 characters"),
    ("methods", {"Teacher": {"method": "kd"}}, "methods.Teacher: the tables have a row of this name"),
    ("methods/kd", {"weight": -1}, "methods.kd.weight: expected greater than or equal to 0, got -1"),
    ("methods/kd", {"weight": float("inf")}, "methods.kd.weight: expected a finite number"),
    ("methods/kd", {"weight": "heavy"}, "methods.kd.weight: expected a number, got 'heavy'"),
    ("methods/kd", {"weight": True}, "weight: expected no true or false"),
    ("methods/kd", {"options": {"temperature": 0}}, "methods.kd.options.temperature: expected a number > 0, got 0"),
    ("methods/kd", {"options": {"temprature": 2}}, "methods.kd.options: unknown option 'temprature'; did you mean"),
    ("methods/kd", {"options": {"temperature": "hot"}}, "methods.kd.options.temperature: expected a number > 0"),
    ("methods/kd", {"options": [1]}, "methods.kd.options: expected a mapping"),
    ("methods/kd", {"file": "."}, "methods.kd.file: no such file .; give the path of a Python file"),
    # recipes and seeds
    ("recipes", {}, "student_recipe: unknown recipe 'short'; choose from p1, p1_teacher"),
    ("recipes", [], "recipes: expected a mapping"),
    ("recipes/short/epochs", "ten", "recipes.short.epochs: expected an integer, got 'ten'"),
    ("recipes/short/epochs", -1, "recipes.short.epochs: expected greater than or equal to 0"),
    ("recipes/short/epochs", 10**30, "recipes.short.epochs: an integer beyond"),
    ("recipes/short/epochs", True, "epochs: expected no true or false"),
    ("recipes/short/batch_size", 1, "recipes.short.batch_size: expected greater than or equal to 2"),
    ("recipes/short/held_out_fraction", 0.5, "recipes.short.held_out_fraction: expected less than 0.5, got 0.5"),
    ("recipes/short/held_out_fraction", 0, "recipes.short.held_out_fraction: expected greater than 0, got 0"),
    ("recipes/short/optimiser", {"name": "adam", "lr": 1}, "optimiser.name must be sgd or adamw, got 'adam'"),
    ("recipes/short/optimiser", {"name": "sgd", "lr": float("nan")}, "optimiser.lr: expected a finite number"),
    ("recipes/short/optimiser", {"name": "adamw", "lr": 1, "betas": [2, 3]}, "optimiser.betas.0: expected less than 1"),
    ("recipes/short/schedule", {"name": "step"}, "every_epochs is required with name: step"),
    ("recipes/short/schedule", {"name": "wavy"}, "recipes.short.schedule.name: expected 'constant', 'step'"),
    ("recipes/short/schedule", {"name": "multistep", "milestones_epochs": [5, 2]}, "milestones_epochs must rise"),
    ("recipes/short/precision", "float16", "recipes.short.precision: expected 'auto', 'float32' or 'bfloat16'"),
    ("recipes/short/threads", 10**6, "recipes.short.threads: expected less than or equal to 1024"),
    ("recipes/short/frozen_stages", 0, "recipes.short.frozen_stages: expected greater than or equal to 1, got 0"),
    ("recipes/short/frozen_stages", 5, "resnet18 (models.wide): 5 stages cannot be frozen: ResNet has 4 stages"),
    ("student_recipe", "sohrt", "student_recipe: unknown recipe 'sohrt'; did you mean 'short'?"),
    ("student_recipe", ..., "student_recipe: this key is required"),
    ("seeds", [], "seeds: expected at least 1 entry"),
    ("seeds", [0, 0], "seeds must not repeat; 0 occurs twice"),
    ("seeds", [-1], "seeds.0: expected greater than or equal to 0, got -1"),
    ("seeds", [2**40], "seeds.0: expected less than or equal to 4294967295"),
    ("seeds", [True], "seeds: expected no true or false"),
    ("teacher_seed", "fixed", "teacher_seed: expected an integer, got 'fixed'"),
    ("device", "tpu", "device: expected 'auto', 'cpu' or 'cuda'"),
    ("students_per_job", 0, "students_per_job: expected"),
    ("map_sources", ["gradcam", "gradcam"], "map_sources must not repeat"),
    ("checkpoint_every_s", 0, "checkpoint_every_s: expected greater than 0"),
]


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES, ids=[f"{p}={str(v)[:30]!r}" for p, v, _ in MISTAKES])
def test_a_mistake_in_the_experiment_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys, path, value, words):
    monkeypatch.chdir(tmp_path)
    raw = copy.deepcopy(TINY)
    put(raw, path, value)
    write(raw)
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: ", words])


def test_photographs_that_are_not_there_are_named_with_the_file(experiment, monkeypatch, capsys):
    experiment["data_root"] = "nowhere"
    write(experiment)
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: data root nowhere does not exist; expected there"])


def test_a_data_root_whose_name_no_file_can_have_is_refused(experiment, monkeypatch, capsys):
    experiment["data_root"] = "z" * 300
    write(experiment)
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: data root zzz", "cannot be read (File name too long)"])


def test_a_variant_without_an_experiment_does_not_invent_its_name(in_folder, monkeypatch, capsys):
    raw = copy.deepcopy(TINY)
    del raw["experiment"]
    write({**raw, "variants": {"a": {}}, "variant": "a"})
    assert_one_line(*call(monkeypatch, capsys, *PLAN_OF), "experiment: this key is required")


def test_a_network_may_teach_itself(in_folder, monkeypatch, capsys):
    raw = copy.deepcopy(TINY)
    raw["pairs"] = [{"teacher": "wide", "student": "wide"}]
    write(raw)
    assert call(monkeypatch, capsys, *PLAN_OF)[0] == 0


def test_a_dataset_called_like_a_branch_of_a_type_stays_in_the_key_path(in_folder, monkeypatch, capsys):
    raw = copy.deepcopy(TINY)
    raw["datasets"] = {"interior": {**TINY["datasets"]["shapes"], "input": {"crop": "big"}}}
    write(raw)
    assert_one_line(*call(monkeypatch, capsys, *PLAN_OF), "datasets.interior.input.crop: expected an integer")


TEXT = Path("tiny.yaml")
TEXTS = {
    "empty": (b"", "expected a mapping of keys at the top"),
    "a list": (b"- a\n", "expected a mapping of keys at the top, such as `experiment: demo`, got list"),
    "a number": (b"3", "got a number"),
    "binary": (bytes(range(128, 256)), "cannot be read as UTF-8 text"),
    "utf-16": ("experiment: tiny\n".encode("utf-16"), "save it as UTF-8"),
    "latin-1": ("title: \u00e9t\u00e9\n".encode("latin-1"), "save it as UTF-8"),
    "tabs": (b"experiment: tiny\nmodels:\n\twide: 3\n", "not valid YAML"),
    "a NUL": (b"experiment: tiny\0\n", "not valid YAML"),
    "unclosed": (b"a: [1,\nb: {", "not valid YAML"),
    "undefined alias": (b"experiment: *x\n", "found undefined alias 'x'"),
    "colon in text": (b"title: a: b\n", "mapping values are not allowed here"),
    "key twice": (b"seeds: [1]\nseeds: [2]\n", "key 'seeds' is given twice"),
    "inner key twice": (b"models:\n  a: 1\n  a: 2\n", "key 'a' is given twice"),
    "two documents": (b"a: 1\n---\nb: 2\n", "expected a single document"),
    "no text as a key": (b"methods: {on: null}\n", "methods: a key must be text, got true or false True; put it in"),
    "list as a key": (b"? [1, 2]\n: 3\n", "a key must be plain text"),
    "a date": (b"title: 2020-01-01\n", "title: expected text or a number, got the date 2020-01-01; put it in quotes"),
    "no date": (b"title: 2020-13-45\n", "not valid YAML: month must be in 1..12"),
    "a set": (b"seeds: !!set {1}\n", "seeds: expected text, a number, a list or a mapping, got set"),
    "huge": (b"x: 1\n" * 40_000, "longer than 65536 bytes"),
    "long number": (b"seeds: [" + b"9" * 5000 + b"]", "a number of over 100 characters"),
    "templates": (b"__use_yte__: true\ntitle: ?1 + 1\n", "__use_yte__: templates run code; write plain values"),
}


@pytest.mark.parametrize(("content", "words"), TEXTS.values(), ids=TEXTS.keys())
def test_text_that_is_no_experiment_is_refused_with_its_file(tmp_path, monkeypatch, capsys, content, words):
    monkeypatch.chdir(tmp_path)
    TEXT.write_bytes(content)
    assert_refused(monkeypatch, capsys, PLAN_OF, ["tiny.yaml: ", words])


@pytest.mark.parametrize("change", [lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_a_byte_order_mark_and_windows_line_ends_are_welcome(in_folder, monkeypatch, capsys, change):
    TEXT.write_bytes(change(TEXT.read_text()).encode())
    assert call(monkeypatch, capsys, *PLAN_OF)[0] == 0


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("none.yaml", "none.yaml: no such file"),
        (".", "Is a directory"),
        ("/dev/zero", "longer than 65536 bytes"),
        ("x" * 300, "File name too long"),
        ("a\x1b[31m\n.yaml", r"a\x1b[31m .yaml: no such file"),
    ],
)
def test_a_file_that_cannot_be_an_experiment_is_refused(in_folder, monkeypatch, capsys, file, words):
    assert_refused(monkeypatch, capsys, ["plan", "--config", file], [words])


SETTINGS = {
    "seeds": "--set seeds: expected KEY=VALUE",
    "=3": "expected KEY=VALUE",
    "seeds=": "seeds: expected a list, got None",
    "seeds=[0": "--set seeds: not valid YAML",
    "seeds=[0,0]": "seeds must not repeat",
    "sedes=[1]": "unknown key 'sedes'; did you mean 'seeds'?",
    "seeds=&a [*a]": "--set seeds: not valid YAML: an alias within its own anchor",
    "title=!!python/name:os.system": "--set title: not valid YAML",
    "title=" + "x" * 70_000: "--set title: longer than 65536 characters",
    "experiment=../x": f"experiment: {NAME}",
}


@pytest.mark.parametrize(("setting", "words"), SETTINGS.items(), ids=[key[:30] for key in SETTINGS])
def test_a_setting_that_cannot_be_is_refused(in_folder, monkeypatch, capsys, setting, words):
    assert_refused(monkeypatch, capsys, [*PLAN_OF, "--set", setting], [words])


def test_a_setting_given_twice_is_refused(in_folder, monkeypatch, capsys):
    assert_refused(monkeypatch, capsys, [*PLAN_OF, "--set", "seeds=[1]", "--set", "seeds=[2]"], ["given twice"])
