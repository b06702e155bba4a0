"""A batch in pieces: the same step where images do not touch each other, refused where they do."""

import pytest
import torch

from dctkd.engine.build import require_separable_batches
from dctkd.engine.learner import Learner
from dctkd.errors import InputError
from dctkd.methods import METHODS, catalogue

SEPARABLE = [name for name, entry in catalogue.read().items() if not entry["needs_whole_batch"]]
NORMALISING = ["fitnets", "review", "fam"]


@pytest.fixture
def grouped(tiny):
    """The tiny experiment with group normalisation, in float32."""
    for model in tiny["models"].values():
        model["options"] |= {"norm_layer": "groupnorm1", "channels": [8, 8, 16, 16]}
    tiny["recipes"]["short"] |= {"precision": "float32", "clip_grad_norm": 5.0, "teacher_correct_only": True}
    return tiny


def gradients_of_first_steps(experiment, monkeypatch):
    """Train; return each row's gradient before its first step."""
    gradients = {}
    take_step = Learner.take_step

    def noted(self, num_images):
        if self.step == 0:
            parts = [p.grad.flatten() for p in self.parameters if p.grad is not None]
            gradients[self.name] = torch.cat(parts).double()
        take_step(self, num_images)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "take_step", noted)
        experiment.prepare().train()
    return gradients


@pytest.mark.parametrize("size", [5, 8])
def test_the_first_gradient_is_that_of_the_whole_batch(make_experiment, grouped, monkeypatch, size):
    rows = [*(name for name in SEPARABLE if name not in NORMALISING), "at+kd"]
    grouped["methods"] = {name: {"warmup_epochs": 0} for name in rows}
    grouped["recipes"]["short"]["epochs"] = 1
    whole = gradients_of_first_steps(make_experiment(grouped, "whole"), monkeypatch)
    grouped["recipes"]["short"]["micro_batch"] = size
    parts = gradients_of_first_steps(make_experiment(grouped, "parts"), monkeypatch)
    assert len(whole) == len(rows) + 1
    distance = {name: ((parts[name] - whole[name]).norm() / whole[name].norm()).item() for name in whole}
    # float32 sums in another order: 1e-7 per addition, a few hundred of them.
    assert {name: value for name, value in distance.items() if value > 2e-5} == {}


def test_a_micro_batch_as_large_as_the_batch_gives_the_same_bits(make_experiment, grouped):
    whole = make_experiment(grouped, "whole").prepare().train("kd")
    grouped["recipes"]["short"]["micro_batch"] = 16
    same = make_experiment(grouped, "same").prepare().train("kd")
    assert same.metrics("kd")["weights_sha256"] == whole.metrics("kd")["weights_sha256"]


def test_it_is_part_of_the_digest_and_null_leaves_the_digest_as_it_was_before_it_existed(make_experiment, grouped):
    former = make_experiment(grouped, "former").plan
    assert all("micro_batch" not in run.identity["recipe"] for run in former.runs)
    grouped["recipes"]["short"]["micro_batch"] = None
    assert [run.spec for run in make_experiment(grouped, "null").plan.runs] == [run.spec for run in former.runs]
    grouped["recipes"]["short"]["micro_batch"] = 4
    assert not {run.spec for run in make_experiment(grouped, "four").plan.runs} & {run.spec for run in former.runs}


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(SEPARABLE)))
def test_a_method_that_relates_images_is_refused_when_the_plan_is_made(make_experiment, grouped, method):
    grouped["recipes"]["short"]["micro_batch"] = 4
    grouped["methods"] = {method: None}
    with pytest.raises(InputError, match=rf"methods\.{method}: .*remove micro_batch from recipes\.short"):
        _ = make_experiment(grouped).plan


def test_batch_normalisation_is_refused_with_the_layer(make_experiment, tiny):
    tiny["recipes"]["short"]["micro_batch"] = 4
    with pytest.raises(InputError, match=r"recipes\.short\.micro_batch: resnet18 .*bn1.*norm_layer"):
        require_separable_batches(make_experiment(tiny).plan)


def test_a_network_without_batch_normalisation_is_not_refused(make_experiment, grouped):
    grouped["recipes"]["short"]["micro_batch"] = 4
    grouped["methods"] = {name: None for name in SEPARABLE if name not in NORMALISING}
    require_separable_batches(make_experiment(grouped).plan)


@pytest.mark.parametrize("method", NORMALISING)
def test_batch_normalisation_in_a_method_s_layers_is_refused(make_experiment, grouped, method):
    grouped["recipes"]["short"]["micro_batch"] = 4
    grouped["methods"] = {"baseline": None, method: None}
    with pytest.raises(InputError, match=rf"the layers of row {method} normalise over the batch"):
        require_separable_batches(make_experiment(grouped).plan)
