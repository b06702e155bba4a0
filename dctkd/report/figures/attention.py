"""Figures about where the networks look: overlap by stage, accuracy against overlap, spectra; montage: montage.py.

Each function draws one figure from the collected results and the evaluation files, or a sentence where there is
nothing to show. Drawn and written as the other figures are; see figures.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from dctkd.metrics import OVERLAP_FOLDER
from dctkd.report.attention import AttentionFiles, Spectra, stage_number, students_of
from dctkd.report.captions import seeds_text
from dctkd.report.collect import Collected
from dctkd.report.figures.correlation import rank_correlation
from dctkd.report.figures.montage import draw_montage, draw_sentence
from dctkd.report.figures.style import DARK, Drawing, Look, looks_of_methods
from dctkd.report.layout import BASELINE, TOP1, Group, Layout, Measure, Values
from dctkd.report.statistics import summarise

MAX_GROUPS = 3
"""More combinations of dataset and pair than this are left to the tables."""

SIMILARITIES = {"overlap_ssim": "SSIM", "overlap_pearson": "Pearson correlation"}
CONTROLS = frozenset({"shuffled_teacher"})
MEAN_SSIM = Measure("overlap_ssim", "mean")
NOTHING_FRACTION = 1e-6
"""A spectrum value below this fraction of the largest is rounding noise: the maps' means are removed, bin 0 is 0."""

GUIDE: dict[str, Any] = {"color": DARK, "lw": 0.9, "ls": (0, (4, 2)), "zorder": 1}


def draw_overlap_by_stage(collected: Collected, attention: AttentionFiles) -> Figure:
    """Draw similarity to the teacher: facets per group, measure and stage; a row per method."""
    del attention  # every number is in the tidy table
    values, layout = Values(collected.frame), Layout.of(collected.plan)
    title = f"{collected.plan.name}: similarity of student's and teacher's activation maps ({seeds_text(layout)})"
    groups = [group for group in layout.groups if _has_overlap(values, layout, group)]
    metrics = [metric for metric in SIMILARITIES if _stages(values, metric)]
    if not groups or not metrics:
        return draw_sentence(title, "No finished run has the overlap of its activation maps.")
    shown = groups[:MAX_GROUPS]
    stages = list(dict.fromkeys(stage for metric in metrics for stage in _stages(values, metric)))
    num_rows = len(shown) * len(metrics)
    height = 0.75 + max(1.3, 0.17 * len(layout.methods))
    figure = _make_figure((1.6 + 1.75 * len(stages), 0.9 + num_rows * height))
    _set_title(figure, title + _left_out(groups))
    facets = figure.subplots(num_rows, len(stages), squeeze=False, sharey=True)
    looks = looks_of_methods(layout.methods)
    for row, (group, metric) in enumerate((group, metric) for group in shown for metric in metrics):
        for axes, stage in zip(facets[row], stages, strict=True):
            _draw_similarity(axes, values, group, Measure(metric, stage), looks)
            axes.set_title(stage if row == 0 else "", fontsize=9)
            axes.set_xlabel(SIMILARITIES[metric], fontsize=8)
        facets[row][0].set_ylabel("\n".join((group.dataset, group.pair)), fontsize=7)
    note = "marker and bar: mean, 95 % interval over seeds; ticks: seeds; dashed: baseline. 1: equal maps; no unit. "
    figure.supxlabel(note + "Every facet has its own scale.", fontsize=8)
    return figure


