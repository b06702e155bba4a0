"""Learning rate as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from dctkd.recipe import Schedule


def lr_at(schedule: Schedule, *, step: int, steps_per_epoch: int, epochs: int, peak: float) -> float:
    """Return the learning rate of one step.

    Args:
        schedule: The recipe's schedule.
        step: Steps done before this one.
        steps_per_epoch: Steps of one epoch.
        epochs: Epochs of the whole run.
        peak: The optimiser's `lr`.

    Returns:
        During the warm-up a linear rise that ends at the peak with the last warm-up step; then the schedule's decay.
        step and multistep decay at the start of an epoch, cosine in every step down to 0 at the end.

    Example:
        >>> step = Schedule(name="step", every_epochs=2)
        >>> [round(lr_at(step, step=s, steps_per_epoch=1, epochs=5, peak=1.0), 3) for s in range(5)]
        [1.0, 1.0, 0.1, 0.1, 0.01]
    """
    warmup_steps = schedule.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return peak * min((step + 1) / warmup_steps, 1.0)
    epoch = step // steps_per_epoch
    if schedule.every_epochs is not None:
        return peak * schedule.gamma ** (epoch // schedule.every_epochs)
    if schedule.milestones_epochs is not None:
        return peak * schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones_epochs)
    if schedule.name == "cosine":
        done = (step - warmup_steps) / max(steps_per_epoch * epochs - warmup_steps, 1)
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak


def ramp_at(warmup_epochs: float, *, step: int, steps_per_epoch: int) -> float:
    """Return the factor in [0, 1] of a method's outer weight, rising linearly over its warm-up (0 epochs: always 1)."""
    if warmup_epochs == 0:
        return 1.0
    return min(step / (warmup_epochs * steps_per_epoch), 1.0)
