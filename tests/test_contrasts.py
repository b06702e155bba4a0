"""Contrasts of an experiment file: the short form, and what cannot be measured is refused."""

import copy

import pytest

from dctkd.config import resolve
from dctkd.contrasts import Side
from dctkd.errors import InputError

RECIPE = {
    "epochs": 2,
    "batch_size": 8,
    "optimiser": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "constant"},
    "held_out_fraction": 0.25,
    "evaluate_every_epochs": 1,
}
EXPERIMENT = {
    "experiment": "audited",
    "datasets": {"shapes": {"format": "synthscenes", "input": {"crop": 32}}},
    "models": {"net": {"architecture": "resnet18"}},
    "pairs": [{"teacher": "net", "student": "net"}],
    "methods": {"baseline": None, "kd": None},
    "recipes": {"short": RECIPE},
    "student_recipe": "short",
    "teacher_recipe": "short",
    "seeds": [0],
}


def experiment(a, b="baseline", **recipe):
    raw = copy.deepcopy(EXPERIMENT)
    raw["recipes"]["short"] |= recipe
    raw["audit"] = {"sources": ["p1"], "contrasts": {"d1": [{"label": "one", "a": a, "b": b}]}}
    return resolve(raw, where="audited.yaml")


def test_the_name_of_a_row_is_a_side():
    contrast = experiment("kd").audit.contrasts["d1"][0]
    assert contrast.a == Side(row="kd")
    assert (contrast.a.weight, contrast.a.epoch, contrast.a.meter) == ("own", "last", "exact")


@pytest.mark.parametrize(
    ("a", "recipe", "message"),
    [
        ("kdd", {}, "audit.contrasts.d1.0.a: no row 'kdd' under methods"),
        ({"row": "kd", "epoch": "best_on_test"}, {"evaluate_every_epochs": None}, "evaluate_every_epochs"),
        ({"row": "kd", "epoch": "best_held_out"}, {"held_out_fraction": None}, "held_out_fraction"),
        ({"row": "kd", "weight": "held_out"}, {"held_out_fraction": None}, "held_out_fraction"),
        ({"row": "kd", "epoch": "best_on_test", "meter": "released"}, {}, "leave epoch out"),
        ({"row": "kd", "wait": 1}, {}, "wait"),
        ("*", {}, "both be a row, or both *"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_place(a, recipe, message):
    with pytest.raises(InputError, match=r"audited\.yaml") as caught:
        experiment(a, **recipe)
    assert message in str(caught.value)


def test_best_on_test_needs_no_held_out_images():
    assert experiment({"row": "*", "epoch": "best_on_test"}, "*", held_out_fraction=None).audit is not None
