"""What a run with held-out training images promises: they are tested and never trained on, by teacher or student."""

import itertools
import json
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from dctkd import methods
from dctkd.config import resolve
from dctkd.data.cache import PixelCache
from dctkd.data.host import HostSource
from dctkd.engine.best_epochs import note_test, results_of_best, weights_of_best
from dctkd.engine.census import published_census, surveyed_census
from dctkd.engine.cost import measure_costs
from dctkd.engine.estimate import estimate
from dctkd.engine.evaluate import Evaluation
from dctkd.engine.interrupt import InterruptedRunError
from dctkd.errors import InputError
from dctkd.metrics import Result
from tests.conftest import TINY
from tests.engine.test_pack import stop_after

NUM_TRAINED, NUM_HELD_OUT = 38, 12
"""Of 50 images of 12 classes, four or five each, a fifth of each class: one."""


@pytest.fixture
def held(tiny):
    tiny["recipes"]["short"] |= {"held_out_fraction": 0.2, "evaluate_every_epochs": 1}
    tiny["methods"] = {"kd": None, "crd": None}
    return tiny


def open_cache(experiment):
    return PixelCache.open(next(experiment.results.glob("cache/*/fingerprint.json")).parent)


def held_out_rows(cache):
    """Return the positions of the image with the smallest hash of each class among all training images."""
    ids, labels = cache.ids("train"), cache.labels("train").tolist()
    hashed = sorted((sha256(name.encode()).hexdigest(), row) for row, name in enumerate(ids))
    first = {}
    for _, row in hashed:
        first.setdefault(labels[row], row)
    return sorted(first.values())


def values(metrics):
    return {(r["metric"], r["stage"], r["split"]): r["value"] for r in metrics["results"]}


def curve(experiment, method, split):
    lines = map(json.loads, (experiment.store_folder(method) / "history.jsonl").read_text().splitlines())
    return [line["value"] for line in lines if (line["split"], line["name"]) == (split, "top1_percent")]


@pytest.fixture(scope="module")
def trained(make_shared_experiment):
    recipe = {**TINY["recipes"]["short"], "epochs": 4, "precision": "float32"}
    recipe |= {"held_out_fraction": 0.2, "evaluate_every_epochs": 1}
    rows = {"baseline": None, "kd": None, "crd": None}
    return make_shared_experiment("trained", recipes={"short": recipe}, methods=rows).prepare().train()


def test_teacher_and_students_are_trained_on_the_other_images_alone(make_experiment, held, monkeypatch):
    read, seen = HostSource.read, {"train": set(), "held_out": set(), "test": set()}

    def spy(source, crops):
        seen[crops.split] |= set(source.cache.offsets(crops.split)[crops.index_M].tolist())
        return read(source, crops)

    monkeypatch.setattr(HostSource, "read", spy)
    experiment = make_experiment(held).prepare().train()
    cache = open_cache(experiment)
    offsets, rows = cache.offsets("train"), held_out_rows(cache)
    assert len(rows) == NUM_HELD_OUT
    assert seen["held_out"] == set(offsets[rows].tolist())
    assert seen["train"] == set(np.delete(offsets, rows).tolist())
    assert len(seen["test"]) == 24


def test_a_method_is_told_the_labels_of_the_images_that_are_trained_on(make_experiment, held, monkeypatch):
    create, told = methods.create, []
    monkeypatch.setattr(methods, "create", lambda *args, **options: told.append(args[3]) or create(*args, **options))
    experiment = make_experiment(held).prepare().train()
    cache = open_cache(experiment)
    expected = np.delete(cache.labels("train"), held_out_rows(cache)).tolist()
    assert [(data.num_train_images, list(data.labels)) for data in told] == [(NUM_TRAINED, expected)] * 2


