"""One pass over the test set for a whole pack: accuracy and predictions of each student."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from dctkd.engine.interrupt import Interrupt
from dctkd.engine.learner import Learner
from dctkd.engine.stream import Stream
from dctkd.metrics import Result
from dctkd.metrics.accuracy import Accuracy
from dctkd.models import evaluating


@dataclass(frozen=True)
class Evaluation:
    """What one learner did on the test set."""

    results: tuple[Result, ...]
    predictions: dict[str, Any]


@torch.no_grad()
def evaluate(
    learners: Sequence[Learner], stream: Stream, *, num_classes: int, interrupt: Interrupt
) -> list[Evaluation]:
    """Test learners on the whole test set, in one pass over the images.

    Args:
        learners: Their networks are in eval mode meanwhile.
        stream: Source of the test batches.
        num_classes: Classes of the dataset.
        interrupt: Asked after every batch.

    Returns:
        One evaluation per learner, in order; each is the same whatever stands beside it.

    Raises:
        InterruptedRunError: If asked to stop; the learners are as they were.
    """
    accuracies = [Accuracy(num_classes) for _ in learners]
    with ExitStack() as stack:
        for learner in learners:
            stack.enter_context(evaluating(learner.model))
        for batch in stream.test():
            for position, learner in enumerate(learners):
                with learner.shape.autocast():
                    outputs = learner.model.forward(batch.images_BCHW)  # never compiled: see compiling.py
                accuracies[position].update(outputs.logits_BK.float(), batch.target_B, batch.index_B)
            interrupt.raise_if_requested()
    return [Evaluation(tuple(accuracy.result()), accuracy.predictions()) for accuracy in accuracies]


def top1_percent(evaluation: Evaluation) -> float:
    """Return the exact top-1 accuracy in percent."""
    return next(result.value for result in evaluation.results if result.metric == "top1_percent")
