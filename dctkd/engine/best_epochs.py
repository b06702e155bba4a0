"""Which epochs of a run are best: on the test images, as papers report it, and on the images that are held out.

Both are noted whenever a run is tested in training (`evaluate_every_epochs`), the last epoch included; of equal epochs
the first counts. `best_held_out` is chosen without the test images, so its test accuracy is an honest number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dctkd.engine.evaluate import Evaluation, top1_percent
from dctkd.engine.learner import Learner
from dctkd.metrics import Result
from dctkd.models import StageModel

Export = Callable[[StageModel], bytes]


def note_test(learner: Learner, evaluation: Evaluation, *, export: Export | None) -> None:
    """Record a test in a run's history, and keep the epoch if it is the best so far.

    Args:
        learner: The run, at the end of an epoch.
        evaluation: How its network did.
        export: Returns a network's weights, to be kept with each best epoch; None: they are not kept.
    """
    top1 = top1_percent(evaluation.results)
    learner.record("test", "top1_percent", top1, "percent")
    if top1 > learner.best.get("top1_percent", -1.0):
        learner.best = {"top1_percent": top1, **_epoch_of(learner, export)}
    if not evaluation.held_out:
        return
    held_out = top1_percent(evaluation.held_out)
    learner.record("held_out", "top1_percent", held_out, "percent")
    if held_out > learner.best_held_out.get("held_out_top1_percent", -1.0):
        learner.best_held_out = {
            "held_out_top1_percent": held_out,
            "top1_percent": top1,
            **_epoch_of(learner, export),
        }


def _epoch_of(learner: Learner, export: Export | None) -> dict[str, Any]:
    return {"epoch": learner.epoch, **({} if export is None else {"weights": export(learner.model)})}


def results_of_best(learner: Learner) -> list[Result]:
    """Return the test accuracy at the best epochs, and which epoch the held-out images chose (counted from 1)."""
    results = []
    if learner.best:
        results.append(Result("top1_percent", "best_on_test", "test", learner.best["top1_percent"], "percent"))
    if learner.best_held_out:
        best = learner.best_held_out
        results.append(Result("top1_percent", "best_held_out", "test", best["top1_percent"], "percent"))
        results.append(Result("epoch", "best_held_out", "held_out", best["epoch"], "epochs"))
    return results


def weights_of_best(learner: Learner) -> dict[str, bytes]:
    """Return the weights of the best epochs that were kept, by the name of their file."""
    best = {"best_on_test": learner.best, "best_held_out": learner.best_held_out}
    return {f"weights_{name}.safetensors": kept["weights"] for name, kept in best.items() if "weights" in kept}
