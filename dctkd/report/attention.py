"""Where the networks look: what the evaluation of each finished student left in its folder, and which images to show.

    <store>/<digest>/eval/overlap-<version>/per_image.parquet   one row per image, network, source, stage and metric
    <store>/<digest>/eval/overlap-<version>/maps.npz            maps of the candidate images, the images themselves
    <store>/<digest>/eval/overlap-<version>/spectra.json        mean |DCT| by radial frequency

Means over images, in summary.json beside them, are in the tidy table; see collect.py. A file that is not
there is no error: it is not shown. Shapes: N images, H rows, W columns, R frequencies.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dctkd.errors import InputError
from dctkd.metrics import OVERLAP_FOLDER
from dctkd.report.collect import Collected
from dctkd.report.evidence import read_sealed_object
from dctkd.report.layout import Group, Layout
from dctkd.store.seal import read_sealed, remedy

STUDENT_MAPS, TEACHER_MAPS = "student", "teacher"
MAP_LEVELS = 255

Spectra = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""By network ("student", "teacher") and stage: mean |DCT-II|, shape (R,), no unit."""


@dataclass(frozen=True)
class Maps:
    """Maps of a few images, as one student and its teacher see them.

    Attributes:
        student: By stage: min-max normalised activation maps in [0, 1], shape (N, H, W), float64.
        teacher: The same of the teacher.
        images: The images as the networks see them, shape (N, H, W, 3), uint8; None if they were not kept.
        annotations: Object ids, shape (N, H, W), 0 is background, all 0 is not annotated; None without annotations.
    """

    student: Mapping[str, NDArray[np.float64]]
    teacher: Mapping[str, NDArray[np.float64]]
    images: NDArray[np.uint8] | None
    annotations: NDArray[np.integer[Any]] | None


class AttentionFiles:
    """Reads the evaluation files of runs. Every method returns None, or nothing, where the file is missing."""

    def __init__(self, store: Path | None) -> None:
        """Args: store: `results/store`; None finds nothing."""
        self._store = store

    def spectra(self, digest: str) -> Spectra | None:
        """Return the spectra of a run's student and its teacher.

        Raises:
            InputError: If the file is not whole.
        """
        content = None if self._store is None else read_sealed_object(self._store / digest, _name("spectra.json"))
        if content is None:
            return None
        try:
            return {
                network: {stage: np.asarray(values, dtype=np.float64) for stage, values in stages.items()}
                for network, stages in content.items()
            }
        except (AttributeError, TypeError, ValueError) as error:
            raise self._not_whole(digest, "spectra.json", error) from error

    def candidates(self, digest: str) -> tuple[int, ...]:
        """Return the positions, in the test split, of the images whose maps a run kept.

        Raises:
            InputError: If the file is not whole.
        """
        arrays = self._arrays(digest, re.compile("index"))
        return () if arrays is None else tuple(int(i) for i in arrays["index"])

    def maps(self, digest: str, indices: Sequence[int]) -> Maps | None:
        """Return a run's maps of images that are among its `candidates`, in the order asked for.

        Raises:
            InputError: If the file is not whole, or lacks one of the images.
        """
        arrays = self._arrays(digest, re.compile(r".*"))
        if arrays is None:
            return None
        places = {int(index): place for place, index in enumerate(arrays["index"])}
        if lacking := [index for index in indices if index not in places]:
            raise InputError(f"{self._where(digest, 'maps.npz')}: no maps of images {lacking}; {remedy(digest)}")
        rows = [places[index] for index in indices]
        return Maps(
            _scaled(arrays, STUDENT_MAPS, rows),
            _scaled(arrays, TEACHER_MAPS, rows),
            arrays["image"][rows] if "image" in arrays else None,
            arrays["annotation"][rows] if "annotation" in arrays else None,
        )

    def per_image(
        self, digest: str, metric: str, indices: Sequence[int], *, source: str = "activation"
    ) -> pd.DataFrame | None:
        """Return a metric of a run's student for some images: columns image, index, stage and value, in this order.

        Raises:
            InputError: If the file is not whole.
        """
        content = self._read(digest, "per_image.parquet")
        if content is None:
            return None
        wanted = [
            ("metric", "==", metric),
            ("source", "==", source),
            ("network", "==", STUDENT_MAPS),
            ("index", "in", list(indices)),
        ]
        try:
            columns = ["image", "index", "stage", "value"]
            frame = pd.read_parquet(io.BytesIO(content), columns=columns, filters=wanted)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise self._not_whole(digest, "per_image.parquet", error) from error
        return frame.sort_values(["index", "stage"], ignore_index=True)

    def _arrays(self, digest: str, names: re.Pattern[str]) -> dict[str, NDArray[Any]] | None:
        content = self._read(digest, "maps.npz")
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files if names.fullmatch(name)}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise self._not_whole(digest, "maps.npz", error) from error
        if "index" not in arrays:
            raise self._not_whole(digest, "maps.npz", "no array index")
        return arrays

    def _read(self, digest: str, name: str) -> bytes | None:
        return None if self._store is None else read_sealed(self._store / digest, _name(name))

    def _where(self, digest: str, name: str) -> Path:
        assert self._store is not None
        return self._store / digest / _name(name)

    def _not_whole(self, digest: str, name: str, why: object) -> InputError:
        return InputError(f"{self._where(digest, name)}: not whole ({why}); {remedy(digest)}")


