"""Accuracy against what training costs: seconds where they were measured, else counted operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dctkd.report.captions import seeds_text
from dctkd.report.collect import STUDENT, TEACHER, Collected
from dctkd.report.figures.pareto import draw_front, front_handle, pareto_front
from dctkd.report.figures.style import (
    BEHIND_TEXT,
    DARK,
    TITLE_OF_MEANS,
    Look,
    facets_of_groups,
    hide_unused,
    left_out_text,
    looks_of_methods,
    make_facets,
)
from dctkd.report.layout import BASELINE, TOP1, Group, Layout, Measure, Values
from dctkd.report.statistics import summarise
from dctkd.report.sweeps import method_of

MAX_GROUPS = 12
TRAIN_SECONDS = Measure("train_seconds", "", "train")
FORWARD_AND_BACKWARD = 3
"""Forward and backward pass in forward passes: the backward pass multiplies about twice as much (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1). A frozen teacher is passed forward only."""

SECONDS_LABEL = "training alone (s)"
GMACS_LABEL = "training GMACs per image"
UNKNOWN = "The cost of training is not known:\nno run was timed alone, and no cost.json"
FACET = (3.5, 3.0)  # inches
WIDE_FACET = (6.2, 4.0)
GAP_POINTS = 5.0
"""Least distance of two markers' centres, sideways."""


SMALL: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 6, "color": DARK}


@dataclass(frozen=True)
class Costs:
    """What training costs in one dataset and pair.

    Attributes:
        label: Quantity and unit.
        by_method: Cost of the methods that have accuracy and a known cost.
        unknown: Methods that have accuracy, but no known cost.
    """

    label: str
    by_method: Mapping[str, float]
    unknown: tuple[str, ...] = ()


def draw_accuracy_vs_training_cost(collected: Collected, values: Values) -> Figure:
    """Draw top-1 accuracy against the cost of training: a facet per dataset and pair, with the Pareto front.

    Seconds if every method of the facet has runs that were trained alone in their process, else GMACs per image.
    Markers that would hide each other are moved apart sideways within a shaded band that names their true costs.
    """
    layout = Layout.of(collected.plan)
    looks = looks_of_methods(layout.methods)
    groups = layout.groups[:MAX_GROUPS]
    num_rows, num_columns = facets_of_groups(groups)
    width, height = WIDE_FACET if len(groups) == 1 else FACET
    inches = (2.0 + width * num_columns, 0.9 + max(num_rows * height, 0.165 * (len(looks) + 3)))
    figure, facets = make_facets(num_rows, num_columns, inches, share_y=False)
    title = f"{collected.plan.name}: accuracy after the last epoch against cost of training ({seeds_text(layout)})"
    figure.suptitle(title + left_out_text(layout.groups, len(groups)), fontweight="bold")
    all_costs = {group: costs_of(collected, values, group) for group in groups}
    for axes, (group, costs) in zip(facets, all_costs.items(), strict=False):
        axes.set_title(layout.label(group), fontsize=9)
        _draw_facet(axes, values, (group, costs), looks, 72 * (width - 0.6))
    for axes in facets[::num_columns]:
        axes.set_ylabel("top-1 accuracy (%)")
    hide_unused(facets, len(groups))
    figure.supxlabel(_note(all_costs), fontsize=7)
    handles = [Line2D([], [], label=method, **look.keywords(5)) for method, look in looks.items()]
    figure.legend(handles=[*handles, front_handle()], loc="outside right center", frameon=False, title=TITLE_OF_MEANS)
    return figure


def costs_of(collected: Collected, values: Values, group: Group) -> Costs:
    """Return what training costs with each method that has accuracy in this dataset and pair."""
    methods = [method for method in Layout.of(collected.plan).methods if values.of_seeds(group, method, TOP1)]
    seconds = {method: found for method in methods if (found := _seconds(collected, values, group, method)) is not None}
    if methods and len(seconds) == len(methods):
        return Costs(SECONDS_LABEL, seconds)
    gmacs = {method: found for method in methods if (found := _gmacs(collected, values, group, method)) is not None}
    return Costs(GMACS_LABEL, gmacs, tuple(method for method in methods if method not in gmacs))


def needs_teacher(collected: Collected, row: str) -> bool:
    """Return whether a row's loss reads the teacher: every one but the baseline's without +kd."""
    return method_of(collected.plan, row) != BASELINE


def _seconds(collected: Collected, values: Values, group: Group, method: str) -> float | None:
    points = values.of_seeds(group, method, TRAIN_SECONDS).values()
    if not points:
        return None
    seconds = [point.value for point in points]
    if not needs_teacher(collected, method):
        # Jobs pass every image through the teacher, also for a student that does not listen.
        timings = [collected.timings.get(point.digest, {}) for point in points]
        seconds = [timing.get("own_step_seconds", own) for timing, own in zip(timings, seconds, strict=True)]
    return float(np.mean(seconds))


