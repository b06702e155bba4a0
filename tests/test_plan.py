"""From an experiment to runs, specs and packs."""

import copy
import itertools
import json
from types import SimpleNamespace

import pytest
import yaml

from dctkd.config import load, resolve
from dctkd.errors import InputError
from dctkd.packs import cut_packs
from dctkd.plan import make_plan, pair_stages
from dctkd.plan_file import read_plan, read_plan_of_jobs
from dctkd.provenance import sha256_of

RAW = {
    "experiment": "tiny",
    "datasets": {"shapes": {"format": "synthscenes", "input": {"crop": 64}}},
    "models": {"big": {"architecture": "resnet18"}, "small": {"architecture": "resnet10t"}},
    "pairs": [{"teacher": "big", "student": "small"}],
    "methods": {"baseline": None, "kd": None, "at": {"weight": 500}, "at+kd": None},
    "recipes": {
        "short": {
            "epochs": 2,
            "batch_size": 16,
            "optimiser": {"name": "sgd", "lr": 0.1},
            "schedule": {"name": "cosine"},
        }
    },
    "student_recipe": "short",
    "teacher_recipe": "short",
    "seeds": [0, 1],
}


def plan_of(raw, **options):
    return make_plan(resolve(raw, where="tiny.yaml"), config_file="tiny.yaml", **options)


def specs(plan):
    return {(run.dataset, run.pair, run.method, run.seed): run.spec for run in plan.runs}


def changed(path, value):
    raw = copy.deepcopy(RAW)
    *parents, last = path.split("/")
    place = raw
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[last] = value
    return raw


def test_a_plan_holds_every_combination_and_one_teacher_per_seed_choice():
    plan = plan_of(RAW)
    assert len(plan.runs) == 4 * 2
    assert [teacher.seed for teacher in plan.teachers] == [0]
    assert len({run.spec for run in plan.runs}) == 8
    assert [t.seed for t in plan_of(changed("teacher_seed", "matched")).teachers] == [0, 1]


def test_kd_rows_take_p1s_weights_and_plain_rows_the_methods_defaults():
    rows = {run.method: run.identity["method"] for run in plan_of(RAW).runs}
    assert (rows["at+kd"]["ce"], rows["at+kd"]["kd_weight"], rows["at+kd"]["kd_temperature"]) == (0.1, 1.0, 4.0)
    assert (rows["at"]["ce"], rows["at"]["kd_weight"], rows["at"]["weight"]) == (1.0, 0.0, 500.0)
    assert (rows["kd"]["ce"], rows["kd"]["weight"]) == (0.1, 0.8)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("title", "another title"),
        ("students_per_job", 1),
        ("keep_weights", "none"),
        ("checkpoint_every_s", 5),
        ("device", "cpu"),
        ("experiment", "other"),
    ],
)
def test_what_does_not_determine_a_run_leaves_every_spec(path, value):
    assert specs(plan_of(changed(path, value))) == specs(plan_of(RAW))


@pytest.mark.parametrize(
    ("path", "value", "rows"),
    [
        ("methods/at", {"weight": 501}, {"at"}),
        ("methods/at+kd", {"teacher_correct_only": True}, {"at+kd"}),
        ("kd", {"temperature": 2}, {"at+kd"}),
        ("recipes/short/epochs", 3, {"baseline", "kd", "at", "at+kd"}),
        ("datasets/shapes/input/crop", 32, {"baseline", "kd", "at", "at+kd"}),
        ("models/small", {"architecture": "resnet14t"}, {"baseline", "kd", "at", "at+kd"}),
        ("models/big", {"architecture": "resnet26"}, {"baseline", "kd", "at", "at+kd"}),
        ("methods/dct", None, set()),
    ],
)
def test_a_change_moves_exactly_the_specs_that_it_determines(path, value, rows):
    before, after = specs(plan_of(RAW)), specs(plan_of(changed(path, value)))
    moved = {key[2] for key in before if before[key] != after[key]}
    assert moved == rows


def test_names_are_not_part_of_a_spec():
    raw = changed("models", {"large": RAW["models"]["big"], "little": RAW["models"]["small"]})
    raw["pairs"] = [{"teacher": "large", "student": "little"}]
    raw["methods"] = {"my_at": {"method": "at", "weight": 500}}
    renamed = {run.spec for run in plan_of(raw).runs}
    assert renamed == {run.spec for run in plan_of(RAW).runs if run.method == "at"}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methods/fitnet5", None, "tiny.yaml: methods.fitnet5: unknown method 'fitnet5'"),
        ("methods/at", {"options": {"powre": 2}}, "tiny.yaml: methods.at.options"),
        ("datasets/shapes/format", "synthscene", "datasets.shapes.format: unknown format 'synthscene'; did you mean"),
        ("datasets/shapes/options", {"num_classes": "many"}, "datasets.shapes.options.num_classes"),
        (
            "models/big",
            {"architecture": "resnet18", "weights": "none.pth"},
            "models.big.weights: no such file none.pth",
        ),
        ("methods/mine", {"file": "none.py"}, "methods.mine.file"),
    ],
)
def test_what_only_the_plan_can_know_is_refused_in_one_line(path, value, words):
    with pytest.raises(InputError) as caught:
        plan_of(changed(path, value))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_written_plan_reads_back_equal(tmp_path):
    plan = plan_of(RAW, jobs=2)
    (tmp_path / "plan.json").write_text(plan.to_json())
    again = read_plan(tmp_path / "plan.json")
    assert again == plan
    assert list(again.config.methods) == list(RAW["methods"]), "rows keep their order"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"teachers": 3}'])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match="not a plan"):
        read_plan(tmp_path / "plan.json")