def test_steps_history_and_timing_count_the_images_that_are_trained_on(trained):
    folder = trained.store_folder("kd")
    steps = {json.loads(line)["step"] for line in (folder / "history.jsonl").read_text().splitlines()}
    assert steps == {3, 6, 9, 12}  # batches of 16, 16 and 6
    timing = json.loads((folder / "timing.json").read_text())
    assert round(timing["train_images_per_second"] * timing["train_seconds"]) == 4 * NUM_TRAINED


def test_the_held_out_accuracy_is_that_of_a_hand_made_evaluation(trained):
    cache, folder = open_cache(trained), trained.store_folder("kd")
    rows = held_out_rows(cache)
    crops = np.stack([cache.image("train", row)[2:34, 2:34] for row in rows])  # 36 pixels wide
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).double() / 255
    recipe = trained.plan.config.datasets["shapes"].input
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (recipe.mean, recipe.std))
    net = timm.create_model("resnet18", num_classes=12, **trained.raw["models"]["narrow"]["options"]).eval()
    net.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    with torch.no_grad():
        logits_BK = net(((images - mean) / std).float())
    target_B = torch.from_numpy(cache.labels("train")[rows])
    found = values(trained.metrics("kd"))
    expected = 100 * (logits_BK.argmax(dim=1) == target_B).sum().item() / NUM_HELD_OUT
    assert found["top1_percent", "last", "held_out"] == expected
    cross_entropy = torch.nn.functional.cross_entropy(logits_BK, target_B).item()
    assert found["cross_entropy_nats", "last", "held_out"] == pytest.approx(cross_entropy, rel=1e-5)  # other kernels


@pytest.mark.parametrize("method", ["baseline", "kd", "crd"])
def test_the_best_held_out_epoch_is_the_one_that_the_history_tells(trained, method):
    tested, held_out = curve(trained, method, "test"), curve(trained, method, "held_out")
    found, best = values(trained.metrics(method)), held_out.index(max(held_out))
    assert len(tested) == len(held_out) == 4
    assert found["top1_percent", "best_held_out", "test"] == tested[best]
    assert found["epoch", "best_held_out", "held_out"] == best + 1
    assert found["top1_percent", "last", "held_out"] == held_out[-1]
    assert found["top1_percent", "best_on_test", "test"] == max(tested)


def test_predictions_are_those_of_the_test_images_alone(trained):
    import pyarrow.parquet as pq

    table = pq.read_table(trained.store_folder("kd") / "predictions.parquet")
    assert table["id"].to_pylist() == open_cache(trained).ids("test")


def test_without_tests_in_training_the_last_epoch_alone_is_tested_on_the_held_out_images(make_experiment, held):
    held["recipes"]["short"]["evaluate_every_epochs"] = None
    experiment = make_experiment(held).prepare().train("kd")
    found = {key for key in values(experiment.metrics("kd")) if key[0] in ("top1_percent", "epoch")}
    assert found == {("top1_percent", "last", "test"), ("top1_percent", "last", "held_out")}
    assert curve(experiment, "kd", "held_out") == []


def test_a_run_that_holds_nothing_out_leaves_no_trace_of_it(make_experiment, tiny):
    tiny["recipes"]["short"]["evaluate_every_epochs"] = 1
    experiment = make_experiment(tiny).prepare().train("kd")
    assert "held_out" not in json.dumps(experiment.metrics("kd"))
    assert "held_out" not in "".join(path.read_text() for path in experiment.store_folder("kd").glob("*.[jy]*"))


def fake_learner():
    learner = SimpleNamespace(epoch=0, model=None, best={}, best_held_out={}, lines=[])
    learner.record = lambda *line: learner.lines.append(line)
    return learner


