"""Top-1 accuracy against the cost of inference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dctkd.report.captions import seeds_text
from dctkd.report.collect import STUDENT, TEACHER, Collected
from dctkd.report.figures.pareto import draw_front, front_handle, pareto_front
from dctkd.report.figures.style import (
    DARK,
    TITLE_OF_MEANS,
    Look,
    looks_of_methods,
    make_facets,
)
from dctkd.report.layout import TOP1, Group, Layout, Values
from dctkd.report.statistics import Summary, summarise


def draw_accuracy_vs_gmacs(collected: Collected, values: Values) -> Figure:
    """Draw top-1 accuracy against GMACs of inference: a facet per dataset, students by method, teachers as stars.

    All students of a pair cost the same; their points are spread sideways within a shaded band. The Pareto front is
    that of the costs, not of the places.
    """
    layout = Layout.of(collected.plan)
    looks = looks_of_methods(layout.methods)
    num_facets = len(layout.datasets)
    height = max(3.6 * num_facets, 1.0 + 0.165 * (len(looks) + 1))
    figure, facets = make_facets(num_facets, 1, (9.0, height + 0.4), share_y=False)
    figure.suptitle(
        f"{collected.plan.name}: accuracy after the last epoch against cost of inference ({seeds_text(layout)})",
        fontweight="bold",
    )
    for dataset, axes in zip(layout.datasets, facets, strict=True):
        axes.set(title=dataset, ylabel="top-1 accuracy (%)")
        _draw_cost_facet(axes, collected, values, dataset, looks)
    facets[-1].set_xlabel("GMACs per image (log scale; students of one pair cost the same and are spread sideways)")
    figure.align_ylabels(facets)
    handles = [Line2D([], [], label=method, **look.keywords(5)) for method, look in looks.items()]
    star = Line2D([], [], label="teacher", **Look(DARK, "*").keywords(9))
    figure.legend(
        handles=[star, *handles, front_handle()], loc="outside right center", frameon=False, title=TITLE_OF_MEANS
    )
    return figure


def _draw_cost_facet(axes: Axes, collected: Collected, values: Values, dataset: str, looks: Mapping[str, Look]) -> None:
    pairs = [pair for pair in collected.plan.config.pairs if _gmacs(values, dataset, pair.name, STUDENT)]
    if not pairs:
        axes.text(0.5, 0.5, "GMACs are not known: no cost.json", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return
    students = {pair.name: _gmacs(values, dataset, pair.name, STUDENT) for pair in pairs}
    teachers = {pair.teacher: (_gmacs(values, dataset, pair.name, TEACHER), pair.name) for pair in pairs}
    bands = spread_bands(students, [gmacs for gmacs, _ in teachers.values() if gmacs])
    corners: dict[str, tuple[float, float]] = {}  # where the points stand, and below what the networks cost
    networks: dict[str, tuple[float, float]] = {}
    for name, (left, right) in bands.items():
        axes.axvspan(left, right, color="0.95", zorder=0, linewidth=0)
        group = Group(dataset, name)
        centres = np.geomspace(left, right, 2 * len(looks) + 1)[1::2]
        for x, (method, look) in zip(centres, looks.items(), strict=True):
            points = [point.value for point in values.of_seeds(group, method, TOP1).values()]
            if points:
                summary = summarise(points)
                keywords = look.keywords(4.2)
                axes.errorbar(
                    x, summary.mean, yerr=summary.half_width, elinewidth=0.8, capsize=1.2, zorder=3, **keywords
                )
                corners[f"{name} {method}"] = (float(x), summary.mean)
                networks[f"{name} {method}"] = (students[name], summary.mean)
        _label(axes, math.sqrt(left * right), name.replace("__", " to\n"))
    stars = _draw_teacher_stars(axes, values, dataset, teachers)
    _format_gmacs_axis(
        axes, [*(edge for band in bands.values() for edge in band), *(g for g, _ in teachers.values() if g)]
    )
    if front := pareto_front({**networks, **stars}):
        draw_front(axes, [{**corners, **stars}[name] for name in front])


def _draw_teacher_stars(
    axes: Axes, values: Values, dataset: str, teachers: Mapping[str, tuple[float, str]]
) -> dict[str, tuple[float, float]]:
    """Draw the teachers and return GMACs and mean accuracy by name."""
    stars: list[tuple[Summary, float, str]] = []
    for name, (gmacs, pair) in teachers.items():
        points = [point.value for point in values.of_seeds(Group(dataset, pair), TEACHER, TOP1).values()]
        if gmacs and points:
            stars.append((summarise(points), gmacs, name))
    stars.sort(key=lambda star: -star[0].mean)
    for rank, (summary, gmacs, name) in enumerate(stars):
        keywords = Look(DARK, "*").keywords(10)
        axes.errorbar(gmacs, summary.mean, yerr=summary.half_width, zorder=4, elinewidth=0.8, **keywords)
        is_above = rank % 2 == 0  # names of neighbours stay apart
        place: dict[str, Any] = {"xytext": (0, 6 if is_above else -6), "textcoords": "offset points", "ha": "center"}
        axes.annotate(name, (gmacs, summary.mean), **place, va="bottom" if is_above else "top", fontsize=7, zorder=5)
    return {f"teacher {name}": (gmacs, summary.mean) for summary, gmacs, name in stars}


def spread_bands(students: Mapping[str, float], others: list[float]) -> dict[str, tuple[float, float]]:
    """Return the band in GMACs over which each pair's points are spread, so that no two bands touch.

    Pairs whose students cost (nearly) the same share a band, side by side.

    Args:
        students: GMACs of each pair's student, > 0.
        others: GMACs of what else is drawn, > 0.

    Example:
        >>> bands = spread_bands({"a": 1.0, "b": 1.0}, [100.0])
        >>> bands["a"][1] == bands["b"][0]
        True
    """
    logs = {name: math.log10(gmacs) for name, gmacs in students.items()}
    everything = [*logs.values(), *(math.log10(gmacs) for gmacs in others)]
    extent = max(max(everything) - min(everything), 0.3)
    sites: list[list[str]] = []
    for name in sorted(logs, key=lambda name: logs[name]):
        is_near = bool(sites) and logs[name] - logs[sites[-1][0]] < 0.06 * extent
        if is_near:
            sites[-1].append(name)
        else:
            sites.append([name])
    centres = [sum(logs[name] for name in site) / len(site) for site in sites]
    gaps = [b - a for a, b in pairwise(centres)]
    width = min([0.8 * gap for gap in gaps] + [0.22 * extent])
    bands: dict[str, tuple[float, float]] = {}
    for centre, site in zip(centres, sites, strict=True):
        edges = [10 ** (centre + width * (i / len(site) - 0.5)) for i in range(len(site) + 1)]
        bands |= {name: (edges[i], edges[i + 1]) for i, name in enumerate(site)}
    return bands


def _format_gmacs_axis(axes: Axes, shown: list[float]) -> None:
    axes.set_xscale("log")
    logs = [math.log10(gmacs) for gmacs in shown]
    margin = 0.06 * max(max(logs) - min(logs), 0.3)
    axes.set_xlim(10 ** (min(logs) - margin), 10 ** (max(logs) + margin))
    is_narrow = max(logs) - min(logs) < 0.7
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 4, 5, 6, 8) if is_narrow else (1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = max(axes.get_ylim()[0], 0.0), min(axes.get_ylim()[1], 100.0)  # an interval may reach beyond what can be
    axes.set_ylim(low - 0.14 * (high - low), high + 0.06 * (high - low))  # room for the names below and above


def _label(axes: Axes, x: float, text: str) -> None:
    place: dict[str, Any] = {
        "xy": (x, 0),
        "xycoords": axes.get_xaxis_transform(),
        "xytext": (0, 3),
        "textcoords": "offset points",
    }
    axes.annotate(text, **place, ha="center", va="bottom", fontsize=7, color=DARK)


def _gmacs(values: Values, dataset: str, pair: str, role: str) -> float:
    return values.cost(Group(dataset, pair), role, "gmacs") or 0.0
