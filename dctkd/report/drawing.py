"""The figures of an experiment, drawn side by side in processes. Imports no matplotlib until something is drawn.

The processes only draw; files are written by the caller, in order, so nothing is left behind where one is killed.
"""

from __future__ import annotations

import pickle
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dctkd.provenance import write_atomic
from dctkd.report import FIGURE_SUFFIXES, figure_names
from dctkd.worker_pool import map_chunks, prepare_workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dctkd.report.collect import Collected
    from dctkd.report.figures.style import Drawing, Rendered

DEAR = ("montage", "overlap_by_stage", "spectra", "learning_curves")
"""Figures that take long, which are begun first, so that no process is left with one at the end."""


def start_drawing(*, workers: int) -> None:
    """Let the libraries that draw be imported for other processes, while this one collects what is drawn."""
    if workers > 1:
        prepare_workers("dctkd.report.figures")


def draw_figures(collected: Collected, store: Path | None, target: Path, *, workers: int = 1) -> list[Path]:
    """Draw all figures of an experiment into a folder, each file whole or not at all, and return the paths.

    Args:
        collected: The experiment.
        store: `results/store`; None: there are no maps.
        target: The folder.
        workers: Processes that draw; with 1 the calling process does. Changes the time, never a byte.

    Raises:
        InputError: If a file that a figure needs is damaged, or a process is killed; names the figure where it can.
    """
    names = figure_names(collected.plan)
    chunks = [[name] for name in sorted(names, key=lambda name: DEAR.index(name) if name in DEAR else len(DEAR))]
    draw = partial(_rendered, pickle.dumps((collected, store)))
    for name, files in map_chunks(draw, chunks, workers=workers):
        for suffix, content in files.items():
            write_atomic(target / f"{name}.{suffix}", content)
    return [target / f"{name}.{suffix}" for name in names for suffix in FIGURE_SUFFIXES]


def _rendered(experiment: bytes, names: Sequence[str]) -> list[tuple[str, Rendered]]:
    from dctkd.report.figures.style import render

    drawings = _drawings_of(experiment)
    return [(name, render(name, drawings[name])) for name in names]


@lru_cache(maxsize=1)  # a process draws several figures of one experiment
def _drawings_of(experiment: bytes) -> Mapping[str, Drawing]:
    from dctkd.report.figures import make_drawings

    return make_drawings(*pickle.loads(experiment))  # of this program's own making
