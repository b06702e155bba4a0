"""What makes a run faster changes nothing of it: the demo's first seed, one epoch long, with such things on and off.

A whole demo is compared with its published tables where they are renewed (docs/results/demo).
"""

import json
from pathlib import Path

import pytest

from dctkd.engine import footprint, pack
from dctkd.yaml_text import read_yaml

DEMO = Path(__file__).parents[2] / "config" / "demo.yaml"


def demo(make_shared_experiment, name):
    raw = read_yaml(DEMO) | {"seeds": [0]}
    for recipe in raw["recipes"].values():
        recipe |= {"epochs": 1, "threads": 1}
    return make_shared_experiment(name, **raw)


def published(experiment):
    """Metrics of every run, as text: results, hashes of weights and predictions."""
    return {row: json.dumps(experiment.metrics(row), sort_keys=True) for row in experiment.raw["methods"]}


@pytest.fixture(scope="module")
def one_by_one(make_shared_experiment):
    """Every student in a job of its own, memory given back at once, no cut by memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack, "keep_freed_memory", lambda: False)
        experiment = demo(make_shared_experiment, "one-by-one").prepare()
        for row in experiment.raw["methods"]:
            experiment.train(row)
    return published(experiment)


def all_side_by_side_with_memory_kept(_):
    pass


def cut_by_memory(monkeypatch):
    monkeypatch.setattr(footprint, "step_bytes", lambda _: 0)
    monkeypatch.setattr(footprint, "kept_bytes", lambda _: 1)
    monkeypatch.setattr(pack, "teacher_bytes", lambda *_, **__: 0)
    monkeypatch.setattr(pack, "granted_bytes", lambda *_: 4)


@pytest.mark.slow
@pytest.mark.parametrize("faster", [all_side_by_side_with_memory_kept, cut_by_memory])
def test_the_demo_s_first_seed_has_the_same_metrics(make_shared_experiment, one_by_one, monkeypatch, faster):
    faster(monkeypatch)
    assert published(demo(make_shared_experiment, faster.__name__).prepare().train()) == one_by_one
