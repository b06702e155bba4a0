"""What holds for one learner: a value that is not finite never reaches the weights, looked at or not."""

import pytest
import torch
from torch import nn

from dctkd.engine.failure import DivergedError
from dctkd.engine.learner import Learner, LoopShape
from dctkd.engine.objective import Terms
from dctkd.identity import Identity
from dctkd.methods.base import Batch
from dctkd.models import Outputs

STEPS = 12


class Line(nn.Module):
    """A network of one weight."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 2, bias=False)

    def forward(self, images_BCHW):
        return Outputs(self.layer(images_BCHW.flatten(1)), (), images_BCHW.flatten(1))


class Breaks(nn.Module):
    """A loss that is not finite in one step, in its value or in its gradient alone."""

    def __init__(self, at, how):
        super().__init__()
        self.calls, self.at, self.how = 0, at, how

    def forward(self, student, teacher, batch, *, ramp):
        self.calls += 1
        loss = student.logits_BK.square().mean()
        if self.calls - 1 == self.at:
            loss = loss * float("inf") if self.how == "loss" else loss + (loss * 0).sqrt()  # gradient 0/0, value finite
        return Terms(loss, {"ce": loss.detach()})


def make_learner(make_experiment, tiny, objective, *, optimiser, look_every_steps, name="a"):
    tiny["recipes"]["short"]["optimiser"] = optimiser
    identity = Identity.model_validate(make_experiment(tiny, name).plan.teachers[0].identity)
    shape = LoopShape(STEPS, STEPS, torch.device("cpu"), "float32", look_every_steps)
    learner = Learner("line", "digest", identity, Line(), objective, shape)
    if look_every_steps > 1:  # as on GPU
        make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimiser["name"]]
        learner.optimiser = make(learner.parameters, lr=0.1, fused=True)
    return learner


def batch():
    target_B = torch.tensor([0, 1])
    return Batch(torch.ones(2, 1, 1, 1), target_B, target_B, epoch=0, progress=0.0)


def train_to_the_end(learner):
    while learner.is_running:
        learner.train_on(batch(), None)


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("look", [1, 5])
def test_weights_stay_at_the_last_finite_step(make_experiment, tiny, how, name, look):
    learner = make_learner(
        make_experiment, tiny, Breaks(7, how), optimiser={"name": name, "lr": 0.1}, look_every_steps=look
    )
    for _ in range(7):
        learner.train_on(batch(), None)
    before = learner.model.layer.weight.clone()
    with pytest.raises(DivergedError) as caught:
        train_to_the_end(learner)
    assert torch.equal(learner.model.layer.weight, before)
    assert learner.step == (7 if look == 1 else 10)
    assert {"loss": "loss", "gradient": "gradient norm"}[how] in str(caught.value) or look > 1
    assert learner.last_finite["step"] == (6 if look == 1 else 5)


def test_the_last_finite_values_survive_a_resume(make_experiment, tiny):
    pieces = {"optimiser": {"name": "sgd", "lr": 0.1}, "look_every_steps": 1}
    learner = make_learner(make_experiment, tiny, Breaks(99, "loss"), **pieces)
    learner.train_on(batch(), None)
    resumed = make_learner(make_experiment, tiny, Breaks(99, "loss"), **pieces, name="b")
    resumed.load_state_dict(learner.state_dict())
    assert resumed.last_finite == learner.last_finite
    assert resumed.last_finite["loss"] > 0
