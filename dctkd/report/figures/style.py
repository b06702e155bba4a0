"""How all figures look, and how they are written.

Drawn without pyplot's global state, and without dates or random names in the files: the same results give the same
bytes. Colours are seaborn's colour-blind palette; markers, fills and dashes differ too, for prints in grey.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dctkd.config import KD_SUFFIX
from dctkd.errors import InputError
from dctkd.report import FIGURE_SUFFIXES
from dctkd.report.layout import Group

DOTS_PER_INCH = 180
# Without dates, and without the library's version, which would change the bytes but not the picture.
METADATA: Mapping[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
DASHES = ("--", ":", "-.", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)), (0, (1, 4)))
MAX_FACETS_PER_ROW = 3
TITLE_OF_MEANS = "mean, 95 % interval"

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
"""Draws one figure, in the style that `render` sets."""

Rendered = dict[str, bytes]
"""Content of a figure's files by suffix."""


def render(name: str, draw: Drawing) -> Rendered:
    """Draw a figure and return the content of its files, by suffix.

    Args:
        name: What an error is said to be about.
        draw: What draws it.
    """
    files: Rendered = {}
    try:
        with _style():
            figure = draw()
            figure.draw_without_rendering()
            figure.set_layout_engine(None)  # solved once: with an engine, be it an empty one, each format draws twice
            for suffix in FIGURE_SUFFIXES:
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix, dpi=DOTS_PER_INCH, metadata=METADATA[suffix])
                files[suffix] = buffer.getvalue()
    except InputError as error:
        raise InputError(f"figure {name}: {error}") from error
    except Exception as error:
        error.add_note(f"This happened in figure {name}.")
        raise
    return files


@contextmanager
def _style() -> Iterator[None]:
    fixed: dict[Any, Any] = {"svg.hashsalt": "dctkd", "pdf.fonttype": 42, "axes.edgecolor": "0.6", "grid.color": "0.88"}
    fixed |= {"figure.autolayout": False, "figure.constrained_layout.use": False}
    with sns.axes_style("whitegrid"), sns.plotting_context("paper"), mpl.rc_context(fixed):
        yield


def looks_of_methods(methods: tuple[str, ...]) -> dict[str, Look]:
    """Give each method a colour and marker; `x` and `x+kd` share them, the latter is hollow."""
    bases = list(dict.fromkeys(method.removesuffix(KD_SUFFIX) for method in methods))
    looks: dict[str, Look] = {}
    for method in methods:
        i = bases.index(method.removesuffix(KD_SUFFIX))
        looks[method] = Look(colour_of(i), MARKERS[i % len(MARKERS)], is_filled=not method.endswith(KD_SUFFIX))
    return looks


def colour_of(number: int) -> Any:
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