def _gmacs(collected: Collected, values: Values, group: Group, method: str) -> float | None:
    student = values.cost(group, STUDENT, "gmacs")
    extra = values.cost(group, method, "extra_gmacs")
    teacher = values.cost(group, TEACHER, "gmacs") if needs_teacher(collected, method) else 0.0
    if student is None or extra is None or teacher is None:
        return None
    return FORWARD_AND_BACKWARD * (student + extra) + teacher


def _draw_facet(
    axes: Axes, values: Values, shown: tuple[Group, Costs], looks: Mapping[str, Look], width_points: float
) -> None:
    group, costs = shown
    if not costs.by_method:
        axes.text(0.5, 0.5, UNKNOWN, transform=axes.transAxes, ha="center", va="center", fontsize=7)
        axes.set(xticks=[], yticks=[])
        return
    true = costs.by_method
    summaries = {
        method: summarise(point.value for point in values.of_seeds(group, method, TOP1).values()) for method in true
    }
    gap = max(true.values()) * 1.1 * GAP_POINTS / width_points
    # The front rises where a cost begins: of equally dear methods the most accurate stands first.
    places = moved_apart({method: true[method] for method in sorted(true, key=lambda m: -summaries[m].mean)}, gap)
    for method, x in places.items():
        look, summary = looks[method], summaries[method]
        half = summary.half_width
        axes.errorbar(x, summary.mean, yerr=half, elinewidth=0.8, capsize=1.2, zorder=3, **look.keywords(4.2))
        axes.plot(true[method], 0.012, marker="|", ms=6, color=look.colour, transform=axes.get_xaxis_transform())
    low, high = axes.get_ylim()  # an interval of few seeds may reach beyond what is possible
    low, high = max(low, 0.0), min(high, 100.0)
    axes.set(xlabel=costs.label, xlim=(0, 1.06 * max(places.values())), ylim=(low - 0.12 * (high - low), high))
    _shade_moved(axes, places, true, gap)
    front = pareto_front({method: (cost, summaries[method].mean) for method, cost in true.items()})
    draw_front(axes, [(places[method], summaries[method].mean) for method in front])
    if costs.unknown:
        words = "cost not known: " + ", ".join(costs.unknown)
        axes.text(0.02, 0.98, words, transform=axes.transAxes, fontsize=6, va="top", wrap=True, bbox=BEHIND_TEXT)


def _shade_moved(axes: Axes, places: Mapping[str, float], true: Mapping[str, float], gap: float) -> None:
    """Shade where markers were moved apart, and write below them from where to where their true costs reach."""
    blocks: list[list[str]] = []
    for name in places:
        if blocks and places[name] - places[blocks[-1][-1]] < 1.001 * gap:
            blocks[-1].append(name)
        else:
            blocks.append([name])
    for block in blocks:
        if len(block) > 1:
            left, right = places[block[0]] - gap / 2, places[block[-1]] + gap / 2
            axes.axvspan(left, right, color="0.95", zorder=0, linewidth=0)
            text = "\u2013".join(dict.fromkeys(f"{true[name]:.3g}" for name in (block[0], block[-1])))
            axes.text((left + right) / 2, 0.035, f"all at {text}", transform=axes.get_xaxis_transform(), **SMALL)


def moved_apart(places: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return places of which no two are nearer than a gap, moved as little as can be (least squares), in their order.

    Args:
        places: Place by name; equal ones keep the order given. None becomes negative by being moved.
        gap: Least distance, in the unit of the places.

    Source:
        Subtracting (rank x gap) turns the task into an isotonic regression.

    Example:
        >>> moved_apart({"a": 5.0, "b": 5.0, "c": 9.0}, 2.0)
        {'a': 4.0, 'b': 6.0, 'c': 9.0}
    """
    from scipy.optimize import isotonic_regression

    names = sorted(places, key=lambda name: places[name])
    steps = gap * np.arange(len(names))
    fitted = isotonic_regression(np.array([places[name] for name in names]) - steps).x + steps
    shifted = fitted + max(0.0, gap / 2 - fitted[0]) if len(names) else fitted
    return dict(zip(names, map(float, shifted), strict=True))


def _note(all_costs: Mapping[Group, Costs]) -> str:
    """Return what the labels of the x axes mean."""
    labels = {costs.label for costs in all_costs.values() if costs.by_method}
    meanings = {
        SECONDS_LABEL: "Seconds of training steps, without evaluation; mean over seeds.",
        GMACS_LABEL: f"GMACs: {FORWARD_AND_BACKWARD} x (student + what the method adds) + one pass of the teacher where"
        " the loss reads it;\nother operations do not count, so that seconds may rank methods otherwise.",
    }
    moved = (
        "Shaded: markers that would hide each other are moved apart sideways; ticks at the bottom are at the true cost."
    )
    return "\n".join([*(text for label, text in meanings.items() if label in labels), moved])