def _draw_similarity(axes: Axes, values: Values, group: Group, measure: Measure, looks: Mapping[str, Look]) -> None:
    for y, (method, look) in enumerate(looks.items()):
        if y % 2 == 0:
            axes.axhspan(y - 0.5, y + 0.5, color="0.965", zorder=0, linewidth=0)
        points = [point.value for point in values.of_seeds(group, method, measure).values()]
        if not points:
            continue
        summary = summarise(points)
        axes.plot(points, [y] * len(points), ls="none", marker="|", ms=4.5, color=look.colour, alpha=0.6, zorder=2)
        half = summary.half_width
        axes.errorbar(summary.mean, y, xerr=half, elinewidth=1.1, capsize=1.8, zorder=3, **look.keywords(4))
        if method == BASELINE:
            axes.axvline(summary.mean, **GUIDE)
    axes.set(ylim=(len(looks) - 0.5, -0.5))
    axes.set_yticks(range(len(looks)), list(looks))
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="y")
    low, high = axes.get_xlim()  # an interval of few seeds may reach beyond what is possible
    axes.set_xlim(max(low, -1.02), min(high, 1.02))


def overlap_gains(values: Values, group: Group, methods: tuple[str, ...]) -> dict[str, list[tuple[float, float]]]:
    """Return what each run gains over the baseline of its own seed: (mean SSIM, top-1 in points), by method.

    The baseline itself is left out, and so are runs that lack one of the numbers, or whose baseline does.
    """
    base_top1 = values.of_seeds(group, BASELINE, TOP1)
    base_ssim = values.of_seeds(group, BASELINE, MEAN_SSIM)
    gains: dict[str, list[tuple[float, float]]] = {}
    for method in methods:
        top1, ssim = values.of_seeds(group, method, TOP1), values.of_seeds(group, method, MEAN_SSIM)
        seeds = sorted(top1.keys() & ssim.keys() & base_top1.keys() & base_ssim.keys())
        if seeds and method != BASELINE:
            gains[method] = [
                (ssim[seed].value - base_ssim[seed].value, top1[seed].value - base_top1[seed].value) for seed in seeds
            ]
    return gains


def draw_accuracy_vs_overlap(collected: Collected, attention: AttentionFiles) -> Figure:
    """Draw gain in accuracy against gain in overlap, both over the baseline of the same seed: does alike looking pay?

    A facet per dataset and pair, a point per run, Spearman's rank correlation over the runs of the facet.
    """
    del attention  # every number is in the tidy table
    values, layout = Values(collected.frame), Layout.of(collected.plan)
    title = f"{collected.plan.name}: does looking alike pay? ({seeds_text(layout)} per method)"
    left_out = {BASELINE, *_controls(collected)}
    compared = tuple(method for method in layout.methods if method not in left_out)
    gains = {group: overlap_gains(values, group, compared) for group in layout.groups}
    groups = [group for group, found in gains.items() if found]
    if not groups:
        return draw_sentence(title, f"No run has accuracy and overlap, each also for the {BASELINE} of its seed.")
    shown = groups[:MAX_GROUPS]
    figure = _make_figure((2.3 + max(4.6, 3.6 * len(shown)), max(4.4, 1.5 + 0.17 * len(layout.methods))))
    _set_title(figure, title + _left_out(groups))
    looks = {method: look for method, look in looks_of_methods(layout.methods).items() if method in compared}
    (facets,) = figure.subplots(1, len(shown), squeeze=False)
    for axes, group in zip(facets, shown, strict=True):
        _draw_gains(axes, gains[group], looks)
        axes.set_title(f"{layout.label(group)}\n{_correlation_text(gains[group])}", fontsize=9)
        axes.set_xlabel(f"mean SSIM minus {BASELINE}'s (no unit)")
    facets[0].set_ylabel(f"top-1 accuracy minus {BASELINE}'s (points)")
    handles = [Line2D([], [], label=method, **look.keywords(5)) for method, look in looks.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False, title="one marker per run")
    note = (
        "\u03c1: Spearman's rank correlation over runs, with a 95 % bootstrap interval (runs resampled).\n"
        "Runs that share a method or a baseline are not independent: the interval is too narrow. Without controls."
    )
    figure.supxlabel(note, fontsize=7)
    return figure


