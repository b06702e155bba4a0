"""Which objects the test images show, pixel by pixel, in exactly the frame that a network sees in testing.

That frame is the image as it was packed (its short side resized), then the central crop. Importing this loads neither
torch nor PIL. Suffix: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dctkd.data import formats
from dctkd.errors import InputError

if TYPE_CHECKING:
    from numpy import uint16
    from numpy.typing import NDArray

    from dctkd.data.cache import PixelCache

BACKGROUND = "background"
"""Name of object id 0: whatever no annotated object covers."""


@dataclass(frozen=True)
class Annotations:
    """The annotated objects of a test split.

    Attributes:
        names: Name of each object id; id 0 is `background`.
        num_images: Images of the test split.
        num_annotated: Images of it that have a mask.
        relevant: Ids that decide each class, by label; empty sets where the dataset does not say.
        draw: Returns the mask of a test image, or None; use `mask`.
        problems: Annotations that could not be used, one sentence each; their images count as not annotated.
        surfaces: Ids of what is annotated but is ground or surroundings (wall, sky), not an object.
    """

    names: tuple[str, ...]
    num_images: int
    num_annotated: int
    relevant: tuple[frozenset[int], ...]
    draw: Callable[[int], NDArray[uint16] | None] = field(repr=False, compare=False)
    problems: tuple[str, ...] = ()
    surfaces: frozenset[int] = frozenset()

    def mask(self, index: int) -> NDArray[uint16] | None:
        """Return the object id of each pixel of a test image, in the frame of the network.

        Args:
            index: Position of the image in the test split.

        Returns:
            Object ids, uint16, shape (crop, crop), fresh memory; None if the image is not annotated. A mask may be
            background throughout: its objects lie outside the crop.

        Raises:
            IndexError: If there is no such image.
        """
        if not 0 <= index < self.num_images:
            raise IndexError(f"expected the index of one of {self.num_images} test images, got {index}")
        return self.draw(index)

    def relevant_ids(self, label: int) -> frozenset[int]:
        """Return the object ids that decide a class; empty where the dataset does not say.

        Raises:
            IndexError: If there is no such class; -1, which stands for no prediction, is none.
        """
        if not 0 <= label < len(self.relevant):
            raise IndexError(f"expected one of {len(self.relevant)} labels, from 0, got {label}")
        return self.relevant[label]

    def object_ids(self) -> frozenset[int]:
        """Return every id that counts as an object: all but 0 and the surfaces.

        Example:
            >>> sorted(Annotations(("background", "cup", "sofa"), 0, 0, (), lambda index: None).object_ids())
            [1, 2]
        """
        return frozenset(range(1, len(self.names))) - self.surfaces


def read_annotations(
    cache: PixelCache, *, format_name: str, options: Mapping[str, Any], root: Path | None, crop: int
) -> Annotations | None:
    """Read which objects the test images of a packed dataset show.

    Args:
        cache: The packed dataset.
        format_name: Name in `formats.FORMATS`.
        options: The format's options, as the config gives them.
        root: Folder of the photographs; ignored by rendered formats.
        crop: Side of the network's input, in pixels.

    Returns:
        The annotations; None if the dataset has none or they are not there. What is there but cannot be used is
        listed in `problems`.

    Raises:
        InputError: If the format or an option is unknown, or a test image is smaller than the crop.
    """
    kind = formats.get(format_name)
    parsed = formats.parse_options(format_name, options)
    if not kind.has_objects:
        return None
    small_N = np.flatnonzero((cache.sizes("test") < crop).any(axis=1))
    if len(small_N):
        raise InputError(
            f"{cache.path}: {len(small_N)} test images are smaller than the crop of {crop} pixels; set input.crop to "
            "that of the runs that are evaluated"
        )
    return kind.read_objects(cache, parsed, root, crop)
