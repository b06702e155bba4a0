"""One pass over the test set for a whole pack: accuracy and predictions of each student."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dctkd.engine.interrupt import Interrupt
from dctkd.engine.learner import Learner
from dctkd.engine.ranks import ALONE, Ranks
from dctkd.engine.stream import Stream
from dctkd.methods.base import Batch
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
    learners: Sequence[Learner], stream: Stream, *, num_classes: int, interrupt: Interrupt, ranks: Ranks = ALONE
) -> list[Evaluation]:
    """Test learners on the whole test set, in one pass over the images.

    Args:
        learners: Their networks are in eval mode meanwhile.
        stream: Source of the test batches.
        num_classes: Classes of the dataset.
        interrupt: Asked after every batch.
        ranks: Processes that share the batches; each computes whole ones.

    Returns:
        One evaluation per learner, in order; each is the same whatever stands beside it. Only the first process gets
        them.

    Raises:
        InterruptedRunError: If asked to stop; the learners are as they were.
    """
    accuracies = [Accuracy(num_classes) for _ in learners]
    with ExitStack() as stack:
        for learner in learners:
            stack.enter_context(evaluating(learner.model))
            ranks.share_buffers(learner.model)
        batches = stack.enter_context(closing(stream.test()))
        for _ in range(-(-stream.num_test_batches // ranks.part.num_ranks)):
            batch = next(batches, None)  # the last round may have none for this process
            for target_B, index_B, *logits in filter(None, ranks.gather_tensors(_answers(learners, batch))):
                for accuracy, logits_BK in zip(accuracies, logits, strict=True):
                    accuracy.update(logits_BK, target_B, index_B)
            ranks.agree()
            interrupt.raise_if_requested()
    if not ranks.is_first:
        return []
    return [Evaluation(tuple(accuracy.result()), accuracy.predictions()) for accuracy in accuracies]


def _answers(learners: Sequence[Learner], batch: Batch | None) -> list[Tensor]:
    """Return targets and indices of a batch and each learner's logits; nothing for no batch."""
    if batch is None:
        return []
    answers = [batch.target_B, batch.index_B]
    for learner in learners:
        with learner.shape.autocast():
            outputs = learner.model.forward(batch.images_BCHW)  # never compiled: see compiling.py
        answers.append(outputs.logits_BK.float())
    return answers


def top1_percent(evaluation: Evaluation) -> float:
    """Return the exact top-1 accuracy in percent."""
    return next(result.value for result in evaluation.results if result.metric == "top1_percent")
