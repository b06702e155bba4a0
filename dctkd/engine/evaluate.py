"""A test of a whole pack in one pass over the images: accuracy and predictions of each student."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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
    """What one learner did.

    Attributes:
        results: On the test set.
        predictions: On the test set.
        held_out: Results on the training images that are held out; empty if there are none.
    """

    results: tuple[Result, ...]
    predictions: dict[str, Any]
    held_out: tuple[Result, ...] = ()


@torch.no_grad()
def evaluate(
    learners: Sequence[Learner], stream: Stream, *, num_classes: int, interrupt: Interrupt, ranks: Ranks = ALONE
) -> list[Evaluation]:
    """Test learners on the whole test set and on what is held out of the training set, in one pass over the images.

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
    tested = {split: [Accuracy(num_classes) for _ in learners] for split in stream.tested_splits}
    with ExitStack() as stack:
        for learner in learners:
            stack.enter_context(evaluating(learner.model))
            ranks.share_buffers(learner.model)
        for split, accuracies in tested.items():
            _test(accuracies, learners, stream.test(split), stream.num_test_batches(split), ranks, interrupt)
    if not ranks.is_first:
        return []
    held_out = [tuple(accuracy.result(split="held_out")) for accuracy in tested.get("held_out", [])]
    return [
        Evaluation(tuple(accuracy.result()), accuracy.predictions(), more)
        for accuracy, more in zip(tested["test"], held_out or [()] * len(learners), strict=True)
    ]


def _test(
    accuracies: Sequence[Accuracy],
    learners: Sequence[Learner],
    images: Generator[Batch],
    num_batches: int,
    ranks: Ranks,
    interrupt: Interrupt,
) -> None:
    """Let each learner answer all images of a split; the first process counts what is right."""
    with closing(images) as batches:
        for _ in range(-(-num_batches // ranks.part.num_ranks)):
            batch = next(batches, None)  # the last round may have none for this process
            for target_B, index_B, *logits in filter(None, ranks.gather_tensors(_answers(learners, batch))):
                for accuracy, logits_BK in zip(accuracies, logits, strict=True):
                    accuracy.update(logits_BK, target_B, index_B)
            ranks.agree()
            interrupt.raise_if_requested()


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


def top1_percent(results: Sequence[Result]) -> float:
    """Return the exact top-1 accuracy in percent among the results of one split."""
    return next(result.value for result in results if result.metric == "top1_percent")
