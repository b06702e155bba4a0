"""A montage of activation maps: three test images, and where the teacher and each student look at every stage.

Panels are placed in inches on one set of axes: hundreds of axes of their own would take minutes to lay out.
Shapes: H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dctkd.metrics import OVERLAP_FOLDER
from dctkd.report.attention import AttentionFiles, Maps, mean_overlap, pick_images, students_of
from dctkd.report.collect import Collected
from dctkd.report.figures.mosaic import Mosaic
from dctkd.report.figures.style import DARK
from dctkd.report.layout import Group, Layout

COLOURS = "cividis"
"""Perceptually uniform, for colour-blind readers nearly the same, and monotone in grey."""

PANEL, GAP, SCORE_LINE = 0.66, 0.06, 0.12
"""Side of a panel, space between panels, and height of the line with the score, in inches."""

MARGIN, STAGE_WIDTH, BLOCK_GAP, TOP, BOTTOM = 0.12, 0.5, 0.36, 0.5, 1.02
ROW = PANEL + SCORE_LINE + 0.02
MAX_NAME = 48
MAX_LINE = 11
WITHOUT_MAPS = (
    f"No student of the first seed has activation maps on disk ({OVERLAP_FOLDER}/maps.npz, per_image.parquet)."
)


@dataclass(frozen=True)
class Montage:
    """What is shown: the first group that has files, its picked images, and the maps of each method's student.

    Attributes:
        group: Dataset and pair.
        seed: Seed of the students.
        picked: Position in the test split by "best", "median" and "worst".
        names: The images' official ids, by position.
        overlap: Mean SSIM by position, over all candidates.
        maps: Maps of the picked images, in the order of `picked`, by method.
        scores: SSIM by method, position and stage.
    """

    group: Group
    seed: int
    picked: Mapping[str, int]
    names: Mapping[int, str]
    overlap: Mapping[int, float]
    maps: Mapping[str, Maps]
    scores: Mapping[tuple[str, int, str], float]

    @property
    def stages(self) -> tuple[str, ...]:
        """The teacher's stages, shallow to deep."""
        return tuple(next(iter(self.maps.values())).teacher)


def make_montage(collected: Collected, attention: AttentionFiles) -> Montage | None:
    """Return what the montage shows, or None if no group has maps of a student of the first seed."""
    layout = Layout.of(collected.plan)
    for group in layout.groups:
        digests = {method: digest for (method, _), digest in students_of(collected, group, layout.seeds[0]).items()}
        kept = {method: found for method, digest in digests.items() if (found := attention.candidates(digest))}
        common = sorted(set.intersection(*map(set, kept.values()))) if kept else []
        tables = {method: attention.per_image(digests[method], "ssim", common) for method in kept}
        frames = {method: table for method, table in tables.items() if table is not None and len(table)}
        overlap = mean_overlap(list(frames.values()))
        picked = pick_images(overlap)
        if picked:
            maps = {method: attention.maps(digests[method], list(picked.values())) for method in frames}
            present = {method: found for method, found in maps.items() if found is not None}
            return Montage(group, layout.seeds[0], picked, _names(frames), overlap, present, _scores(frames))
    return None


