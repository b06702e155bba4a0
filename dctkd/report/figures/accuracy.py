"""Top-1 accuracy: a row per method, a facet per dataset, a colour per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dctkd.report.captions import seeds_text
from dctkd.report.collect import TEACHER, Collected
from dctkd.report.figures.style import (
    BEHIND_TEXT,
    DARK,
    DASHES,
    MARKERS,
    MAX_FACETS_PER_ROW,
    Look,
    colour_of,
    hide_unused,
    make_facets,
)
from dctkd.report.layout import SHORT_STATUS, TOP1, Group, Layout, Values
from dctkd.report.statistics import Summary, summarise

ROW_SPREAD = 0.8
"""Height of the band that the pairs of one method share, in rows."""


def draw_accuracy(collected: Collected, values: Values) -> Figure:
    """Draw top-1 accuracy: a row per method, a facet per dataset, a colour per pair, the teacher as a line."""
    layout = Layout.of(collected.plan)
    looks = {pair: Look(colour_of(i), MARKERS[i % len(MARKERS)]) for i, pair in enumerate(layout.pairs)}
    num_columns = min(len(layout.datasets), MAX_FACETS_PER_ROW)
    num_rows = math.ceil(len(layout.datasets) / num_columns)
    height = max(1.8, len(layout.methods) * (0.13 + 0.09 * len(layout.pairs)))
    size = (2.6 + 2.9 * num_columns, 1.2 + 0.18 * len(layout.pairs) + num_rows * (height + 0.5))
    figure, facets = make_facets(num_rows, num_columns, size, share_y=True)
    figure.suptitle(f"{collected.plan.name}: accuracy after the last epoch ({seeds_text(layout)})", fontweight="bold")
    handles: dict[str, Line2D] = {}
    for dataset, axes in zip(layout.datasets, facets, strict=False):
        for row in range(0, len(layout.methods), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="0.965", zorder=0, linewidth=0)
        for pair, look in looks.items():
            _draw_pair(axes, layout, values, Group(dataset, pair), look)
        handles |= _draw_teachers(axes, collected, values, dataset, looks)
        _finish_accuracy_facet(axes, layout, values, dataset)
    hide_unused(facets, len(layout.datasets))
    pairs = {pair: Line2D([], [], label=pair, **look.keywords(5)) for pair, look in looks.items()}
    seeds = Line2D(
        [], [], color=DARK, marker="|", ls="none", ms=5, alpha=0.6, label="one seed (marker: mean, bar: 95 % interval)"
    )
    legend = [*pairs.values(), *handles.values(), seeds]
    figure.legend(handles=legend, loc="outside lower center", ncols=min(3, num_columns + 1), frameon=False)
    return figure


def _finish_accuracy_facet(axes: Axes, layout: Layout, values: Values, dataset: str) -> None:
    axes.set(title=dataset, xlabel="top-1 accuracy (%)", ylim=(len(layout.methods) - 0.5, -0.5))
    axes.set_yticks(range(len(layout.methods)), layout.methods)
    axes.grid(visible=False, axis="y")
    # An interval of few seeds may reach beyond what is possible; the words about failed runs need room.
    low, high = axes.get_xlim()
    has_failures = any(
        values.failures(Group(dataset, pair), method) for pair in layout.pairs for method in layout.methods
    )
    axes.set_xlim(max(low, 0.0), min(high, 101.0) + (0.15 * (high - low) if has_failures else 0.0))


def _draw_pair(axes: Axes, layout: Layout, values: Values, group: Group, look: Look) -> None:
    """Draw one pair in one facet: each seed, mean and interval, and how many runs failed."""
    slot = ROW_SPREAD / len(layout.pairs)
    offset = (layout.pairs.index(group.pair) + 0.5) * slot - ROW_SPREAD / 2
    for row, method in enumerate(layout.methods):
        y = row + offset
        points = [point.value for point in values.of_seeds(group, method, TOP1).values()]
        if points:
            axes.plot(points, [y] * len(points), ls="none", marker="|", ms=4.5, color=look.colour, alpha=0.6, zorder=2)
            _draw_summary(axes, summarise(points), y, look)
        failures = [
            f"{count} {SHORT_STATUS[status]}" for status, count in sorted(values.failures(group, method).items())
        ]
        if failures:
            text = ", ".join(failures)
            place: dict[str, Any] = {
                "xy": (1.0, y),
                "xycoords": axes.get_yaxis_transform(),
                "xytext": (-2, 0),
                "textcoords": "offset points",
            }
            axes.annotate(text, **place, ha="right", va="center", fontsize=6, color=look.colour, bbox=BEHIND_TEXT)


def _draw_summary(axes: Axes, summary: Summary, y: float, look: Look) -> None:
    half = summary.half_width
    axes.errorbar(summary.mean, y, xerr=half, elinewidth=1.1, capsize=1.8, zorder=3, **look.keywords(4))


def _draw_teachers(
    axes: Axes, collected: Collected, values: Values, dataset: str, looks: Mapping[str, Look]
) -> dict[str, Line2D]:
    """Draw a line per teacher and return their legend entries; a teacher of one pair has the pair's colour."""
    handles: dict[str, Line2D] = {}
    names = list(dict.fromkeys(pair.teacher for pair in collected.plan.config.pairs))
    for number, name in enumerate(names):
        pairs = [pair.name for pair in collected.plan.config.pairs if pair.teacher == name]
        points = values.of_seeds(Group(dataset, pairs[0]), TEACHER, TOP1)
        if not points:
            continue
        colour = looks[pairs[0]].colour if len(pairs) == 1 else DARK
        summary = summarise(point.value for point in points.values())
        dash = DASHES[number % len(DASHES)]
        handles[name] = axes.axvline(summary.mean, color=colour, ls=dash, lw=1.3, zorder=1, label=f"teacher {name}")
        if summary.ci_low is not None and summary.ci_high is not None:
            axes.axvspan(summary.ci_low, summary.ci_high, color=colour, alpha=0.1, zorder=0, linewidth=0)
    return handles
