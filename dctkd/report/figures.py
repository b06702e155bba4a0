"""The figures of an experiment: accuracy per method, and accuracy against the cost of inference.

Drawn without pyplot's global state, and without dates or random names in the files: the same results give the same
bytes. Colours are seaborn's colour-blind palette; markers, fills and dashes differ too, for prints in grey.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dctkd.provenance import write_atomic
from dctkd.report import FIGURE_SUFFIXES
from dctkd.report.captions import seeds_text
from dctkd.report.collect import STUDENT, TEACHER, Collected
from dctkd.report.layout import SHORT_STATUS, TOP1, Group, Layout, Values
from dctkd.report.pareto import draw_front, front_handle, pareto_front
from dctkd.report.statistics import Summary, summarise

DOTS_PER_INCH = 180
# Without dates, and without the library's version, which would change the bytes but not the picture.
METADATA: Mapping[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
DASHES = ("--", ":", "-.", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)), (0, (1, 4)))
KD_SUFFIX = "+kd"
MAX_FACETS_PER_ROW = 3
TITLE_OF_MEANS = "mean, 95 % interval"
ROW_SPREAD = 0.8
"""Height of the band that the pairs of one method share, in rows."""

DARK = "0.2"
BEHIND_TEXT: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: Any
    marker: str
    is_filled: bool = True

    def keywords(self, size: float) -> dict[str, Any]:
        """Return matplotlib's keywords for markers of this size, in points."""
        face = self.colour if self.is_filled else "white"
        return {"color": self.colour, "marker": self.marker, "mfc": face, "mec": self.colour, "ms": size, "ls": "none"}


Drawing = Callable[[], Figure]
"""Draws one figure, in the style that `write_figures` sets."""


def accuracy_figures(collected: Collected) -> dict[str, Drawing]:
    """Return what draws the figures about accuracy, by the name of their files."""
    values = Values(collected.frame)
    return {
        "accuracy": lambda: draw_accuracy(collected, values),
        "accuracy_vs_gmacs": lambda: draw_accuracy_vs_gmacs(collected, values),
    }


def write_figures(drawings: Mapping[str, Drawing], target: Path) -> list[Path]:
    """Draw figures as .pdf, .png and .svg into a folder, each whole or not at all, and return the paths.

    Args:
        drawings: What draws each figure, by the name of its files.
        target: The folder.
    """
    paths: list[Path] = []
    with _style():
        for name, draw in drawings.items():
            figure = draw()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # solved once, instead of once per format
            for suffix in FIGURE_SUFFIXES:
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix, dpi=DOTS_PER_INCH, metadata=METADATA[suffix])
                write_atomic(target / f"{name}.{suffix}", buffer.getvalue())
                paths.append(target / f"{name}.{suffix}")
    return paths


@contextmanager
def _style() -> Iterator[None]:
    fixed: dict[Any, Any] = {"svg.hashsalt": "dctkd", "pdf.fonttype": 42, "axes.edgecolor": "0.6", "grid.color": "0.88"}
    with sns.axes_style("whitegrid"), sns.plotting_context("paper"), mpl.rc_context(fixed):
        yield


def draw_accuracy(collected: Collected, values: Values) -> Figure:
    """Draw top-1 accuracy: a row per method, a facet per dataset, a colour per pair, the teacher as a line."""
    layout = Layout.of(collected.plan)
    looks = {pair: Look(_colour(i), MARKERS[i % len(MARKERS)]) for i, pair in enumerate(layout.pairs)}
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


def looks_of_methods(methods: tuple[str, ...]) -> dict[str, Look]:
    """Give each method a colour and marker; `x` and `x+kd` share them, the latter is hollow."""
    bases = list(dict.fromkeys(method.removesuffix(KD_SUFFIX) for method in methods))
    looks: dict[str, Look] = {}
    for method in methods:
        i = bases.index(method.removesuffix(KD_SUFFIX))
        looks[method] = Look(_colour(i), MARKERS[i % len(MARKERS)], is_filled=not method.endswith(KD_SUFFIX))
    return looks


def _colour(number: int) -> Any:
    """Return a colour of the colour-blind palette; its yellow, too pale for thin lines, is replaced by black."""
    palette = list(sns.color_palette("colorblind"))
    palette[8] = (0.0, 0.0, 0.0)
    return palette[number % len(palette)]


def make_facets(
    num_rows: int, num_columns: int, size: tuple[float, float], *, share_y: bool
) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size, in inches, and its axes row by row; no global state of pyplot is touched."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(num_rows, num_columns, squeeze=False, sharey=share_y)
    return figure, list(grid.ravel())


def facets_of_groups(groups: Sequence[Group]) -> tuple[int, int]:
    """Return rows and columns of facets, a row per dataset where that fits; facets in the order of the groups.

    Example:
        >>> facets_of_groups([Group(dataset, pair) for dataset in "ab" for pair in ("r50__r18", "r50__mobile")])
        (2, 2)
        >>> facets_of_groups([Group(dataset, "r50__r18") for dataset in "abcd"])
        (2, 3)
    """
    num_pairs = len({group.pair for group in groups})
    num_columns = num_pairs if 1 < num_pairs <= MAX_FACETS_PER_ROW else min(len(groups), MAX_FACETS_PER_ROW)
    return math.ceil(len(groups) / num_columns), num_columns


def left_out_text(groups: Sequence[Group], num_shown: int) -> str:
    """Return what a title says where not all combinations of dataset and pair are shown; empty where they are."""
    more = len(groups) > num_shown
    return f"\nthe first {num_shown} of {len(groups)} combinations of dataset and pair" if more else ""


def hide_unused(facets: list[Axes], num_used: int) -> None:
    """Hide the axes that no facet needs."""
    for axes in facets[num_used:]:
        axes.set_visible(False)
