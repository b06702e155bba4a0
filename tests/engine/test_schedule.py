"""Learning rates, against hand-worked values and torch's own schedulers."""

import pytest
import torch

from dctkd.engine.schedule import lr_at, ramp_at
from dctkd.recipe import Schedule


def rates(schedule, *, epochs, steps_per_epoch, peak=0.1):
    steps = range(epochs * steps_per_epoch)
    return [lr_at(schedule, step=s, steps_per_epoch=steps_per_epoch, epochs=epochs, peak=peak) for s in steps]


def torch_rates(make, *, epochs, steps_per_epoch, per_step):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimiser)
    seen = []
    for _ in range(epochs):
        for _ in range(steps_per_epoch):
            seen.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            if per_step:
                scheduler.step()
        if not per_step:
            scheduler.step()
    return seen


def test_step_decay_is_p1s_steplr():
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.StepLR(o, 25, gamma=0.1), epochs=70, steps_per_epoch=3, per_step=False
    )
    assert rates(Schedule(name="step", every_epochs=25), epochs=70, steps_per_epoch=3) == pytest.approx(expected)


def test_multistep_decay_is_torchs():
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 5], gamma=0.5),
        epochs=7,
        steps_per_epoch=2,
        per_step=False,
    )
    schedule = Schedule(name="multistep", milestones_epochs=(2, 5), gamma=0.5)
    assert rates(schedule, epochs=7, steps_per_epoch=2) == pytest.approx(expected)


def test_cosine_decay_is_torchs():
    expected = torch_rates(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20), epochs=5, steps_per_epoch=4, per_step=True
    )
    assert rates(Schedule(name="cosine"), epochs=5, steps_per_epoch=4) == pytest.approx(expected)


def test_warmup_rises_linearly_and_ends_at_the_peak():
    seen = rates(Schedule(name="constant", warmup_epochs=2), epochs=3, steps_per_epoch=2, peak=0.4)
    assert seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_methods_weight_ramps_from_zero_to_one():
    ramp = [ramp_at(2.0, step=step, steps_per_epoch=2) for step in range(6)]
    assert ramp == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])
    assert ramp_at(0.0, step=0, steps_per_epoch=2) == 1.0
