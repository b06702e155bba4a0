"""Demsar's critical difference diagram: mean ranks of the methods over datasets and pairs, and which do not differ."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from dctkd.report.captions import seeds_text
from dctkd.report.collect import Collected
from dctkd.report.figures.montage import draw_sentence
from dctkd.report.figures.style import looks_of_methods, make_facets
from dctkd.report.layout import Layout, Values
from dctkd.report.statistics import ALPHA, MIN_BLOCKS, MIN_METHODS, Ranking, complete_blocks, rank
from dctkd.report.tables.comparison import block_means, p_text

MAX_REASONS = 4
LINE_CHARACTERS = 112
LABEL_GAP = 0.006
"""Between a line and its label, as a share of the scale."""


def draw_critical_difference(collected: Collected, values: Values) -> Figure:
    """Draw the mean ranks of the methods over blocks (dataset with pair); bars join methods that do not differ.

    A block's value is the mean over its seeds. Without enough blocks or methods, draw a sentence that says so.

    Source:
        Demsar 2006, JMLR 7, section 3.2.4; drawn by scikit-posthocs.
    """
    layout = Layout.of(collected.plan)
    title = f"{collected.plan.name}: ranks over datasets and pairs (block: mean over {seeds_text(layout)})"
    frame, left_out = complete_blocks(block_means(values, layout))
    num_blocks, num_methods = frame.shape
    if num_blocks < MIN_BLOCKS or num_methods < MIN_METHODS:
        has = f"{num_blocks} {'block has' if num_blocks == 1 else 'blocks have'} all of {num_methods} methods"
        needed = f"{MIN_BLOCKS} blocks and {MIN_METHODS} methods"
        return draw_sentence(title, f"Too few results: {has}; a ranking needs {needed}.")
    ranking = rank(frame)
    note = _note(ranking, left_out)
    num_labels = (num_methods + 1) // 2
    # A line of text per label; bars stand above the labels, and there may be nearly as many.
    height = 1.6 + 0.17 * note.count("\n") + 0.36 * num_labels
    figure, (axes,) = make_facets(1, 1, (8.6, height), share_y=False)
    figure.suptitle(title, fontweight="bold")
    _draw_diagram(axes, ranking, {name: look.colour for name, look in looks_of_methods(layout.methods).items()})
    figure.supxlabel(note, fontsize=8)
    return figure


def _draw_diagram(axes: Axes, ranking: Ranking, colours: dict[str, Any]) -> None:
    from scikit_posthocs import critical_difference_diagram  # here: takes more than a second to import

    axes.grid(visible=False)
    num_methods = len(ranking.mean_rank)
    scale = num_methods - 1
    artists = critical_difference_diagram(
        ranking.mean_rank,
        ranking.nemenyi_p,
        alpha=ALPHA,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        label_props={"fontsize": 8},
        elbow_props={"linewidth": 1.0},
        marker_props={"s": 16},
        crossbar_props={"color": "black", "linewidth": 2.5, "solid_capstyle": "butt"},
        color_palette={name: colours[name] for name in ranking.mean_rank},
        text_h_margin=0.02 * scale,
    )
    for label in artists["labels"]:
        label.set_color("black")  # the library prints it in the colour of its line, some of which are pale
        away = -1 if label.get_horizontalalignment() == "right" else 1
        label.set_x(label.get_position()[0] + away * LABEL_GAP * scale)
    for (bar,) in artists["crossbars"]:
        # The library joins the methods of a bar in the order of a set, which changes from process to process.
        bar.set_xdata(sorted(bar.get_xdata()))
    _draw_critical_difference(axes, ranking)
    axes.xaxis.set_major_locator(FixedLocator(range(1, num_methods + 1, max(1, round(scale / 10)))))
    axes.tick_params(axis="x", labelsize=8, length=3, top=True, direction="out", pad=1)
    axes.set_xlim(1, num_methods)


def _draw_critical_difference(axes: Axes, ranking: Ranking) -> None:
    """Draw the length of the critical difference above the scale, at most as long as the scale."""
    y = 2.0
    end = min(1 + ranking.critical_difference, len(ranking.mean_rank))
    is_within = ranking.is_able_to_separate
    axes.plot([1, end], [y, y], color="black", lw=1.2, marker="|" if is_within else "", ms=6)
    beyond = "" if is_within else ", longer than the scale"
    text = f"critical difference {ranking.critical_difference:.2f}{beyond}"
    axes.text((1 + end) / 2, y + 0.25, text, ha="center", va="bottom", fontsize=8)


def _note(ranking: Ranking, left_out: Sequence[str]) -> str:
    shown = p_text(ranking.friedman_p)
    friedman = f"p {shown}" if shown.startswith("<") else f"p = {shown}"
    sentences = [
        f"{ranking.num_blocks} blocks; mean rank over blocks in brackets, 1 is best. "
        f"Friedman's test that all are alike: {friedman}.",
        "Bars join methods whose mean ranks differ by less than the critical difference, "
        f"{ranking.critical_difference:.2f} (Nemenyi at {ALPHA:.0%}).",
    ]
    if not ranking.is_able_to_separate:
        sentences.append("So few blocks cannot tell any two methods apart, whatever their results.")
    sentences += left_out[:MAX_REASONS]
    if len(left_out) > MAX_REASONS:
        sentences.append(f"{len(left_out) - MAX_REASONS} more blocks or methods are left out.")
    return "\n".join(
        line for sentence in sentences for line in textwrap.wrap(sentence, LINE_CHARACTERS, break_on_hyphens=False)
    )
