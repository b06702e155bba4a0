"""Objects as polygons, and the mask that they make of a photograph of any size. Loads PIL.

Suffix: P points, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from numpy import float64, int64, uint16
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Polygon:
    """An object: its id, and its corners x and y in pixels of the photograph, from 0, float64, shape (P, 2)."""

    object_id: int
    points_P2: NDArray[float64]

    @property
    def area(self) -> float:
        """Area within the corners, in square pixels (shoelace formula)."""
        x_P, y_P = self.points_P2.T
        return float(abs(np.dot(x_P, np.roll(y_P, -1)) - np.dot(y_P, np.roll(x_P, -1))) / 2)


@dataclass(frozen=True)
class Outlines:
    """The objects of one photograph.

    Attributes:
        height: Of the photograph, in pixels, before any resizing.
        width: Likewise.
        polygons: In the order of the file.
    """

    height: int
    width: int
    polygons: tuple[Polygon, ...]


def draw_resized(outlines: Outlines, height: int, width: int) -> NDArray[uint16]:
    """Draw objects, larger ones first, on the photograph's pixels; return the ids resized by nearest neighbour.

    Args:
        outlines: The objects; what lies outside the photograph is cut off.
        height: Rows to resize to, in pixels.
        width: Columns to resize to, in pixels.

    Returns:
        Object ids, uint16, shape (height, width); 0 where there is no object.

    Example:
        >>> square = Polygon(7, np.array([[1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [1.0, 1.0]]))
        >>> draw_resized(Outlines(2, 4, (square,)), 2, 4).tolist()
        [[0, 7, 7, 0], [0, 7, 7, 0]]
    """
    canvas = Image.new("I", (outlines.width, outlines.height))
    pen = ImageDraw.Draw(canvas)
    for polygon in sorted(outlines.polygons, key=lambda polygon: -polygon.area):
        pen.polygon(np.rint(polygon.points_P2).astype(int).ravel().tolist(), fill=polygon.object_id)
    mask_HW = np.asarray(canvas).astype(np.uint16)
    return mask_HW[np.ix_(_nearest(outlines.height, height), _nearest(outlines.width, width))]


def _nearest(old: int, new: int) -> NDArray[int64]:
    """Which of the old pixels each new one's centre lies in."""
    return (2 * np.arange(new, dtype=np.int64) + 1) * old // (2 * new)