def _controls(collected: Collected) -> set[str]:
    """Rows that a method is measured against; their runs say nothing about methods."""
    rows = collected.plan.config.methods
    return {name for name, row in rows.items() if (row.method or name.removesuffix("+kd")) in CONTROLS}


def _draw_gains(axes: Axes, gains: Mapping[str, list[tuple[float, float]]], looks: Mapping[str, Look]) -> None:
    axes.axvline(0, **GUIDE)
    axes.axhline(0, **GUIDE)
    for method, points in gains.items():
        x, y = zip(*points, strict=True)
        axes.plot(x, y, zorder=3, **looks[method].keywords(5))
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _correlation_text(gains: Mapping[str, list[tuple[float, float]]]) -> str:
    x, y = zip(*(point for points in gains.values() for point in points), strict=True)
    found = rank_correlation(x, y)
    if found is None:
        return f"\u03c1 not defined, n = {len(x)} run{'s' if len(x) != 1 else ''}"
    interval = "" if found.ci_low is None else f" [{found.ci_low:+.2f}, {found.ci_high:+.2f}]"
    return f"\u03c1 = {found.rho:+.2f}{interval}, n = {found.n} runs".replace("-", "\u2212")


def draw_spectra(collected: Collected, attention: AttentionFiles) -> Figure:
    """Draw mean |DCT| by radial frequency, and its ratio to the teacher's: a facet per stage, a line per method.

    Of the first dataset and pair that has files; spectra are averaged over seeds.
    """
    layout = Layout.of(collected.plan)
    title = f"{collected.plan.name}: spectra of activation maps"
    for group in layout.groups:
        students, teacher = mean_spectra(collected, attention, group)
        # A map of one position has no spectrum but its mean, which is removed.
        stages = sorted((stage for stage, spectrum in teacher.items() if (spectrum > 0).any()), key=stage_number)
        if students and stages:
            break
    else:
        return draw_sentence(title, f"No student has spectra on disk ({OVERLAP_FOLDER}/spectra.json).")
    figure = _make_figure((1.6 + 2.25 * len(stages), 5.4))
    _set_title(figure, f"{title} ({group.dataset}, {group.pair}; mean over test images and {seeds_text(layout)})")
    looks = looks_of_methods(layout.methods)
    facets = figure.subplots(2, len(stages), squeeze=False, sharex="col", height_ratios=(1, 1))
    for column, stage in enumerate(stages):
        top, bottom = facets[0][column], facets[1][column]
        by_method = {method: by_stage[stage] for method, by_stage in students.items() if stage in by_stage}
        _draw_spectra_of_stage(top, bottom, teacher[stage], by_method, looks)
        top.set_title(stage, fontsize=9)
    facets[0][0].set_ylabel("mean |DCT-II| (no unit, log scale)", fontsize=8)
    facets[1][0].set_ylabel("ratio to the teacher's (no unit)", fontsize=8)
    figure.align_ylabels(list(facets[:, 0]))
    figure.supxlabel("radial frequency (half cycles per map side; the mean, at 0, is removed)", fontsize=8)
    handles = [Line2D([], [], label=method, lw=1, **_with_line(looks[method], 4)) for method in students]
    black = Line2D([], [], label="teacher", color="black", lw=2)
    figure.legend(handles=[black, *handles], loc="outside right center", frameon=False)
    return figure


def _draw_spectra_of_stage(
    top: Axes,
    bottom: Axes,
    teacher: NDArray[np.float64],
    students: Mapping[str, NDArray[np.float64]],
    looks: Mapping[str, Look],
) -> None:
    """Draw spectra above and ratios below; maps of another size than the teacher's have no ratio."""
    reference = _without_noise(teacher)
    _draw_line(top, reference, Look("black", ""), 2.0)
    bottom.axhline(1.0, color="black", lw=2.0, zorder=2)
    for method, found in students.items():
        spectrum = _without_noise(found)
        _draw_line(top, spectrum, looks[method], 1.0)
        if spectrum.shape == reference.shape:
            _draw_line(bottom, spectrum / reference, looks[method], 1.0)
    _format_spectrum_axes(top, bottom)
    # Frequency 0 is the mean, which is removed; half a step at both ends, also where there is a single frequency.
    top.set_xlim(0.5, max(len(spectrum) for spectrum in (teacher, *students.values())) - 0.5)


