"""Learning curves: accuracy over the epochs of training, small multiples by method, mean and range over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dctkd.config import KD_SUFFIX
from dctkd.report.captions import seeds_text
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.figures.montage import draw_sentence
from dctkd.report.figures.style import BEHIND_TEXT, DARK, Look, left_out_text, looks_of_methods, make_facets
from dctkd.report.layout import BASELINE, SHORT_STATUS, TOP1, Group, Layout, Values

MAX_GROUPS = 9
"""More combinations of dataset and pair than this are left out; the title says so."""

MAX_PANELS_PER_ROW = 10
NUM_GROUPS_IN_LINES = 2
"""Up to so many groups, the panels of a group stand in lines of a few large ones; beyond, in one line of small ones."""

LARGE_PANEL, SMALL_PANEL = (1.75, 1.5), (1.12, 1.05)  # inches
SPLITS = {
    "test": "test top-1 accuracy (%)",
    "train": "training top-1 accuracy (%)",
}
DASHED = (0, (4, 1.6))
MIN_WIDTH = 7.4  # inches, for title and legend
BASELINE_LINE: dict[str, Any] = {"color": "0.35", "ls": (0, (4, 1, 1, 1)), "lw": 0.8}
METHOD_WIDTH = 1.4  # points
TEACHER_LINE: dict[str, Any] = {"color": DARK, "lw": 1.0, "ls": (0, (1, 1.5)), "zorder": 1}


@dataclass(frozen=True)
class Curve:
    """Accuracy by epoch, in percent; arrays of shape (E,). Epochs that not every seed has logged are left out.

    Attributes:
        epochs: Epochs, counted from 1, rising.
        mean: Mean over seeds.
        low: Lowest seed.
        high: Highest seed.
        num_seeds: Number of seeds.
    """

    epochs: np.ndarray[Any, np.dtype[np.int64]]
    mean: np.ndarray[Any, np.dtype[np.float64]]
    low: np.ndarray[Any, np.dtype[np.float64]]
    high: np.ndarray[Any, np.dtype[np.float64]]
    num_seeds: int


def draw_learning_curves(collected: Collected, values: Values) -> Figure:
    """Draw accuracy per epoch: rows of panels per dataset and pair, a panel per method with the baseline in grey.

    A method and its +kd row share a panel. Test accuracy if the runs logged it, else training accuracy. Runs that
    diverged or ran out of memory are counted in words, and not drawn.
    """
    layout = Layout.of(collected.plan)
    title = f"{collected.plan.name}: learning curves ({seeds_text(layout)})"
    groups = layout.groups[:MAX_GROUPS]
    histories = _histories(collected, values, groups, (*layout.methods, TEACHER))
    split = split_of([frame for (_, method), found in histories.items() for frame in found if method != TEACHER])
    if split is None:
        return draw_sentence(title, "No finished run has left its history of training (history.jsonl) in the store.")
    curves = {key: curve for key, frames in histories.items() if (curve := curve_of(frames, split)) is not None}
    families = families_of(layout.methods)
    num_columns, size = _grid(len(groups), len(families))
    num_lines = math.ceil(len(families) / num_columns)
    num_rows = num_lines * len(groups)
    inches = (max(0.9 + num_columns * size[0], MIN_WIDTH), 1.3 + num_rows * size[1] + 0.12 * len(groups))
    figure, panels = make_facets(num_rows, num_columns, inches, share_y=False)
    figure.suptitle(title + left_out_text(layout.groups, len(groups)), fontweight="bold")
    looks = looks_of_methods(layout.methods)
    for number, group in enumerate(groups):
        own = panels[number * num_lines * num_columns :][: num_lines * num_columns]
        for axes, family in zip(own, families, strict=False):
            _draw_panel(axes, curves, group, families[family], looks)
            _write_failures(axes, values, group, families[family])
            if num_lines > 1 or number == 0:
                axes.set_title(family, fontsize=7, pad=2.5)
        _finish_group(own, len(families), num_columns, curves, group)
        for place, axes in enumerate(own[: len(families)]):
            is_lowest = place + num_columns >= len(families) and (num_lines > 1 or group == groups[-1])
            axes.tick_params(labelbottom=is_lowest)
            axes.set_xlabel("epoch" if is_lowest else "", fontsize=7, labelpad=1)
        own[0].set_ylabel(layout.label(group).replace(" ", "\n").replace("__", " to\n"), fontsize=7)
    figure.supylabel(SPLITS[split], fontsize=8)
    _draw_legend(figure, layout, curves, split)
    return figure


def split_of(histories: Sequence[pd.DataFrame]) -> str | None:
    """Return the split that is shown: test if any run logged its accuracy, else train; None if there is neither."""
    logged = {split for frame in histories for split in frame.loc[frame["name"] == TOP1.metric, "split"].unique()}
    return next((split for split in SPLITS if split in logged), None)


def curve_of(histories: Sequence[pd.DataFrame], split: str) -> Curve | None:
    """Return the top-1 accuracy of runs that differ in their seed, by epoch; None if no epoch is logged by all.

    Args:
        histories: One run each: columns epoch, split, name and value, as Evidence.history returns them.
        split: test or train.
    """
    runs = []
    for frame in histories:
        shown = frame[(frame["name"] == TOP1.metric) & (frame["split"] == split)]
        runs.append(shown.drop_duplicates("epoch", keep="last").set_index("epoch")["value"].astype(float))
    if not runs:
        return None
    table = pd.concat(runs, axis=1, join="inner").sort_index()
    if table.empty:
        return None
    numbers = table.to_numpy(dtype=float)
    epochs = table.index.to_numpy(dtype=np.int64)
    return Curve(epochs, numbers.mean(axis=1), numbers.min(axis=1), numbers.max(axis=1), len(runs))


def families_of(methods: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the methods of each panel: a method and its +kd row; the baseline, which is in all, has none of its own.

    Example:
        >>> families_of(("baseline", "kd", "at", "at+kd"))
        {'kd': ('kd',), 'at': ('at', 'at+kd')}
    """
    families: dict[str, tuple[str, ...]] = {}
    for method in methods:
        if method != BASELINE:
            base = method.removesuffix(KD_SUFFIX)
            families[base] = (*families.get(base, ()), method)
    return families or dict.fromkeys(methods, tuple(methods))


