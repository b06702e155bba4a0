"""What makes a run faster changes nothing of it: the demo's first seed, one epoch long, with such things on and off.

A whole demo is compared with its published tables where they are renewed (docs/results/demo); packs cut by memory are
compared in test_footprint.py, pixels that live on the device in tests/data/test_pixel_source.py.
"""

import json
from pathlib import Path

import pytest

from dctkd.engine import pack
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


@pytest.mark.slow
def test_the_demo_s_first_seed_has_the_same_metrics_side_by_side_with_memory_kept(make_shared_experiment, one_by_one):
    assert published(demo(make_shared_experiment, "side-by-side").prepare().train()) == one_by_one
