"""Many small pictures on one set of axes, in the bytes that matplotlib gives them and a small part of its time.

Into a vector format matplotlib writes pictures that follow each other as one. To join them it resamples each into one
of the size of all, so the time grows with the square of their number: two seconds for the demo's montage. Here each is
copied to its place, which is the same where they are opaque and do not overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.image import AxesImage
from numpy.typing import NDArray


class Mosaic(Artist):
    """Opaque pictures that do not overlap, behind everything else on their axes.

    Args:
        axes: Where they are shown, kept as `on`; its limits stay as they are. `pictures` are what was added.
    """

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        self.set_zorder(0)
        self.pictures: list[AxesImage] = []
        self.on = axes
        axes.add_artist(self)

    def show(self, colours_HW3: NDArray[Any], extent: tuple[float, float, float, float], **look: Any) -> None:
        """Add a picture.

        Args:
            colours_HW3: Its colours in [0, 1], first row on top.
            extent: Left, right, bottom and top, in coordinates of the axes' data.
            look: Further arguments of AxesImage.
        """
        picture = AxesImage(self.on, extent=extent, origin="upper", **look)
        picture.set_data(colours_HW3)
        picture.set_figure(self.on.figure)
        picture.set_transform(self.on.transData)
        picture.set_clip_path(self.on.patch)
        self.pictures.append(picture)

    def draw(self, renderer: RendererBase) -> None:
        """Draw all pictures; into a vector format as one."""
        if renderer.option_image_nocomposite():
            for picture in self.pictures:
                picture.draw(renderer)
        elif self.pictures:
            self._draw_joined(renderer)
        self.stale = False

    def _draw_joined(self, renderer: RendererBase) -> None:
        zoom = renderer.get_image_magnification()
        made = (picture.make_image(renderer, zoom) for picture in self.pictures)
        parts = [
            (colours_HW4, round(x * zoom), round(y * zoom)) for colours_HW4, x, y, _ in made if colours_HW4 is not None
        ]
        left, bottom = min(x for _, x, _ in parts), min(y for _, _, y in parts)
        width = max(x + colours_HW4.shape[1] for colours_HW4, x, _ in parts) - left
        height = max(y + colours_HW4.shape[0] for colours_HW4, _, y in parts) - bottom
        joined_HW4 = np.zeros((height, width, 4), np.uint8)
        for colours_HW4, x, y in parts:
            rows, columns = colours_HW4.shape[:2]
            joined_HW4[y - bottom : y - bottom + rows, x - left : x - left + columns] = colours_HW4
        context = renderer.new_gc()
        context.set_clip_rectangle(self.on.bbox)
        renderer.draw_image(context, round(left / zoom), round(bottom / zoom), joined_HW4)
        context.restore()