def test_of_equal_epochs_the_first_is_chosen_and_test_images_have_no_say():
    learner = fake_learner()
    for epoch, (test, held_out) in enumerate([(10, 20), (11, 60), (99, 60), (12, 59)], start=1):
        learner.epoch = epoch
        results = [(Result("top1_percent", "last", split, value, "percent"),) for split, value in
                   (("test", test), ("held_out", held_out))]  # fmt: skip
        note_test(learner, Evaluation(results[0], {}, results[1]), export=lambda _, epoch=epoch: bytes([epoch]))
    found = {(r.metric, r.stage): r.value for r in results_of_best(learner)}
    assert found == {
        ("top1_percent", "best_on_test"): 99,
        ("top1_percent", "best_held_out"): 11,
        ("epoch", "best_held_out"): 2,
    }
    expected = {"weights_best_on_test.safetensors": bytes([3]), "weights_best_held_out.safetensors": bytes([2])}
    assert weights_of_best(learner) == expected


def test_the_weights_of_the_best_held_out_epoch_are_kept_where_all_are(make_experiment, held):
    held["keep_weights"] = "all"
    experiment = make_experiment(held).prepare().train("kd")
    folder = experiment.store_folder("kd")
    assert {path.name for path in folder.glob("weights_*")} == {
        "weights_best_on_test.safetensors", "weights_best_held_out.safetensors"
    }  # fmt: skip


def test_a_pack_that_is_stopped_again_and_again_ends_with_the_same_bits(make_experiment, held):
    straight = make_experiment(held, "straight").prepare().train()
    resumed = make_experiment(held, "resumed").prepare()
    num_stops = 0
    for asks in itertools.cycle([1, 3, 4, 5]):  # in the build, in a step, in each part of a test
        try:
            resumed.train(interrupt=stop_after(asks))
        except InterruptedRunError:
            num_stops += 1
            assert num_stops < 60
        else:
            break
    assert num_stops > 8
    assert resumed.bits() == straight.bits()


def test_a_run_that_is_stopped_after_its_best_epoch_still_knows_it(make_experiment, held):
    held["recipes"]["short"] |= {"epochs": 3, "schedule": {"name": "step", "every_epochs": 1, "gamma": 1e-9}}
    straight = make_experiment(held, "straight").prepare().train("kd")
    assert values(straight.metrics("kd"))["epoch", "best_held_out", "held_out"] < 3
    resumed = make_experiment(held, "resumed").prepare()
    with pytest.raises(InterruptedRunError):
        resumed.train("kd", interrupt=stop_after(12))  # two epochs ask ten times: three steps, two tests each
    resumed.train("kd")
    assert resumed.bits() == straight.bits()


def test_students_side_by_side_have_the_bits_of_students_alone(make_experiment, held):
    together, alone = make_experiment(held, "together").prepare().train(), make_experiment(held, "alone").prepare()
    for method in held["methods"]:
        alone.train(method)
    assert together.bits() == alone.bits()


@pytest.mark.slow
def test_two_processes_test_the_held_out_images_as_one_does(make_shared_experiment):
    options = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "norm_layer": "groupnorm1"}
    recipe = {**TINY["recipes"]["short"], "precision": "float32", "held_out_fraction": 0.2}
    changes = {
        "models": {name: {"architecture": "resnet18", "options": options} for name in ("wide", "narrow")},
        "recipes": {"alone": recipe, "shared": {**recipe, "processes": 2}},
        "teacher_recipe": "alone",
        "methods": {"kd": None},
    }
    one, two = (
        make_shared_experiment(name, **changes, student_recipe=name).prepare().train() for name in ("alone", "shared")
    )
    found = [values(experiment.metrics("kd")) for experiment in (one, two)]
    assert found[0].keys() == found[1].keys()
    key = ("cross_entropy_nats", "last", "held_out")
    assert found[0][key] == pytest.approx(found[1][key], rel=2e-5)  # see test_ranks.py