def mean_spectra(
    collected: Collected, attention: AttentionFiles, group: Group
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, NDArray[np.float64]]]:
    """Return the spectra of a group by method and stage, and the teacher's by stage: means over runs, shape (R,).

    Methods without files are left out; without any, both are empty.
    """
    students: dict[str, list[Spectra]] = {}
    for (method, _), digest in students_of(collected, group).items():
        found = attention.spectra(digest)
        if found is not None and "student" in found and "teacher" in found:
            students.setdefault(method, []).append(found)
    everything = [found for spectra in students.values() for found in spectra]
    by_method = {method: _mean_by_stage(spectra, "student") for method, spectra in students.items()}
    return by_method, _mean_by_stage(everything, "teacher")


def _mean_by_stage(spectra: list[Spectra], network: str) -> dict[str, NDArray[np.float64]]:
    stages = dict.fromkeys(stage for found in spectra for stage in found[network])
    means: dict[str, NDArray[np.float64]] = {}
    for stage in stages:
        rows = [found[network][stage] for found in spectra if stage in found[network]]
        means[stage] = np.mean(rows, axis=0)
    return means


def _draw_line(axes: Axes, spectrum: NDArray[np.float64], look: Look, width: float) -> None:
    # Some eight markers per line, at the same places for all: enough to tell lines apart, few enough to see them.
    step = max(1, len(spectrum) // 8)
    axes.plot(np.arange(len(spectrum)), spectrum, lw=width, zorder=3, markevery=(1, step), **_with_line(look, 3.2))


def _with_line(look: Look, size: float) -> dict[str, Any]:
    return {**look.keywords(size), "ls": "-"}


def _without_noise(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(spectrum > NOTHING_FRACTION * spectrum.max(), spectrum, np.nan)


def _format_spectrum_axes(top: Axes, bottom: Axes) -> None:
    top.set_yscale("log")
    low, high = top.get_ylim()
    top.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 8 * low else MaxNLocator(5))
    top.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    top.yaxis.set_minor_locator(NullLocator())
    for axes in (top, bottom):
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _stages(values: Values, metric: str) -> list[str]:
    return [measure.stage for measure in values.measures(metric) if measure.split == "test"]


def _has_overlap(values: Values, layout: Layout, group: Group) -> bool:
    measures = [Measure(metric, stage) for metric in SIMILARITIES for stage in _stages(values, metric)]
    return any(values.of_seeds(group, method, measure) for method in layout.methods for measure in measures)


def _left_out(groups: list[Group]) -> str:
    more = len(groups) - MAX_GROUPS
    return f"\nthe first {MAX_GROUPS} of {len(groups)} combinations of dataset and pair" if more > 0 else ""


def _set_title(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontweight="bold", fontsize=10)


def _make_figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


ATTENTION_FIGURES: Mapping[str, Callable[[Collected, AttentionFiles], Figure]] = MappingProxyType(
    {
        "montage": draw_montage,
        "overlap_by_stage": draw_overlap_by_stage,
        "accuracy_vs_overlap": draw_accuracy_vs_overlap,
        "spectra": draw_spectra,
    }
)
"""Name of the file -> what draws it."""


def attention_figures(collected: Collected, store: Path | None) -> dict[str, Drawing]:
    """Return what draws the figures about where the networks look, by the name of their files."""
    files = AttentionFiles(store)
    return {name: partial(draw, collected, files) for name, draw in ATTENTION_FIGURES.items()}