def draw_montage(collected: Collected, attention: AttentionFiles) -> Figure:
    """Draw the montage of the first dataset and pair: a block per image, a row per stage, a column per network.

    Left of the maps: the image and its annotation. Below each student's map: its SSIM with the teacher's.
    """
    montage = make_montage(collected, attention)
    if montage is None:
        return draw_sentence(f"{collected.plan.name}: where the networks look", WITHOUT_MAPS)
    num_stages, num_columns = len(montage.stages), 1 + len(montage.maps)
    # A block is at least two rows high: the image and its annotation stand one below the other.
    block = max(num_stages, 2) * ROW
    left = MARGIN + 2 * PANEL + GAP + STAGE_WIDTH
    width = max(left + num_columns * (PANEL + GAP) + MARGIN, 6.6)
    height = TOP + len(montage.picked) * (block + BLOCK_GAP) + BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), label="montage")
    mosaic = Mosaic(axes)
    for number, (rank, index) in enumerate(montage.picked.items()):
        top = TOP + number * (block + BLOCK_GAP)
        _draw_block(mosaic, montage, (rank, index), (left, top + BLOCK_GAP), block)
    title = f"{collected.plan.name}: where the networks look ({montage.group.dataset}, {montage.group.pair})"
    axes.text(MARGIN, 0.12, title, fontweight="bold", fontsize=10, va="top")
    for column, name in enumerate(("teacher", *montage.maps)):
        x = left + column * (PANEL + GAP) + PANEL / 2
        axes.text(x, TOP + 0.12, _in_lines(name), fontsize=6.5, ha="center", va="bottom", linespacing=1.0)
    _draw_key(mosaic, montage, left, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure


def draw_sentence(title: str, sentence: str) -> Figure:
    """Draw one sentence where there is nothing else to draw, so that a promised file exists and says why."""
    figure = Figure(figsize=(6.6, 1.4))
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontweight="bold", fontsize=10)
    figure.text(0.5, 0.4, sentence, ha="center", va="center", fontsize=8, wrap=True)
    return figure


