"""One scene of synthscenes: everything that is drawn by lot, and where it is put.

Suffixes: H rows, W columns, C colour channels.
"""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise
from typing import TYPE_CHECKING

from dctkd.data.formats.synthscenes_shapes import (
    CLUTTER_SHAPES,
    OBJECT_SHAPES,
    TEXTURES,
    Colour,
    Shape,
    Sprite,
    paint,
    smooth_field,
)

if TYPE_CHECKING:
    from numpy import float32, uint8, uint64
    from numpy.typing import NDArray

    from dctkd.data.formats.synthscenes import Options, SceneClass

MARGIN = 1 / 18
"""Free border around the deciding objects, as a fraction of the image's side: 4 of 72 pixels, as a crop to 64 cuts."""
MIN_GAP = 0.02
"""Least distance of the bounding circles of neighbours along their direction, as a fraction of the image's side."""
BACKGROUND_NODES = 5
"""Nodes along each side of the grid that shades the background."""
_PURPOSES = ("objects", "background", "clutter", "noise")
_IRWIN_HALL_BYTES = 4


class _Stream:
    """Numbers of one image for one purpose: the raw bits of Philox, whose values numpy promises to keep."""

    def __init__(self, options: Options, split: str, index: int, purpose: str) -> None:
        import numpy as np

        key = hashlib.sha256(f"synthscenes {options.seed} {split}".encode()).digest()[:16]
        counter = np.array([0, 0, index, _PURPOSES.index(purpose)], dtype=np.uint64)
        self._bits = np.random.Philox(key=np.frombuffer(key, dtype="<u8"), counter=counter)

    def uniform(self, low: float, high: float) -> float:
        """Draw from [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def below(self, count: int) -> int:
        """Draw from 0, ..., count - 1."""
        return int(self.uniform(0, count))

    def bytes(self, count: int) -> NDArray[uint8]:
        """Draw `count` bytes."""
        import numpy as np

        words: NDArray[uint64] = self._bits.random_raw(math.ceil(count / 8))
        return words.astype("<u8").view(np.uint8)[:count]


def draw_scene(options: Options, scene: SceneClass, split: str, index: int) -> tuple[NDArray[uint8], NDArray[uint8]]:
    """Draw and paint image `index` of a split.

    Args:
        options: What scenes are made of.
        scene: What decides the class of this image.
        split: Name of the split.
        index: Number of the image in the split, from 0.

    Returns:
        Image (side, side, 3) and mask (side, side), both uint8.
    """
    import numpy as np

    side = options.image_side
    brightness, canvas_HWC = _background(options, _Stream(options, split, index, "background"))
    mask_HW = np.zeros((side, side), dtype=np.uint8)
    clutter = _clutter(options, brightness, _Stream(options, split, index, "clutter"))
    objects = _objects(options, scene, brightness, _Stream(options, split, index, "objects"))
    for sprite in (*clutter, *objects):
        paint(canvas_HWC, mask_HW, sprite)
    if options.noise > 0:
        canvas_HWC += _noise(options, _Stream(options, split, index, "noise"))
    return np.clip(np.rint(canvas_HWC), 0, 255).astype(np.uint8), mask_HW


def _background(options: Options, stream: _Stream) -> tuple[float, NDArray[float32]]:
    """Return the mean brightness, in grey levels, and the canvas, shape (H, W, 3)."""
    import numpy as np

    brightness = stream.uniform(70, 185)
    tint = _tint(options, stream)
    swing = options.background
    nodes = [[stream.uniform(-swing, swing) for _ in range(BACKGROUND_NODES)] for _ in range(BACKGROUND_NODES)]
    shade_HW = smooth_field(np.asarray(nodes, dtype=np.float32), options.image_side)
    base_C = np.asarray([brightness + shift for shift in tint], dtype=np.float32)
    return brightness, shade_HW[:, :, None] + base_C


def _objects(options: Options, scene: SceneClass, brightness: float, stream: _Stream) -> list[Sprite]:
    """Place the deciding objects in order along the direction; they neither touch nor leave the margin."""
    side, count = options.image_side, options.objects_per_class
    slot = side / count
    radii = [stream.uniform(options.min_radius, options.max_radius) * slot for _ in range(count)]
    free = side * (1 - 2 * MARGIN) - 2 * sum(radii) - (count - 1) * MIN_GAP * side
    cuts = [0.0, *sorted(stream.uniform(0, free) for _ in range(count))]
    along = [
        side * MARGIN + cuts[place + 1] + place * MIN_GAP * side + 2 * sum(radii[:place]) + radii[place]
        for place in range(count)
    ]
    nearest = min(after - before for before, after in pairwise(along))
    offsets = [stream.uniform(-0.5, 0.5) * options.max_tilt * nearest for _ in range(count)]
    low = side * MARGIN + max(radius - offset for radius, offset in zip(radii, offsets, strict=True))
    high = side * (1 - MARGIN) - max(radius + offset for radius, offset in zip(radii, offsets, strict=True))
    middle = stream.uniform(low, high)
    sprites = []
    for kind, radius, first, offset in zip(scene.objects, radii, along, offsets, strict=True):
        x, y = (first, middle + offset) if scene.direction == "row" else (middle + offset, first)
        shape = list(OBJECT_SHAPES.values())[kind]
        sprites.append(
            _sprite(options, shape, kind + 1, (x, y, radius), brightness, options.max_rotation_degrees, stream)
        )
    return sprites


def _clutter(options: Options, brightness: float, stream: _Stream) -> list[Sprite]:
    side, slot = options.image_side, options.image_side / options.objects_per_class
    sprites = []
    for _ in range(options.clutter):
        kind = stream.below(len(CLUTTER_SHAPES))
        place = (
            stream.uniform(0, side),
            stream.uniform(0, side),
            stream.uniform(options.min_radius, options.max_radius) * slot,
        )
        shape = list(CLUTTER_SHAPES.values())[kind]
        sprites.append(_sprite(options, shape, options.num_object_types + 1 + kind, place, brightness, 90.0, stream))
    return sprites


def _sprite(
    options: Options,
    shape: Shape,
    mask_id: int,
    place: tuple[float, float, float],
    brightness: float,
    max_rotation_degrees: float,
    stream: _Stream,
) -> Sprite:
    """Draw what has nothing to do with the class: rotation, texture and colours."""
    # Half-angle formulas: no sine or cosine, whose last bits differ between vector units.
    half_tangent = stream.uniform(-1, 1) * math.tan(math.radians(max_rotation_degrees / 2))
    scale = 1 + half_tangent * half_tangent
    sign = -1.0 if stream.uniform(70, 185) < brightness else 1.0
    contrast = sign * stream.uniform(options.min_contrast, options.max_contrast)
    tint = _tint(options, stream)
    second = contrast * stream.uniform(0.4, 0.8)
    x, y, radius = place
    return Sprite(
        shape=shape,
        mask_id=mask_id,
        x=x,
        y=y,
        radius=radius,
        cosine=(1 - half_tangent * half_tangent) / scale,
        sine=2 * half_tangent / scale,
        texture=TEXTURES[stream.below(len(TEXTURES))],
        period=stream.uniform(0.25, 0.45),
        colours=(_colour(brightness + contrast, tint), _colour(brightness + second, tint)),
    )


def _tint(options: Options, stream: _Stream) -> Colour:
    red, green, blue = (stream.uniform(-options.colour, options.colour) for _ in range(3))
    mean = (red + green + blue) / 3
    return red - mean, green - mean, blue - mean


def _colour(level: float, tint: Colour) -> Colour:
    red, green, blue = (level + shift for shift in tint)
    return red, green, blue


def _noise(options: Options, stream: _Stream) -> NDArray[float32]:
    """Draw noise, shape (H, W, 3): sums of four bytes, close to normal and exact on every machine."""
    import numpy as np

    side = options.image_side
    parts = stream.bytes(_IRWIN_HALL_BYTES * side * side * 3).reshape(_IRWIN_HALL_BYTES, side, side, 3)
    total = parts.sum(axis=0, dtype=np.int16)
    mean = _IRWIN_HALL_BYTES * 255 / 2
    deviation = math.sqrt(_IRWIN_HALL_BYTES * (256 * 256 - 1) / 12)
    noise: NDArray[float32] = (total.astype(np.float32) - np.float32(mean)) * np.float32(options.noise / deviation)
    return noise