def test_null_leaves_the_spec_as_it_was_and_each_fraction_has_its_own(make_experiment, tiny):
    runs = make_experiment(tiny, "former").plan.runs
    assert all("held_out_fraction" not in run.identity["recipe"] for run in runs)
    former, specs = {run.spec for run in runs}, []
    for fraction in (None, 0.1, 0.2):
        tiny["recipes"]["short"]["held_out_fraction"] = fraction
        specs.append({run.spec for run in make_experiment(tiny, str(fraction)).plan.runs})
    assert specs[0] == former
    assert not specs[0] & specs[1]
    assert not specs[1] & specs[2]


@pytest.mark.parametrize("fraction", [None, 0.1])
def test_a_teacher_that_would_see_what_students_hold_out_is_refused(tiny, fraction):
    tiny["recipes"]["long"] = {**tiny["recipes"]["short"], "held_out_fraction": fraction}
    tiny["recipes"]["short"]["held_out_fraction"] = 0.2
    tiny["teacher_recipe"] = "long"
    with pytest.raises(InputError, match=r"tiny\.yaml: recipes\.long\.held_out_fraction: .*set it to 0\.2, got"):
        resolve(tiny, where="tiny.yaml")


@pytest.mark.parametrize("change", [{"epochs": 0}, {"held_out_fraction": 0.2}, {"held_out_fraction": 0.3}])
def test_a_teacher_that_sees_none_of_them_or_is_not_trained_here_is_not_refused(tiny, change):
    tiny["recipes"]["long"] = {**tiny["recipes"]["short"], **change}
    tiny["recipes"]["short"]["held_out_fraction"] = 0.2
    tiny["teacher_recipe"] = "long"
    resolve(tiny, where="tiny.yaml")


def test_a_fraction_that_holds_out_no_image_stops_the_job_with_one_line(make_experiment, held):
    held["recipes"]["short"]["held_out_fraction"] = 0.05
    with pytest.raises(InputError, match=r"held_out_fraction 0\.05 holds out no image"):
        make_experiment(held).prepare()


def test_what_is_counted_before_and_after_packing_is_what_is_trained_on(make_experiment, held):
    experiment = make_experiment(held).prepare_data()
    plan, recipe = experiment.plan, experiment.plan.config.recipes["short"]
    for size in (surveyed_census(plan, "shapes"), published_census(plan, experiment.results)["shapes"]):
        assert (size.num_train_images, size.num_trained(recipe)) == (50, NUM_TRAINED)


def test_estimates_and_costs_are_those_of_the_images_that_are_trained_on(make_experiment, held):
    found, costs = {}, {}
    for fraction in (None, 0.2):
        held["recipes"]["short"]["held_out_fraction"] = fraction
        experiment = make_experiment(held, str(fraction)).prepare_data()
        costs[fraction] = measure_costs(experiment.plan, published_census(experiment.plan, experiment.results))
        found[fraction] = estimate(experiment.plan, experiment.results, costs=costs[fraction])
    assert found[0.2]["macs"] * 50 == found[None]["macs"] * NUM_TRAINED
    assert found[0.2]["datasets"]["shapes"]["num_held_out_images"] == NUM_HELD_OUT
    assert "num_held_out_images" not in found[None]["datasets"]["shapes"]
    crd = [costs[fraction]["methods"]["shapes/wide__narrow/crd"]["checkpoint_bytes"] for fraction in (None, 0.2)]
    assert crd[0] - crd[1] == 2 * NUM_HELD_OUT * 128 * 4  # two memories with 128 float32 numbers of each image


def test_costs_and_estimates_are_renewed_for_another_fraction_only(make_experiment, tiny):
    former = make_experiment(tiny, "former").plan
    tiny["recipes"]["short"]["held_out_fraction"] = None
    null = make_experiment(tiny, "null").plan
    tiny["recipes"]["short"]["held_out_fraction"] = 0.2
    other = make_experiment(tiny, "other").plan
    assert (null.cost_spec, null.speed_spec) == (former.cost_spec, former.speed_spec)
    assert other.cost_spec != former.cost_spec
    assert other.speed_spec != former.speed_spec