def overlay_annotation(image_HW3: NDArray[np.uint8], ids_HW: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return the image in grey with each annotated object tinted and outlined.

    Args:
        image_HW3: The image, shape (H, W, 3), uint8.
        ids_HW: Object ids, shape (H, W); 0 is background.

    Returns:
        Colours in [0, 1], shape (H, W, 3). The outline is the white pixels of an object next to something else.

    Example:
        >>> overlay_annotation(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint16))
        array([[[0., 0., 0.]]])
    """
    grey_HW = image_HW3.mean(axis=2) / 255
    colours_HW3 = np.repeat(grey_HW[:, :, np.newaxis], 3, axis=2)
    palette = np.array(sns.color_palette("colorblind"))
    for number, object_id in enumerate(int(i) for i in np.unique(ids_HW) if i != 0):
        is_object_HW = ids_HW == object_id
        colours_HW3[is_object_HW] = 0.5 * colours_HW3[is_object_HW] + 0.5 * palette[number % len(palette)]
    padded = np.pad(ids_HW, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs_HW = np.any([ids_HW != other for other in neighbours], axis=0)
    colours_HW3[differs_HW & (ids_HW != 0)] = 1.0
    return colours_HW3


def _draw_block(mosaic: Mosaic, montage: Montage, pick: tuple[str, int], at: tuple[float, float], block: float) -> None:
    axes = mosaic.on
    rank, index = pick
    left, top = at
    heading = f"{rank}: image {_shortened(montage.names[index])}, mean SSIM {montage.overlap[index]:.2f}"
    axes.text(MARGIN, top - 0.05, heading, fontsize=8, fontweight="bold", va="bottom", parse_math=False)
    place = list(montage.picked).index(rank)
    first = next(iter(montage.maps.values()))
    _draw_image(mosaic, first, place, top, min(2 * PANEL + GAP, (block - SCORE_LINE) / 2 - 0.02))
    for row, stage in enumerate(montage.stages):
        y = top + row * ROW
        height, width = first.teacher[stage].shape[1:]
        label = f"{stage}\n{height} \u00d7 {width}"
        axes.text(left - GAP, y + PANEL / 2, label, fontsize=6.5, ha="right", va="center", color=DARK)
        _draw_map(mosaic, first.teacher[stage][place], (left, y))
        for column, (method, maps) in enumerate(montage.maps.items(), start=1):
            x = left + column * (PANEL + GAP)
            if stage in maps.student:
                _draw_map(mosaic, maps.student[stage][place], (x, y))
            score = montage.scores.get((method, index, stage))
            if score is not None:
                text = f"{score:.2f}".replace("-", "\u2212")
                axes.text(x + PANEL / 2, y + PANEL + 0.01, text, fontsize=5.5, ha="center", va="top", color=DARK)


def _draw_image(mosaic: Mosaic, maps: Maps, place: int, top: float, side: float) -> None:
    """Draw the image, and below it the annotation or the words that there is none."""
    below = top + side + GAP
    if maps.images is None:
        _draw_blank(mosaic.on, "image not kept", (MARGIN, top), side)
        _draw_blank(mosaic.on, "image not kept", (MARGIN, below), side)
        return
    image = maps.images[place]
    _show(mosaic, image / 255, (MARGIN, top), side)
    if maps.annotations is None or not maps.annotations[place].any():
        _draw_blank(mosaic.on, "not annotated", (MARGIN, below), side)
    else:
        _show(mosaic, overlay_annotation(image, maps.annotations[place]), (MARGIN, below), side)


def _draw_blank(axes: Axes, text: str, corner: tuple[float, float], side: float) -> None:
    axes.add_patch(mpl.patches.Rectangle(corner, side, side, facecolor="0.96", edgecolor="0.8", linewidth=0.5))
    x, y = corner[0] + side / 2, corner[1] + side / 2
    axes.text(x, y, text, fontsize=6.5, ha="center", va="center", color="0.4", style="italic")


def _draw_map(mosaic: Mosaic, map_HW: NDArray[np.float64], corner: tuple[float, float]) -> None:
    _show(mosaic, mpl.colormaps[COLOURS](map_HW)[:, :, :3], corner, PANEL)


def _show(mosaic: Mosaic, colours_HW3: NDArray[np.float64], corner: tuple[float, float], side: float) -> None:
    # Nearest neighbour: what is blurred looks finer than the network sees it.
    extent = (corner[0], corner[0] + side, corner[1] + side, corner[1])
    mosaic.show(colours_HW3, extent, interpolation="nearest")


def _draw_key(mosaic: Mosaic, montage: Montage, left: float, height: float) -> None:
    """Draw the colour bar, and say how the images were picked."""
    axes = mosaic.on
    y = height - BOTTOM + 0.18
    extent = (left, left + 3 * PANEL, y + 0.1, y)
    mosaic.show(mpl.colormaps[COLOURS](np.linspace(0, 1, 256)[np.newaxis])[:, :, :3], extent)
    for x, text in ((left, "0"), (left + 3 * PANEL, "1")):
        axes.text(x, y + 0.12, text, fontsize=6, ha="center", va="top")
    axes.text(left + 3 * PANEL + 0.12, y + 0.05, "activation map (no unit)", fontsize=6.5, va="center")
    caption = (
        f"Picked from {len(montage.overlap)} test images by SSIM, mean over stages and over the {len(montage.maps)} "
        f"students of seed {montage.seed}: best, median, worst.\n"
        "Maps: mean squares over channels, each scaled to [0, 1] by its own extremes.\n"
        "Number below a map: SSIM with the teacher's map (1: equal)."
    )
    axes.text(MARGIN, height - 0.12, caption, fontsize=7, va="bottom", linespacing=1.3)


def _names(frames: Mapping[str, pd.DataFrame]) -> dict[int, str]:
    frame = next(iter(frames.values()))
    return {int(index): str(name) for index, name in zip(frame["index"], frame["image"], strict=True)}


def _scores(frames: Mapping[str, pd.DataFrame]) -> dict[tuple[str, int, str], float]:
    return {
        (method, int(index), str(stage)): float(value)
        for method, frame in frames.items()
        for index, stage, value in zip(frame["index"], frame["stage"], frame["value"], strict=True)
    }


def _in_lines(name: str) -> str:
    """Break a long name after an underscore or before a plus, so that it is no wider than its column."""
    parts = re.findall(r"\+?[^_+]*_*", name)
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1] + part) > MAX_LINE:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"\u2026{name[-MAX_NAME:]}"