def _histories(
    collected: Collected, values: Values, groups: Sequence[Group], methods: Sequence[str]
) -> dict[tuple[Group, str], list[pd.DataFrame]]:
    """Return the histories of all runs that ended well; a teacher that several pairs share is read once."""
    read: dict[str, pd.DataFrame | None] = {}
    found: dict[tuple[Group, str], list[pd.DataFrame]] = {}
    for group in groups:
        for method in methods:
            for point in values.of_seeds(group, method, TOP1).values():
                if point.digest not in read:
                    read[point.digest] = collected.evidence.history(point.digest)
                if (frame := read[point.digest]) is not None:
                    found.setdefault((group, method), []).append(frame)
    return found


def _grid(num_groups: int, num_families: int) -> tuple[int, tuple[float, float]]:
    if num_groups > NUM_GROUPS_IN_LINES:
        return min(num_families, MAX_PANELS_PER_ROW), SMALL_PANEL
    return min(num_families, MAX_PANELS_PER_ROW // 2), LARGE_PANEL


def _draw_panel(
    axes: Axes,
    curves: Mapping[tuple[Group, str], Curve],
    group: Group,
    methods: Sequence[str],
    looks: Mapping[str, Look],
) -> None:
    if (teacher := curves.get((group, TEACHER))) is not None:
        axes.axhline(float(teacher.mean[-1]), **TEACHER_LINE)
    if BASELINE not in methods and (baseline := curves.get((group, BASELINE))) is not None:
        _draw_curve(axes, baseline, BASELINE_LINE, zorder=2)
    for method in methods:
        if (curve := curves.get((group, method))) is not None:
            # A method and its +kd row share a colour, and differ in the dash.
            dash = "-" if looks[method].is_filled else DASHED
            _draw_curve(axes, curve, {"color": looks[method].colour, "ls": dash, "lw": METHOD_WIDTH}, zorder=3)


def _draw_curve(axes: Axes, curve: Curve, line: Mapping[str, Any], *, zorder: int) -> None:
    marks: dict[str, Any] = {"marker": "o", "ms": 3} if len(curve.epochs) == 1 else {}
    axes.plot(curve.epochs, curve.mean, zorder=zorder, **line, **marks)
    if curve.num_seeds > 1:
        band: dict[str, Any] = {"color": line["color"], "alpha": 0.2, "lw": 0, "zorder": zorder - 0.5}
        axes.fill_between(curve.epochs, curve.low, curve.high, **band)


def _write_failures(axes: Axes, values: Values, group: Group, methods: Sequence[str]) -> None:
    """Write into a panel how many runs of its methods failed."""
    failed = [
        f"{method}: {count} {SHORT_STATUS[status]}"
        for method in methods
        for status, count in sorted(values.failures(group, method).items())
    ]
    if failed:
        corner: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 6, "bbox": BEHIND_TEXT, "zorder": 5}
        axes.text(0.97, 0.04, "\n".join(failed), transform=axes.transAxes, **corner)


def _finish_group(
    panels: Sequence[Axes], num_used: int, num_columns: int, curves: Mapping[tuple[Group, str], Curve], group: Group
) -> None:
    """Give the panels of one group the same limits, and numbers only to the outer ones."""
    own = [curve for (of, _), curve in curves.items() if of == group]
    students = [curve for (of, method), curve in curves.items() if of == group and method != TEACHER]
    for number, axes in enumerate(panels):
        if number >= num_used:
            axes.set_visible(False)
            continue
        if students:
            low = min(float(curve.low.min()) for curve in students)
            high = max(float(curve.high.max()) for curve in own)
            margin = 0.05 * max(high - low, 1.0)
            first = min(int(curve.epochs[0]) for curve in students)
            last = max(int(curve.epochs[-1]) for curve in students)
            axes.set(ylim=(low - margin, high + margin), xlim=(first - 0.5, last + 0.5))
        axes.tick_params(labelsize=6, pad=1, labelleft=number % num_columns == 0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))


def _draw_legend(figure: Figure, layout: Layout, curves: Mapping[tuple[Group, str], Curve], split: str) -> None:
    handles: list[Line2D | Patch] = []
    if BASELINE in layout.methods:
        handles.append(Line2D([], [], label=BASELINE, **BASELINE_LINE))
    handles.append(Line2D([], [], color=DARK, lw=METHOD_WIDTH, label="the method of the panel"))
    if any(method.endswith(KD_SUFFIX) for method in layout.methods):
        handles.append(Line2D([], [], color=DARK, lw=METHOD_WIDTH, ls=DASHED, label=f"the method {KD_SUFFIX}"))
    if any(method == TEACHER for _, method in curves):
        handles.append(Line2D([], [], label="teacher after its last epoch", **TEACHER_LINE))
    if len(layout.seeds) > 1:
        handles.append(Patch(color=DARK, alpha=0.2, lw=0, label="band: lowest to highest seed; line: mean"))
    if split == "train":
        handles.append(Line2D([], [], ls="none", label="accuracy: on the images as augmented in each epoch"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=7)
