"""The objects of synthscenes: masks are packed with the images, and the table of classes says what decides one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dctkd.data.annotations import Annotations
from dctkd.data.central_crop import central_corners
from dctkd.data.formats.synthscenes import Options, class_table

if TYPE_CHECKING:
    from numpy import uint16
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache


def read_objects(cache: PixelCache, options: Options, root: Path | None, crop: int) -> Annotations | None:
    """Return the objects of all test images; None if the cache was packed without masks.

    Object types decide classes; clutter counts as objects and never decides. Rendered images are packed as they are,
    never resized, so masks need a crop only.

    Args:
        cache: Packed scenes.
        options: What they were made of.
        root: Not used: nothing of a rendered dataset lies on the disk but the cache.
        crop: Side of the network's input, in pixels, not above that of the images.
    """
    if not cache.mask_names:
        return None
    corners_N2 = central_corners(cache.sizes("test"), crop)

    def draw(index: int) -> NDArray[uint16] | None:
        mask_HW = cache.mask("test", index)
        if mask_HW is None:
            return None
        top, left = corners_N2[index].tolist()
        return mask_HW[top : top + crop, left : left + crop].astype(np.uint16)

    num_images = cache.num_images("test")
    return Annotations(
        names=cache.mask_names,
        num_images=num_images,
        num_annotated=num_images,
        relevant=tuple(frozenset(kind + 1 for kind in scene.objects) for scene in class_table(options)),
        draw=draw,
    )
