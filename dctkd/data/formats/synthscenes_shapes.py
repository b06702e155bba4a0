"""Shapes, textures and painting of synthscenes: pixels from numbers that are already drawn.

Pixels are computed by additions, products, quotients and square roots alone. IEEE 754 fixes their results, so images do
not depend on the vector units of the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import float32, uint8
    from numpy.typing import NDArray

    Plane = NDArray[float32]

# A shape maps local coordinates (x to the right, y down, the bounding circle has radius 1) to a signed distance from
# its edge: negative inside, about 1 per unit of length outside.
Shape = Callable[["Plane", "Plane"], "Plane"]


def _norm(x: Plane, y: Plane) -> Plane:
    import numpy as np

    return np.sqrt(x * x + y * y)


def _box(x: Plane, y: Plane, half_width: float, half_height: float) -> Plane:
    import numpy as np

    distance: Plane = np.maximum(abs(x) - half_width, abs(y) - half_height)
    return distance


def _disc(x: Plane, y: Plane) -> Plane:
    return _norm(x, y) - 0.86


def _square(x: Plane, y: Plane) -> Plane:
    return _box(x, y, 0.7, 0.7)


def _triangle(x: Plane, y: Plane) -> Plane:
    import numpy as np

    distance: Plane = np.maximum(y - 0.55, 0.8660254 * abs(x) - 0.5 * y - 0.5)
    return distance


def _cross(x: Plane, y: Plane) -> Plane:
    import numpy as np

    return np.minimum(_box(x, y, 0.94, 0.31), _box(x, y, 0.31, 0.94))


def _ring(x: Plane, y: Plane) -> Plane:
    distance: Plane = abs(_norm(x, y) - 0.67) - 0.23
    return distance


def _hourglass(x: Plane, y: Plane) -> Plane:
    import numpy as np

    distance: Plane = np.maximum(0.8320503 * abs(x) - 0.5547002 * abs(y) - 0.08, abs(y) - 0.8)
    return distance


def _crescent(x: Plane, y: Plane) -> Plane:
    import numpy as np

    distance: Plane = np.maximum(_norm(x, y) - 0.95, 0.72 - _norm(x - 0.42, y))
    return distance


def _frame(x: Plane, y: Plane) -> Plane:
    distance: Plane = abs(_box(x, y, 0.5, 0.5)) - 0.19
    return distance


def _bar(x: Plane, y: Plane) -> Plane:
    return _box(x, y, 0.97, 0.16)


def _chevron(x: Plane, y: Plane) -> Plane:
    import numpy as np

    distance: Plane = np.maximum(abs(0.7071068 * (y + abs(x)) - 0.3) - 0.15, abs(x) - 0.8)
    return distance


def _dots(x: Plane, y: Plane) -> Plane:
    return _norm(abs(x) - 0.58, y) - 0.36


OBJECT_SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "disc": _disc,
        "square": _square,
        "triangle": _triangle,
        "cross": _cross,
        "ring": _ring,
        "hourglass": _hourglass,
        "crescent": _crescent,
        "frame": _frame,
    }
)
"""Object types that can decide a class, in the order of their ids."""

CLUTTER_SHAPES: Mapping[str, Shape] = MappingProxyType({"bar": _bar, "chevron": _chevron, "dots": _dots})
"""Shapes of clutter: none of them is an object type, so clutter can never complete the scene of another class."""

TEXTURES: tuple[str, ...] = ("plain", "stripes", "checks")
"""Surface patterns; every object draws one, whatever its type."""

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Sprite:
    """One object ready to be painted.

    Attributes:
        shape: Signed distance in local coordinates.
        mask_id: Value of its pixels in the mask, > 0.
        x: Column of its centre, in pixels; 0 is the left edge of the image.
        y: Row of its centre, in pixels; 0 is the upper edge of the image.
        radius: Radius of its bounding circle, in pixels.
        cosine: Of its rotation.
        sine: Of its rotation.
        texture: Name in TEXTURES.
        period: Width of one stripe or check, as a fraction of the radius.
        colours: The two colours of its texture, RGB in grey levels 0 to 255.
    """

    shape: Shape
    mask_id: int
    x: float
    y: float
    radius: float
    cosine: float
    sine: float
    texture: str
    period: float
    colours: tuple[Colour, Colour]


def paint(canvas_HWC: Plane, mask_HW: NDArray[uint8], sprite: Sprite) -> None:
    """Paint one object over what is there, with soft edges, and mark every pixel that it changes.

    Args:
        canvas_HWC: RGB in grey levels, shape (H, W, 3), float32; changed in place.
        mask_HW: Ids, shape (H, W), uint8; changed in place.
        sprite: What to paint; what lies outside of the canvas is cut off.
    """
    import numpy as np

    height, width = mask_HW.shape
    reach = sprite.radius + 1.0
    rows = slice(max(0, math.floor(sprite.y - reach)), min(height, math.ceil(sprite.y + reach)))
    columns = slice(max(0, math.floor(sprite.x - reach)), min(width, math.ceil(sprite.x + reach)))
    across = ((np.arange(columns.start, columns.stop) + 0.5 - sprite.x) / sprite.radius).astype(np.float32)[None, :]
    down = ((np.arange(rows.start, rows.stop) + 0.5 - sprite.y) / sprite.radius).astype(np.float32)[:, None]
    x = across * np.float32(sprite.cosine) + down * np.float32(sprite.sine)
    y = down * np.float32(sprite.cosine) - across * np.float32(sprite.sine)
    opacity = np.clip(0.5 - sprite.shape(x, y) * np.float32(sprite.radius), 0.0, 1.0)
    first, second = np.asarray(sprite.colours, dtype=np.float32)
    surface = first + _pattern(x, y, sprite)[:, :, None] * (second - first)
    window = canvas_HWC[rows, columns]
    window += opacity[:, :, None] * (surface - window)
    mask_HW[rows, columns][opacity > 0] = sprite.mask_id


def _pattern(x: Plane, y: Plane, sprite: Sprite) -> Plane:
    """Return the share of the second colour, 0 or 1 per pixel."""
    import numpy as np

    if sprite.texture == "plain":
        return np.zeros_like(x)
    stripe = np.floor(x / np.float32(sprite.period))
    if sprite.texture == "checks":
        stripe = stripe + np.floor(y / np.float32(sprite.period))
    share: Plane = stripe % np.float32(2.0)
    return share


def smooth_field(grid_GG: Plane, side: int) -> Plane:
    """Spread a coarse square grid over an image by bilinear interpolation.

    Args:
        grid_GG: Values at the nodes, shape (G, G), G >= 2; the outer nodes lie on the image's edges.
        side: Side of the image, in pixels.

    Returns:
        Field, shape (side, side), float32.
    """
    import numpy as np

    cells = grid_GG.shape[0] - 1
    position = (np.arange(side) + 0.5) * cells / side
    node = np.minimum(position.astype(np.int64), cells - 1)
    share = (position - node).astype(np.float32)
    rows = grid_GG[node] + share[:, None] * (grid_GG[node + 1] - grid_GG[node])
    field: Plane = rows[:, node] + share[None, :] * (rows[:, node + 1] - rows[:, node])
    return field
