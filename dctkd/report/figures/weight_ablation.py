"""Accuracy against the weight of a method's terms, for experiments that vary it; published values beside our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter

from dctkd.report.captions import seeds_text
from dctkd.report.collect import Collected
from dctkd.report.figures.montage import draw_sentence
from dctkd.report.figures.style import (
    BEHIND_TEXT,
    DARK,
    Look,
    facets_of_groups,
    hide_unused,
    left_out_text,
    looks_of_methods,
    make_facets,
)
from dctkd.report.layout import BASELINE, SHORT_STATUS, TOP1, Group, Layout, Values
from dctkd.report.published import weight_of
from dctkd.report.statistics import summarise
from dctkd.report.sweeps import sweeps

MAX_GROUPS = 9
MAX_SIDE_BY_SIDE = 4
"""Methods in one row of facets, where there is one dataset and pair."""

MIN_LABEL_DISTANCE = 0.055
"""Least distance of two tick labels, as a share of the axis."""

PUBLISHED = Look(DARK, "D", is_filled=False)
BASELINE_LINE: dict[str, Any] = {"color": DARK, "lw": 1.0, "ls": (0, (5, 2)), "zorder": 1}

Published = Mapping[tuple[Group, str, float], float]
"""Published top-1 accuracy in percent, by dataset and pair, method as in `sweeps`, and weight."""


def draw_weight_ablation(collected: Collected, values: Values, published: Published | None = None) -> Figure:
    """Draw top-1 accuracy against a method's weight: a facet per swept method, dataset and pair.

    Args:
        collected: The experiment.
        values: Its numbers.
        published: Published values, drawn as hollow markers; of weights that were not run, too.
    """
    layout, found = Layout.of(collected.plan), sweeps(collected.plan)
    title = f"{collected.plan.name}: accuracy against the weight of the method ({seeds_text(layout)})"
    if not found:
        return draw_sentence(title, "No method has three or more rows that differ only in its weight.")
    groups = layout.groups[:MAX_GROUPS]
    shown = [(method, group) for method in found for group in groups]
    num_columns = facets_of_groups(groups)[1] if len(groups) > 1 else min(len(shown), MAX_SIDE_BY_SIDE)
    num_rows = -(-len(shown) // num_columns)
    width, height = (6.4, 3.6) if len(shown) == 1 else (3.5, 2.8)
    inches = (0.8 + width * num_columns, 1.2 + height * num_rows)
    figure, facets = make_facets(num_rows, num_columns, inches, share_y=False)
    figure.suptitle(title + left_out_text(layout.groups, len(groups)), fontweight="bold")
    look = looks_of_methods(layout.methods)
    for axes, (method, group) in zip(facets, shown, strict=False):
        rows = {row: weight for row in found[method] if (weight := weight_of(collected.plan, row)) is not None}
        reported = {w: v for (of, name, w), v in (published or {}).items() if (of, name) == (group, method)}
        x = axis_places([*rows.values(), *reported])
        _draw_baseline(axes, values, group)
        _draw_sweep(axes, values, group, {row: x[weight] for row, weight in rows.items()}, look[next(iter(rows))])
        if reported:
            axes.plot([x[w] for w in reported], list(reported.values()), zorder=4, **PUBLISHED.keywords(5))
        _format_weight_axis(axes, x)
        axes.set(title=f"{method}, {layout.label(group)}", xlabel="weight of the method's terms (no unit, log scale)")
    for axes in facets[::num_columns]:
        axes.set_ylabel("top-1 accuracy (%)")
    hide_unused(facets, len(shown))
    _draw_legend(figure, has_baseline=BASELINE in layout.methods, has_published=bool(published))
    return figure


def axis_places(weights: Sequence[float]) -> dict[float, float]:
    """Return where on a logarithmic axis each weight stands: at itself, and 0, which has no place, left of all others.

    Args:
        weights: Weights, >= 0, at least one of them > 0.

    Example:
        >>> axis_places([0.0, 0.1, 1.0])
        {0.0: 0.05, 0.1: 0.1, 1.0: 1.0}
    """
    positive = sorted({weight for weight in weights if weight > 0})
    zero = positive[0] / max(2.0, (positive[-1] / positive[0]) ** 0.1)
    return {weight: weight if weight > 0 else zero for weight in sorted(set(weights))}


def _draw_baseline(axes: Axes, values: Values, group: Group) -> None:
    points = [point.value for point in values.of_seeds(group, BASELINE, TOP1).values()]
    if not points:
        return
    summary = summarise(points)
    axes.axhline(summary.mean, **BASELINE_LINE)
    if summary.ci_low is not None and summary.ci_high is not None:
        axes.axhspan(summary.ci_low, summary.ci_high, color=DARK, alpha=0.1, zorder=0, linewidth=0)


def _draw_sweep(axes: Axes, values: Values, group: Group, places: Mapping[str, float], look: Look) -> None:
    """Draw each seed, mean and interval of each row, a line through the means, and how many runs failed."""
    means: dict[float, float] = {}
    for row, x in places.items():
        points = [point.value for point in values.of_seeds(group, row, TOP1).values()]
        if points:
            summary = summarise(points)
            means[x] = summary.mean
            axes.plot([x] * len(points), points, ls="none", marker="_", ms=9, color=look.colour, alpha=0.8, zorder=2)
            half = summary.half_width
            axes.errorbar(x, summary.mean, yerr=half, elinewidth=1.1, capsize=1.8, zorder=3, **look.keywords(4))
        failed = [f"{count} {SHORT_STATUS[status]}" for status, count in sorted(values.failures(group, row).items())]
        if failed:
            axes.annotate(
                ", ".join(failed),
                (x, 0.02),
                xycoords=axes.get_xaxis_transform(),
                rotation=90,
                ha="center",
                va="bottom",
                fontsize=6,
                color=DARK,
                bbox=BEHIND_TEXT,
                zorder=5,
            )
    axes.plot(list(means), list(means.values()), color=look.colour, lw=0.9, zorder=2)


def _format_weight_axis(axes: Axes, places: Mapping[float, float]) -> None:
    axes.set_xscale("log")
    low, high = min(places.values()), max(places.values())
    margin = (high / low) ** 0.05
    axes.set_xlim(low / margin, high * margin)
    labels = _labelled(places, (high / low) ** MIN_LABEL_DISTANCE)
    axes.xaxis.set_major_locator(FixedLocator(list(labels)))
    axes.xaxis.set_major_formatter(FixedFormatter(list(labels.values())))
    axes.xaxis.set_minor_locator(FixedLocator([place for place in places.values() if place not in labels]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="both", bottom=True, length=3)
    if 0.0 in places:
        # The scale ends between 0 and the least weight.
        least = min(place for weight, place in places.items() if weight > 0)
        middle = (places[0.0] * least) ** 0.5
        axes.text(
            middle, 0, "//", transform=axes.get_xaxis_transform(), ha="center", va="center", fontsize=8, color=DARK
        )
    bottom, top = axes.get_ylim()  # an interval of few seeds may reach beyond what is possible
    axes.set_ylim(max(bottom, 0.0), min(top, 101.0))


def _labelled(places: Mapping[float, float], ratio: float) -> dict[float, str]:
    """Return place and text of the tick labels: of all weights that keep this ratio to the others, round ones first."""
    labels: dict[float, str] = {}
    for weight in sorted(places, key=_roundness):
        place = places[weight]
        if all(max(place / other, other / place) >= ratio for other in labels):
            labels[place] = f"{weight:g}"
    return dict(sorted(labels.items()))


def _roundness(weight: float) -> int:
    """Return 0 for 0 and powers of ten, 1 for 2 and 5 times these, 2 for the rest."""
    digits = f"{weight:e}".split("e")[0].rstrip("0.")
    return {"": 0, "1": 0, "2": 1, "5": 1}.get(digits, 2)


def _draw_legend(figure: Figure, *, has_baseline: bool, has_published: bool) -> None:
    mean = Line2D([], [], label="mean, 95 % interval", **Look(DARK, "o").keywords(5))
    handles = [mean, Line2D([], [], color=DARK, marker="_", ls="none", ms=9, alpha=0.8, label="one seed")]
    if has_baseline:
        handles.append(Line2D([], [], label=f"{BASELINE}, 95 % interval", **BASELINE_LINE))
    if has_published:
        handles.append(Line2D([], [], label="published", **PUBLISHED.keywords(5)))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
