"""Which stages a method compares, where P1's release leaves out the first one."""

from __future__ import annotations

from dctkd.errors import InputError
from dctkd.models import ModelSpec


def num_first_stages_skipped(method: str, student: ModelSpec, *, skip_first_stage: bool) -> int:
    """Return how many stages are left out at the start: 1 or 0.

    RepDistiller's slice `[1:-1]` leaves out the stem and the pooled features; P1's release applies it, for `vid` and
    `semckd`, to a list without a stem, and so loses the first stage.

    Args:
        method: Name of the method, for the message.
        student: Shapes of the student's outputs; the teacher has as many stages.
        skip_first_stage: The method's option.

    Raises:
        InputError: If no stage would be left.
    """
    if skip_first_stage and len(student.stages) < 2:
        raise InputError(f"{method}: skip_first_stage leaves no stage of a pair with one; set it to false")
    return int(skip_first_stage)