def _name(name: str) -> str:
    return f"{OVERLAP_FOLDER}/{name}"


def students_of(collected: Collected, group: Group, seed: int | None = None) -> dict[tuple[str, int], str]:
    """Return the digests of a group's finished students by method and seed, in the order of the layout.

    Args:
        collected: The experiment.
        group: Dataset and pair.
        seed: Only this seed; None for all.
    """
    layout = Layout.of(collected.plan)
    digests = {
        (one.planned.method, one.planned.seed): one.metrics.digest
        for one in collected.found
        if (one.planned.dataset, one.planned.pair) == (group.dataset, group.pair) and one.metrics.status == "ok"
    }
    seeds = layout.seeds if seed is None else (seed,)
    wanted = ((method, number) for method in layout.methods for number in seeds)
    return {key: digests[key] for key in wanted if key in digests}


def stage_number(stage: str) -> int:
    """Return the number by which stages are ordered.

    Example:
        >>> sorted(["stage10", "stage2"], key=stage_number)
        ['stage2', 'stage10']
    """
    return int(re.sub(r"\D", "", stage) or 0)


def mean_overlap(frames: Sequence[pd.DataFrame]) -> dict[int, float]:
    """Return each image's overlap: the mean over stages and over students.

    Args:
        frames: One per student, with columns index, stage and value.

    Returns:
        Overlap by index, in order of index, in the unit of the values. An image that lacks a stage of a student, or
        has one that is not finite, is left out: its mean would not be comparable. A stage that is finite for no image
        is left out of all means.

    Example:
        >>> stages = ["stage1", "stage2", "stage1"]
        >>> first = pd.DataFrame({"index": [3, 3, 7], "stage": stages, "value": [0.5, 1.0, 0.1]})
        >>> mean_overlap([first])
        {3: 0.75}
    """
    columns = {
        (number, stage): rows.set_index("index")["value"]
        for number, frame in enumerate(frames)
        for stage, rows in frame.groupby("stage")
    }
    if not columns:
        return {}
    table = pd.DataFrame(columns).replace([np.inf, -np.inf], np.nan).dropna(axis=1, how="all").dropna().sort_index()
    return dict(zip(map(int, table.index), map(float, table.mean(axis=1)), strict=True)) if table.size else {}


def pick_images(overlap: Mapping[int, float]) -> dict[str, int]:
    """Return the indices of the images with the best, the median and the worst overlap; empty if there is no image.

    The median of an even number of images is the lower one of the middle two. Of equal images the first, by index, is
    the better one for "best", and the worse one for "median" and "worst".

    Example:
        >>> pick_images({10: 0.4, 20: 0.9, 30: 0.1, 40: 0.5})
        {'best': 20, 'median': 10, 'worst': 30}
    """
    if not overlap:
        return {}
    ascending = sorted(overlap, key=lambda index: (overlap[index], index))
    best = min(overlap, key=lambda index: (-overlap[index], index))
    return {"best": best, "median": ascending[(len(ascending) - 1) // 2], "worst": ascending[0]}


def _scaled(arrays: Mapping[str, NDArray[Any]], network: str, rows: list[int]) -> dict[str, NDArray[np.float64]]:
    prefix = f"{network}_"
    stages = sorted((name.removeprefix(prefix) for name in arrays if name.startswith(prefix)), key=stage_number)
    return {stage: arrays[prefix + stage][rows] / MAP_LEVELS for stage in stages}
