"""The training loop: one for teachers (one learner, no teacher) and for packs of students."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial

import torch

from dctkd.engine.compiling import begin_step, meaning_of
from dctkd.engine.interrupt import Interrupt
from dctkd.engine.learner import Learner
from dctkd.engine.stream import Piece, Stream
from dctkd.methods.base import Batch
from dctkd.models import Outputs

logger = logging.getLogger(__name__)

TeacherPass = Callable[[Batch], Outputs]
Watcher = Callable[[Sequence[Learner]], None]


def train(
    learners: Sequence[Learner],
    stream: Stream,
    *,
    teacher: TeacherPass | None,
    after_step: Watcher,
    after_epoch: Watcher,
    interrupt: Interrupt,
) -> None:
    """Train all learners to their end on the same batches and the same teacher pass.

    Learners may stand at different steps (some resumed, some new): the laggards run first, until they reach the next
    one. A learner that fails leaves the others alone; its exception is kept in `failure`.

    Args:
        learners: Those to train; finished and failed ones are passed over.
        stream: The batches.
        teacher: Returns the teacher's outputs on a batch, without gradient; None when teachers are trained.
        after_step: Called with the learners that took a step.
        after_epoch: Called with those that completed an epoch.
        interrupt: Asked after every step.

    Raises:
        InterruptedRunError: If asked to stop; every learner stands between two steps.
    """
    while group := _laggards(learners):
        if group[0].has_open_epoch:  # stopped while the epoch that it had done was tested
            _close_epoch(group, after_epoch)
            continue
        stop = _next_stop(learners, group[0].step, stream.total_steps)
        with closing(stream.train(group[0].step, stop)) as batches:  # at once also where an exception leaves the loop
            for batch in batches:
                _step(group, batch, teacher)
                group = [learner for learner in group if learner.failure is None]
                if group and group[0].has_open_epoch:
                    _close_epoch(group, after_epoch)
                after_step(group)  # last: a checkpoint at the end of an epoch holds what the epoch recorded
                interrupt.raise_if_requested()
                if not group:
                    break


def _laggards(learners: Sequence[Learner]) -> list[Learner]:
    running = [learner for learner in learners if learner.is_running]
    first = min((learner.step for learner in running), default=0)
    group = [learner for learner in running if learner.step == first]
    return [learner for learner in group if learner.has_open_epoch] or group


def _close_epoch(group: Sequence[Learner], after_epoch: Watcher) -> None:
    for learner in group:
        learner.end_epoch()
    after_epoch(group)
    for learner in group:
        learner.closed_epochs = learner.epoch


def _next_stop(learners: Sequence[Learner], step: int, total: int) -> int:
    return min((learner.step for learner in learners if learner.is_running and learner.step > step), default=total)


def _step(group: Sequence[Learner], batch: Piece, teacher: TeacherPass | None) -> None:
    """Let every learner take one step on the batch; one that cannot keeps why."""
    parts = list(batch.parts(group[0].identity.recipe.micro_batch))
    begin_step(group[0].identity.recipe.compile)
    for part in parts:
        outputs = None if teacher is None else teacher(part)
        for learner in group:
            is_last = part is parts[-1]
            _attempt(learner, partial(learner.add_gradient, part, outputs, share=batch.share_of(part), is_last=is_last))
            if is_last:  # at once: gradients of the whole pack need not lie in memory side by side
                _attempt(learner, partial(learner.take_step, batch.num_whole))


def _attempt(learner: Learner, act: Callable[[], None]) -> None:
    if learner.failure is not None:
        return
    try:
        act()
    except Exception as error:  # whatever a method raises must not end the other students
        if not learner.shape.ranks.is_of_all(error):
            raise
        learner.fail(meaning_of(error, learner.identity.recipe.compile))
    if learner.failure is not None:  # as text: a log record with the exception would keep its tensors in memory
        logger.warning("%s stops in step %s: %s", learner.name, learner.step, learner.failure.trace.rstrip())


def teacher_pass(model: torch.nn.Module, autocast: Callable[[], AbstractContextManager[object]]) -> TeacherPass:
    """Freeze a teacher and return the function that runs it.

    Not inference_mode: autograd cannot save its tensors, so a loss that multiplies a projected feature by a teacher's
    tensor would raise.
    """
    model.eval().requires_grad_(False)

    @torch.no_grad()
    def run(batch: Batch) -> Outputs:
        with autocast():
            outputs: Outputs = model(batch.images_BCHW)
        return outputs

    return run
