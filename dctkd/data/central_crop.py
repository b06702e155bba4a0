"""Where the crop of testing lies. Imports numpy alone. Suffix: N images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray


def central_corners(sizes_N2: NDArray[int64], crop: int) -> NDArray[int64]:
    """Return the first row and column of the central crop of each image; halves are rounded to even.

    Args:
        sizes_N2: Height and width of each image in pixels, at least `crop`, int64, shape (N, 2).
        crop: Side of the crop, in pixels.

    Returns:
        First row and first column, in pixels, int64, shape (N, 2).

    Source:
        torchvision.transforms.functional.center_crop, which uses Python's round().

    Example:
        >>> central_corners(np.array([[8, 9], [9, 11]]), 8).tolist()
        [[0, 0], [0, 2]]
    """
    return np.rint((sizes_N2 - crop) / 2.0).astype(np.int64)