METHODS = tuple("abcdefgh")


@pytest.mark.parametrize("choice", ["auto", "all", 1, 3, 8, 100])
@pytest.mark.parametrize("cores", [None, 1, 2, 64])
def test_packs_hold_every_method_once_and_in_order(choice, cores):
    packs = cut_packs(METHODS, choice, groups=3, num_jobs=cores)
    assert sorted(itertools.chain.from_iterable(pack.methods for pack in packs)) == list(METHODS)
    assert all(list(pack.methods) == sorted(pack.methods) for pack in packs)
    assert len({pack.name for pack in packs}) == len(packs)


def test_rows_are_dealt_out_evenly():
    assert [pack.methods for pack in cut_packs(METHODS, 3, groups=1, num_jobs=None)] == [
        ("a", "d", "g"),
        ("b", "e", "h"),
        ("c", "f"),
    ]


def test_auto_fills_the_cores_without_cutting_more_than_that():
    assert len(cut_packs(METHODS, "auto", groups=3, num_jobs=1)) == 1
    assert len(cut_packs(METHODS, "auto", groups=1, num_jobs=2)) == 2
    assert len(cut_packs(METHODS, "auto", groups=64, num_jobs=2)) == 1
    assert len(cut_packs(METHODS, "auto", groups=1, num_jobs=8)) == 8


def scheduled(weights, num_packs, num_methods, num_jobs):
    """Wall time of a schedule, longest job first, of groups of unequal length; a teacher's pass is 0.35 of a step."""
    sizes = [len(range(first, num_methods, num_packs)) for first in range(num_packs)]
    workers = [0.0] * num_jobs
    for job in sorted((weight * (0.35 + 0.65 * size) for weight in weights for size in sizes), reverse=True):
        workers[workers.index(min(workers))] += job
    return max(workers)


@pytest.mark.parametrize("num_jobs", [1, 2, 8, 64])
def test_auto_cuts_unequal_groups_about_as_well_as_can_be(num_jobs):
    weights = [1.0, 1.0, 0.25] * 9  # three datasets, one of them a quarter as large as the others
    chosen = len(cut_packs(tuple(range(20)), "auto", groups=27, num_jobs=num_jobs, are_alike=False))
    times = [scheduled(weights, number, 20, num_jobs) for number in range(1, 21)]
    assert times[chosen - 1] <= 1.1 * min(times)


def stages(*reductions, kind="cnn"):
    return [SimpleNamespace(index=i, reduction=r, kind=kind) for i, r in enumerate(reductions)]


def test_convolutional_stages_pair_by_reduction_and_the_last_map_at_each_counts():
    resnet, mobilenet = stages(4, 8, 16, 32), stages(2, 4, 8, 16, 16, 32)
    assert pair_stages(mobilenet, resnet) == ((1, 0), (2, 1), (4, 2), (5, 3))
    assert pair_stages(resnet, mobilenet) == ((0, 1), (1, 2), (2, 4), (3, 5))


def test_vit_blocks_at_equal_depth_fractions_pair_with_the_four_stages():
    vit, deep_vit, resnet = stages(*[16] * 12, kind="vit"), stages(*[16] * 24, kind="vit"), stages(4, 8, 16, 32)
    assert pair_stages(resnet, vit) == ((0, 2), (1, 5), (2, 8), (3, 11))
    assert pair_stages(vit, deep_vit) == ((2, 5), (5, 11), (8, 17), (11, 23))


def test_networks_without_a_common_reduction_are_refused():
    with pytest.raises(InputError, match="none in common"):
        pair_stages(stages(4, 8), stages(16, 32))


def test_every_shipped_experiment_is_valid(pytestconfig, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = sorted((pytestconfig.rootpath / "config").glob("*.yaml"))
    assert files
    for file in files:
        raw = yaml.safe_load(file.read_text())
        for variant in raw.get("variants", [None]):
            overrides = {"data_root": "/data"} | ({"variant": variant} if variant else {})
            experiment = load(file, overrides)
            for weights in filter(None, (model.weights for model in experiment.models.values())):
                weights.parent.mkdir(parents=True, exist_ok=True)
                weights.write_bytes(b"weights that another experiment of this file would leave")
            make_plan(experiment, config_file=str(file))


def test_a_later_seeds_identity_that_differs_in_more_than_its_seed_is_refused(tmp_path):
    raw = {**RAW, "seeds": [0, 1]}
    record = json.loads(plan_of(raw).to_json())
    run = next(run for run in record["runs"] if run["seed"] == 1)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(record))
    read_plan_of_jobs(path)
    run["identity"]["seed"] = 2
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="is not what its spec says"):
        read_plan_of_jobs(path)
    run["identity"]["seed"] = 1
    run["identity"]["method"]["weight"] = "heavy"
    run["spec"] = sha256_of(run["identity"])
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"method\.weight"):
        read_plan_of_jobs(path)
