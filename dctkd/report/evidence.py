"""What a finished run left in the store beside its metrics: predictions, history and config, read when asked for.

What is read is compared with the run's seal first: a damaged file is refused, never shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dctkd.errors import InputError
from dctkd.store.seal import read_sealed, remedy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """What one network said of each test image, in the official order; arrays of shape (N,).

    Attributes:
        index_N: Position of the image in the official list of the split.
        target_N: Label, in [0, K).
        prediction_N: Predicted class; -1 where the logits held a NaN.
    """

    index_N: NDArray[np.int32]
    target_N: NDArray[np.int32]
    prediction_N: NDArray[np.int32]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, shape (N,)."""
        return np.equal(self.prediction_N, self.target_N)

    def is_about_the_images_of(self, other: Predictions) -> bool:
        """Tell whether both are about the same images with the same labels, so that they can be compared one by one."""
        return np.array_equal(self.index_N, other.index_N) and np.array_equal(self.target_N, other.target_N)

    def right_and_images(self, num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, per class, the number of images classified correctly and the number of images; shape (K,) each."""
        right_K = np.bincount(self.target_N[self.is_right], minlength=num_classes)
        return right_K, np.bincount(self.target_N, minlength=num_classes)


@dataclass(frozen=True)
class Evidence:
    """Reader of the files of finished runs; each predictions file is read once, for a missing file it returns None.

    Attributes:
        store: `results/store`; None: there is nothing to read.
    """

    store: Path | None
    _predictions: dict[str, Predictions | None] = field(default_factory=dict, repr=False, compare=False)

    def predictions(self, digest: str) -> Predictions | None:
        """Return a run's predictions on the test set.

        Raises:
            InputError: If the file is not whole.
        """
        if digest not in self._predictions:
            self._predictions[digest] = self._read(digest, "predictions.parquet", _read_predictions)
        return self._predictions[digest]

    def history(self, digest: str) -> pd.DataFrame | None:
        """Return what was logged during training: columns step, epoch, split, name, value, unit.

        Raises:
            InputError: If the file is not whole.
        """
        history: pd.DataFrame | None = self._read(digest, "history.jsonl", _read_history)
        return history

    def config_text(self, digest: str) -> str | None:
        """Return the text of the run's config.yaml.

        Raises:
            InputError: If the file is not text.
        """
        text: str | None = self._read(digest, "config.yaml", bytes.decode)
        return text

    def _read(self, digest: str, name: str, read: Callable[[bytes], Any]) -> Any:
        content = None if self.store is None else read_sealed(self.store / digest, name)
        if self.store is None or content is None:
            return None
        try:
            return read(content)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's and json's errors are ValueErrors
            raise InputError(f"{self.store / digest / name}: not whole ({error}); {remedy(digest)}") from error


def read_sealed_object(run: Path, name: str) -> dict[str, Any] | None:
    """Return the object that a JSON file of a run holds; None if there is no such file.

    Args:
        run: The run's folder.
        name: The file's path in it.

    Raises:
        InputError: If it is damaged, is not JSON, or holds something else.
    """
    content = read_sealed(run, name)
    return None if content is None else _object(content, run / name, remedy(run.name))


def read_object(path: Path, what_to_do: str) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: The file.
        what_to_do: What helps where it is not whole, for the message.

    Raises:
        InputError: If it cannot be read, is not JSON, or holds something else.
    """
    try:
        return _object(path.read_bytes(), path, what_to_do)
    except OSError as error:
        raise InputError(f"{path}: not whole ({error}); {what_to_do}") from error


def _object(raw: bytes, path: Path, what_to_do: str) -> dict[str, Any]:
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f"{path}: not whole ({error}); {what_to_do}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}; {what_to_do}")
    return content


def _read_predictions(content: bytes) -> Predictions:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content), columns=["index", "target", "prediction"])
    columns = (table[name].to_numpy() for name in ("index", "target", "prediction"))
    return Predictions(*columns)


def _read_history(content: bytes) -> pd.DataFrame:
    import pandas as pd

    lines = content.decode().splitlines()
    columns = ["step", "epoch", "split", "name", "value", "unit"]
    return pd.DataFrame([json.loads(line) for line in lines], columns=columns)
