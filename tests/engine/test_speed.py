"""speed.json: which networks, in which setting, and what makes it stale."""

import json

import pytest
from typer.testing import CliRunner

from dctkd import cli, models
from dctkd.engine import estimate, latency
from dctkd.engine.census import published_census
from dctkd.engine.cost import measure_costs
from dctkd.engine.packing import publish_data
from dctkd.engine.speed import measure_speed
from dctkd.errors import InputError
from dctkd.provenance import environment
from dctkd.store import write_json


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(latency, "MIN_REPEATS", 2)
    monkeypatch.setattr(latency, "MAX_REPEATS", 2)
    monkeypatch.setattr(latency, "NUM_WARMUPS", 0)


@pytest.fixture
def prepared(make_experiment, tiny):
    """Return an experiment on the CPU with its data and costs, where nothing is trained."""

    def prepare(**changes):
        experiment = make_experiment({**tiny, "device": "cpu", **changes})
        plan, results = experiment.plan, experiment.results
        for dataset in plan.config.datasets:
            publish_data(plan, results / plan.name / dataset / "data.json", results, workers=1)
        write_json(results / plan.name / "cost.json", measure_costs(plan, published_census(plan, results)))
        return experiment

    return prepare


def test_every_network_of_the_costs_is_timed_at_batch_sizes_1_and_64(prepared, tiny):
    pairs = [{"teacher": "wide", "student": "narrow"}, {"teacher": "narrow", "student": "wide"}]
    experiment = prepared(pairs=pairs, datasets=dict.fromkeys(("one", "two"), tiny["datasets"]["shapes"]))
    content = measure_speed(experiment.plan, experiment.results)
    costs = json.loads((experiment.results / "tiny/cost.json").read_text())
    assert set(content["latency"]) == set(costs["models"]) == {"one/wide", "one/narrow", "two/wide", "two/narrow"}
    for network in content["latency"].values():
        assert set(network) == {"1", "64"}
        assert all(0 < at["p10_seconds"] <= at["median_seconds"] <= at["p90_seconds"] for at in network.values())
        assert all(at["repeats"] == 2 for at in network.values())
    assert content["input_size"] == {"one": 32, "two": 32}


def test_networks_are_timed_in_the_setting_of_the_students_recipe(prepared, tiny, monkeypatch):
    recipes = {"slow": tiny["recipes"]["short"], "short": tiny["recipes"]["short"] | {"threads": 2}}
    recipes["short"]["precision"] = "bfloat16"
    experiment = prepared(recipes=recipes, teacher_recipe="slow")
    seen = []
    measure = latency.measure_latency

    def note(model, **arguments):
        seen.append((str(arguments["setting"].device), arguments["setting"].precision, arguments["setting"].threads))
        return measure(model, **arguments)

    monkeypatch.setattr("dctkd.engine.speed.measure_latency", note)
    content = measure_speed(experiment.plan, experiment.results)
    assert seen == [("cpu", "bfloat16", 2)] * 4
    assert content["platform"] == environment("cpu", "bfloat16", 2)["platform"]


def test_the_estimate_is_that_of_the_plan_without_counting_again(prepared, monkeypatch):
    experiment = prepared()
    whole = estimate.estimate(experiment.plan, experiment.results)
    monkeypatch.setattr(estimate, "measure_costs", lambda *_: pytest.fail("counted again"))
    content = measure_speed(experiment.plan, experiment.results)
    assert content["estimate"]["macs"] == whole["macs"]
    assert content["estimate"]["measured_on"] == {"device": "cpu", "cores": 1}
    assert content["estimate"]["core_seconds"] > 0


def test_no_pretrained_weights_are_asked_for(prepared, tiny, monkeypatch):
    monkeypatch.setattr(models, "_pretrained_state", lambda *_: pytest.fail("asked for weights"))
    wide = {"architecture": "resnet18.a1_in1k", "pretrained": True}
    experiment = prepared(models={**tiny["models"], "wide": wide})
    assert "shapes/wide" in measure_speed(experiment.plan, experiment.results)["latency"]


def test_costs_that_are_missing_or_older_than_the_plan_are_named(prepared):
    experiment = prepared()
    file = experiment.results / "tiny/cost.json"
    costs = json.loads(file.read_text())
    del costs["methods"]["shapes/wide__narrow/at"]
    write_json(file, costs)
    with pytest.raises(InputError, match=r"cost\.json: methods lack shapes/wide__narrow/at; run snakemake again"):
        measure_speed(experiment.plan, experiment.results)
    file.unlink()
    with pytest.raises(InputError, match=r"cost\.json: no such file"):
        measure_speed(experiment.plan, experiment.results)


def test_the_command_writes_speed_json(prepared, monkeypatch):
    experiment = prepared()
    plan_file = experiment.results / "tiny/plan.json"
    plan_file.write_text(experiment.plan.to_json())
    monkeypatch.chdir(experiment.folder)
    target = "results/tiny/speed.json"
    done = CliRunner().invoke(cli.app, ["speed", "--plan", "results/tiny/plan.json", target], catch_exceptions=False)
    assert done.exit_code == 0
    content = json.loads((experiment.folder / target).read_text())
    assert set(content) == {"latency", "input_size", "estimate", "platform"}


def changed(raw, path, value):
    *parents, last = path.split(".")
    part = raw
    for parent in parents:
        part = part[parent]
    part[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "is_renewed"),
    [
        ("datasets.shapes.input.crop", 28, True),
        ("models.wide.options.channels", [8, 8, 16, 32], True),
        ("models.narrow.architecture", "resnet34", True),
        ("recipes.short.threads", 2, True),
        ("recipes.short.batch_size", 8, True),
        ("recipes.short.precision", "float32", True),
        ("recipes.short.epochs", 3, True),
        ("recipes.short.optimiser.lr", 0.2, False),
        ("methods.at", {"weight": 7}, False),
        ("datasets.shapes.input.mean", [0.1, 0.1, 0.1], False),
        ("title", "another", False),
        ("students_per_job", 1, False),
    ],
)
def test_speed_is_measured_again_when_what_is_timed_changes_and_only_then(
    make_experiment, tiny, path, value, is_renewed
):
    before = make_experiment(tiny, "before").plan.speed_spec
    assert (make_experiment(changed(tiny, path, value), "after").plan.speed_spec != before) is is_renewed
