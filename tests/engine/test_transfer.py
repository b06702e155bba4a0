"""From one task to another: weights of finished runs are where others start, and first stages stay as they are."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from dctkd.engine import footprint, learner
from dctkd.engine.cost import measure_costs
from dctkd.engine.estimate import published_census
from dctkd.engine.interrupt import Interrupt, InterruptedRunError
from dctkd.freezing import parameters_up_to
from dctkd.timm_networks import sketch_network
from tests.conftest import TINY

FROZEN = {"conv1.weight", "bn1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer1.0.bn2.bias"}
"""Some of the stem's and the first stage's weights in the tiny ResNets."""

GROUPED = {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16]}


@pytest.fixture(scope="module")
def source(make_shared_experiment):
    """Teacher and student that are trained on twelve classes."""
    return make_shared_experiment("source", methods={"baseline": None}).prepare().train()


def grouped_source(make):
    models = copy.deepcopy(TINY["models"])
    for model in models.values():
        model["options"] |= GROUPED
    return make("grouped", methods={"baseline": None}, models=models).prepare().train()


def starts(source):
    """Return where the published weights of a source's teacher and student lie, as their edges' links say."""
    results, (teacher,), (student,) = source.results, source.plan.teachers, source.plan.runs
    return {
        name: (results / run.path).parent / "store" / "weights.safetensors"
        for name, run in (("wide", teacher), ("narrow", student))
    }


def transfer(source, **recipe):
    """An experiment on six classes whose networks start where those of the source ended."""
    raw = copy.deepcopy({**source.raw, "experiment": "transfer", "methods": {"dct": None, "fitnets": None}})
    raw["datasets"]["shapes"]["options"] |= {"num_classes": 6}
    for name, path in starts(source).items():
        raw["models"][name]["weights"] = str(path)
    raw["pairs"] = [{"teacher": "wide", "student": "narrow", "stages": [[2, 2], [3, 3]]}]
    raw["recipes"]["short"] |= {"frozen_stages": 1, **recipe}
    return raw


def ends(experiment):
    """Return the weights of the trained teacher and of the student of each row."""
    folders = {"wide": experiment.store.path / experiment.teacher_digest}
    folders |= {row: experiment.store_folder(row) for row in experiment.raw["methods"]}
    return {name: load_file(folder / "weights.safetensors") for name, folder in folders.items()}


def changed(before, after):
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def frozen_names(experiment, model="narrow"):
    described = experiment.raw["models"][model]
    return parameters_up_to(sketch_network(described["architecture"], described["options"]), 1, input_size=32)


@pytest.fixture(scope="module")
def transferred(source, make_shared_experiment):
    return make_shared_experiment("transferred", **transfer(source)).prepare().train()


@pytest.mark.parametrize("name", ["wide", "dct", "fitnets"])
def test_frozen_weights_keep_their_bits_from_one_task_to_the_other(source, transferred, name):
    model = "wide" if name == "wide" else "narrow"
    before, after = load_file(starts(source)[model]), ends(transferred)[name]
    weights = {key for key in before if "running" not in key and "num_batches" not in key}
    assert frozen_names(transferred, model) >= FROZEN
    head = {"fc.weight", "fc.bias"}
    assert changed({key: before[key] for key in weights - head}, after) == weights - head - frozen_names(
        transferred, model
    )
    assert (before["fc.weight"].shape[0], after["fc.weight"].shape[0]) == (12, 6)


def test_statistics_of_frozen_batch_normalisation_move(source, transferred):
    before, after = load_file(starts(source)["narrow"]), ends(transferred)["dct"]
    statistics = {"bn1.running_mean", "bn1.running_var", "layer1.0.bn1.running_mean", "layer1.0.bn2.running_var"}
    assert statistics <= changed(before, after)


def test_students_of_all_methods_start_from_the_same_new_classifier(source, make_experiment):
    raw = transfer(source, epochs=1, optimiser={"name": "sgd", "lr": 1e-30, "weight_decay": 0.0})
    weights = ends(make_experiment(raw).prepare().train())
    assert torch.equal(weights["dct"]["fc.weight"], weights["fitnets"]["fc.weight"])
    assert weights["dct"]["fc.weight"].abs().max() > 0.01  # drawn, not zeros that steps of 1e-30 have moved


def test_only_the_deeper_stages_are_compared(transferred):
    folder = transferred.store_folder("fitnets")
    assert "- - 2\n    - 2\n  - - 3\n    - 3\n" in (folder / "config.yaml").read_text()


def test_where_it_starts_is_part_of_a_run_s_identity(source, make_experiment):
    raw = transfer(source)
    specs = {make_experiment(raw, "whole").plan.runs[0].spec}
    raw["models"]["narrow"]["weights"] = raw["models"]["wide"]["weights"]
    specs.add(make_experiment(raw, "another").plan.runs[0].spec)
    assert len(specs) == 2


def test_frozen_stages_are_part_of_a_recipe_s_identity_and_null_is_not(make_experiment, tiny):
    former = make_experiment(tiny, "former").plan
    assert all("frozen_stages" not in run.identity["recipe"] for run in (*former.runs, *former.teachers))
    tiny["recipes"]["short"]["frozen_stages"] = None
    null = make_experiment(tiny, "null").plan
    assert (null.runs, null.teachers) == (former.runs, former.teachers)
    assert (null.cost_spec, null.speed_spec) == (former.cost_spec, former.speed_spec)
    tiny["recipes"]["short"]["frozen_stages"] = 1
    frozen = make_experiment(tiny, "one").plan
    assert {run.spec for run in (*frozen.runs, *frozen.teachers)}.isdisjoint(
        run.spec for run in (*former.runs, *former.teachers)
    )
    assert frozen.cost_spec != former.cost_spec
    assert frozen.speed_spec != former.speed_spec


def noted_learners(monkeypatch):
    """Return a list to which each learner is added, with the gradients that its frozen weights have, in each step."""
    seen, take_step = [], learner.Learner.take_step

    def noted(self, num_images):
        frozen = [p for p in self.model.parameters() if not p.requires_grad]
        held = {id(p) for group in self.optimiser.param_groups for p in group["params"]}
        seen.append((len(frozen), [p.grad for p in frozen if p.grad is not None], held & {id(p) for p in frozen}))
        take_step(self, num_images)

    monkeypatch.setattr(learner.Learner, "take_step", noted)
    return seen


RECIPES = {
    "clipped": {"clip_grad_norm": 0.1},
    "adamw that decays": {"optimiser": {"name": "adamw", "lr": 0.01, "weight_decay": 0.5}},
    "sgd that decays": {"optimiser": {"name": "sgd", "lr": 0.05, "weight_decay": 0.5, "nesterov": True}},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_no_optimiser_touches_what_is_frozen(source, make_experiment, monkeypatch, recipe):
    seen = noted_learners(monkeypatch)
    experiment = make_experiment(transfer(source, epochs=1, **recipe)).prepare().train("dct")
    assert {(number > 0, len(gradients), len(held)) for number, gradients, held in seen} == {(True, 0, 0)}
    after = load_file(experiment.store_folder("dct") / "weights.safetensors")
    assert changed(load_file(starts(source)["narrow"]) | {"fc.weight": after["fc.weight"]}, after).isdisjoint(
        frozen_names(experiment)
    )


def test_micro_batches_leave_frozen_weights_alone(make_shared_experiment, make_experiment):
    source = grouped_source(make_shared_experiment)
    raw = transfer(source, micro_batch=8)
    raw["methods"] = {"dct": None}
    experiment = make_experiment(raw).prepare().train()
    before, after = load_file(starts(source)["narrow"]), ends(experiment)["dct"]
    body = {name: tensor for name, tensor in before.items() if not name.startswith("fc.")}
    assert changed(body, after) == set(body) - frozen_names(experiment)


class StopAfter(Interrupt):
    """An interrupt that asks to stop after some questions."""

    def __init__(self, questions):
        super().__init__()
        self.left = questions

    @property
    def requested(self):
        self.left -= 1
        return self.left <= 0


@pytest.mark.parametrize("questions", [4, 7])
def test_a_run_with_frozen_stages_that_is_stopped_and_resumed_has_the_same_bits(
    source, transferred, make_experiment, questions
):
    experiment = make_experiment(transfer(source)).prepare()
    with pytest.raises(InterruptedRunError):
        experiment.train(interrupt=StopAfter(questions))
    assert list(experiment.store.path.rglob("checkpoint*"))
    assert experiment.train().bits() == transferred.bits()


def test_a_diverging_run_with_frozen_stages_is_a_result(source, make_experiment):
    raw = transfer(source)
    raw["recipes"]["wild"] = {**raw["recipes"]["short"], "optimiser": {"name": "sgd", "lr": 1e30}}
    raw |= {"student_recipe": "wild", "methods": {"dct": None}}
    assert make_experiment(raw).prepare().train().metrics("dct")["status"] == "diverged"


def test_frozen_stages_are_counted_with_no_gradient_no_momentum_and_no_maps(source, make_experiment, monkeypatch):
    counted = {}
    takes = footprint.Room.takes

    def noted(self, built):
        counted[built.identity.recipe.frozen_stages] = (footprint.kept_bytes(built), footprint.step_bytes(built))
        return takes(self, built)

    monkeypatch.setattr(footprint.Room, "takes", noted)
    for number, name in ((1, "one"), (None, "none")):
        make_experiment(transfer(source, epochs=1, frozen_stages=number), name).prepare().train()
    names = frozen_names(source)
    weights = load_file(starts(source)["narrow"])
    frozen_bytes = sum(weights[name].nbytes for name in names)
    assert counted[None][0] - counted[1][0] == frozen_bytes  # SGD's momentum
    stem_maps = 16 * 64 * 16 * 16 * 4  # images, channels, positions, bytes: what the stem's normalisation would keep
    assert counted[None][1] - counted[1][1] > frozen_bytes + stem_maps


def test_the_cost_table_counts_no_momentum_of_what_is_frozen(source, transferred, make_experiment):
    costs = {}
    for number, name in ((1, "one"), (None, "none")):
        plan = make_experiment(transfer(source, frozen_stages=number), name).plan
        census = published_census(transferred.plan, transferred.results)
        costs[number] = measure_costs(plan, census)["methods"]["shapes/wide__narrow/dct"]["checkpoint_bytes"]
    weights = load_file(starts(source)["narrow"])
    assert costs[None] - costs[1] == sum(weights[name].nbytes for name in frozen_names(source))


@pytest.mark.slow
def test_compiled_networks_with_frozen_stages_end_with_the_bits_of_plain_ones(source, make_experiment, monkeypatch):
    usual = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, *, mode, **more: usual(self, backend="eager", **more))
    raw = transfer(source, precision="float32")
    plain = make_experiment(raw, "plain").prepare().train()
    raw["recipes"]["short"]["compile"] = "default"
    compiled = make_experiment(raw, "compiled").prepare().train()
    sha256 = {row: plain.metrics(row)["weights_sha256"] for row in raw["methods"]}
    assert sha256 == {row: compiled.metrics(row)["weights_sha256"] for row in raw["methods"]}


@pytest.mark.slow
def test_processes_that_share_a_run_leave_frozen_weights_alone(source, make_experiment):
    raw = transfer(source, processes=2, synchronise_batch_norm=False)
    raw["methods"] = {"dct": None}
    experiment = make_experiment(raw).prepare().train()
    before, after = load_file(starts(source)["narrow"]), ends(experiment)["dct"]
    body = {name: tensor for name, tensor in before.items() if not name.startswith("fc.")}
    moved = changed(body, after)
    assert moved.isdisjoint(frozen_names(experiment))
    assert {"bn1.running_mean", "layer2.0.conv1.weight", "layer4.0.bn2.weight"} <= moved
