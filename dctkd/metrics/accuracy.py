"""Exact accuracy: one row per image, collected on the device and summed up once.

Shapes: B images of a batch, K classes, N images of the split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dctkd.metrics import Result

NO_PREDICTION = -1
"""Prediction of an image with a NaN among its logits."""

TOP_K = 5


@dataclass(frozen=True)
class Scores:
    """What is kept of each image of a batch; tensors of shape (B,) on the device of the logits."""

    index_B: Tensor
    target_B: Tensor
    prediction_B: Tensor
    rank_B: Tensor
    log_probability_B: Tensor


def score(logits_BK: Tensor, target_B: Tensor, index_B: Tensor) -> Scores:
    """Rank the target among the classes, per image, without waiting for the device.

    Ties go to the lower class index, so that a constant output predicts class 0. An image with a NaN among its logits
    is wrong: its prediction is -1 and its target ranks last.

    Args:
        logits_BK: Class scores, shape (B, K).
        target_B: Labels in [0, K), shape (B,), int64.
        index_B: Position of each image in its split, shape (B,), int64.

    Returns:
        Predicted class, rank of the target (0 is best, K is NaN) and natural logarithm of its softmax probability
        (float64).

    Raises:
        ValueError: If the shapes do not fit.
    """
    if logits_BK.ndim != 2 or target_B.shape != logits_BK.shape[:1] or index_B.shape != target_B.shape:
        shapes = [tuple(tensor.shape) for tensor in (logits_BK, target_B, index_B)]
        raise ValueError(f"expected logits (B, K), targets (B,) and indices (B,), got {', '.join(map(str, shapes))}")
    num_classes = logits_BK.shape[1]
    class_K = torch.arange(num_classes, device=logits_BK.device)
    target_B1 = target_B.long().unsqueeze(1)
    target_logit_B1 = logits_BK.gather(1, target_B1)
    is_tie_BK = (logits_BK == target_logit_B1) & (class_K < target_B1)
    rank_B = ((logits_BK > target_logit_B1) | is_tie_BK).sum(dim=1)
    is_best_BK = logits_BK == logits_BK.amax(dim=1, keepdim=True)
    prediction_B = torch.where(is_best_BK, class_K, num_classes).amin(dim=1)
    has_nan_B = logits_BK.isnan().any(dim=1)
    return Scores(
        index_B=index_B.long(),
        target_B=target_B.long(),
        prediction_B=prediction_B.masked_fill(has_nan_B, NO_PREDICTION),
        rank_B=rank_B.masked_fill(has_nan_B, num_classes),
        log_probability_B=logits_BK.double().log_softmax(dim=1).gather(1, target_B1).squeeze(1),
    )


class Accuracy:
    """Collects the scores of a split, batch by batch; nothing is read from the device before the results are.

    Args:
        num_classes: Number of classes K of the dataset.
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"expected at least one class, got {num_classes}")
        self.num_classes = num_classes
        self._batches: list[Scores] = []

    def update(self, logits_BK: Tensor, target_B: Tensor, index_B: Tensor) -> None:
        """Add a batch.

        Args:
            logits_BK: Class scores, shape (B, K), any float dtype.
            target_B: Labels in [0, K), shape (B,), int64.
            index_B: Position of each image in its split, shape (B,), int64; each image once over all batches.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if logits_BK.shape[-1] != self.num_classes:
            raise ValueError(f"expected logits of {self.num_classes} classes, got shape {tuple(logits_BK.shape)}")
        self._batches.append(score(logits_BK.detach(), target_B, index_B))

    def result(self, *, stage: str = "last", split: str = "test") -> list[Result]:
        """Return top-1, top-5, mean class accuracy over the present and over all classes, and cross-entropy.

        Top-5 is top-K where there are fewer classes. A class without images is not present; over all classes it counts
        0, as in P1. The numbers do not depend on the order of the images or, given equal logits, on how they were
        batched. Cross-entropy is left out if it is not finite.

        Raises:
            ValueError: If there are no images, or one was counted twice.
        """
        table = self._table()
        num_images = len(table["index"])
        is_right_N = table["rank"] == 0
        images_K = np.bincount(table["target"], minlength=self.num_classes)
        right_K = np.bincount(table["target"][is_right_N], minlength=self.num_classes)
        is_present_K = images_K > 0
        sum_of_classes = math.fsum(right_K[is_present_K] / images_K[is_present_K])
        percents = {
            "top1_percent": 100 * int(is_right_N.sum()) / num_images,
            "top5_percent": 100 * int((table["rank"] < self._top_k).sum()) / num_images,
            "mca_present_percent": 100 * sum_of_classes / int(is_present_K.sum()),
            "mca_all_percent": 100 * sum_of_classes / self.num_classes,
        }
        results = [Result(metric, stage, split, value, "percent") for metric, value in percents.items()]
        cross_entropy_nats = math.fsum(-table["log_probability"]) / num_images
        if math.isfinite(cross_entropy_nats):
            results.append(Result("cross_entropy_nats", stage, split, cross_entropy_nats, "nats"))
        return results

    def predictions(self) -> dict[str, NDArray[Any]]:
        """Return the columns of the predictions file, sorted by index.

        Returns:
            index, target, prediction (int32; -1 where the logits held a NaN), in_top5 (bool), target_probability
            (float32, in [0, 1]; NaN where the logits allow none), each of shape (N,).

        Raises:
            ValueError: If there are no images, or one was counted twice.
        """
        table = self._table()
        return {
            "index": table["index"].astype(np.int32),
            "target": table["target"].astype(np.int32),
            "prediction": table["prediction"].astype(np.int32),
            "in_top5": table["rank"] < self._top_k,
            "target_probability": np.exp(table["log_probability"]).astype(np.float32),
        }

    @property
    def _top_k(self) -> int:
        return min(TOP_K, self.num_classes)

    def _table(self) -> dict[str, NDArray[Any]]:
        """All scores as NumPy columns, sorted by index."""
        if not self._batches:
            raise ValueError("no images were counted: call update() first")
        table = {
            "index": _column([batch.index_B for batch in self._batches]),
            "target": _column([batch.target_B for batch in self._batches]),
            "prediction": _column([batch.prediction_B for batch in self._batches]),
            "rank": _column([batch.rank_B for batch in self._batches]),
            "log_probability": _column([batch.log_probability_B for batch in self._batches]),
        }
        return sort_by_index(table)


def sort_by_index(table: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return columns sorted by their column `index`.

    Raises:
        ValueError: If an index occurs twice.
    """
    order = np.argsort(table["index"], kind="stable")
    index = table["index"][order]
    repeated = index[1:][index[1:] == index[:-1]]
    if len(repeated):
        raise ValueError(f"image {repeated[0]} was counted twice, as were {len(repeated) - 1} more: each counts once")
    return {name: column[order] for name, column in table.items()}


def _column(parts: list[Tensor]) -> NDArray[Any]:
    column: NDArray[Any] = torch.cat(parts).cpu().numpy()
    return column
