"""What is packed: photographs or rendered images, as one stream of items in official order."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from dctkd.data.decode import Decoded, digest_of_pixels, size_of_file
from dctkd.data.decode_pool import decode_all
from dctkd.data.manifest import SPLITS, Entry, Manifest, Problem, Rendered, Split
from dctkd.errors import InputError

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray

NUM_SAMPLED_HEADERS = 256
"""Photographs whose headers are read to estimate the size of the cache."""


@dataclass(frozen=True)
class Item:
    """One image on its way into the cache.

    Attributes:
        entry: Which image it is.
        problems: What there is to say about it.
        pixels_HWC: RGB, uint8, shape (H, W, 3); None if it cannot be used, and then the last problem says why.
        mask_HW: Object ids, uint8, shape (H, W), or None.
        digest: `decode.digest_of_pixels` of both; empty without pixels.
    """

    entry: Entry
    problems: tuple[Problem, ...] = ()
    pixels_HWC: NDArray[uint8] | None = None
    mask_HW: NDArray[uint8] | None = None
    digest: str = ""


class Source(Protocol):
    """A dataset that can be packed."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the label."""
        ...

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Names of object ids; empty if there are no masks."""
        ...

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems known before any image is decoded."""
        ...

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All images in official order, training before test."""
        ...

    @property
    def num_bytes(self) -> int:
        """Expected size of the cache, in bytes."""
        ...

    def items(self, first: int = 0) -> Generator[Item]:
        """Yield one item per entry, from position `first` on."""
        ...


@dataclass(frozen=True)
class Photographs:
    """The photographs of a manifest."""

    manifest: Manifest
    short_side: int | None
    workers: int

    @property
    def name(self) -> str:
        """Format and place."""
        return f"{self.manifest.name} in {self.manifest.root}"

    @property
    def classes(self) -> tuple[str, ...]:
        """As in the manifest."""
        return self.manifest.classes

    @property
    def mask_names(self) -> tuple[str, ...]:
        """Photographs have no masks."""
        return ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """As in the manifest."""
        return self.manifest.problems

    @property
    def entries(self) -> tuple[Entry, ...]:
        """As in the manifest."""
        return self.manifest.entries

    @cached_property
    def num_bytes(self) -> int:
        """Estimated from the headers of evenly spaced photographs."""
        entries = self.manifest.entries
        sample = entries[:: max(len(entries) // NUM_SAMPLED_HEADERS, 1)]
        sizes = [size_of_file(self.manifest.root, entry.path, self.short_side) for entry in sample]
        known = [size for size in sizes if size is not None]
        return round(sum(known) / max(len(known), 1) * len(entries))

    def items(self, first: int = 0) -> Generator[Item]:
        """Decode each photograph once."""
        entries = self.entries[first:]
        images = decode_all(
            self.manifest.root,
            [entry.path for entry in entries],
            self.short_side,
            workers=self.workers,
            bytes_per_image=self.num_bytes // max(len(self.entries), 1),
        )
        with closing(images):
            for entry, image in zip(entries, images, strict=True):
                if isinstance(image, Decoded):
                    yield Item(entry, image.remarks, image.pixels_HWC, None, image.digest)
                else:
                    yield Item(entry, (image,))


@dataclass(frozen=True)
class RenderedScenes:
    """Both splits of a rendered dataset; ids are `<split>/<five digits>`."""

    splits: Mapping[Split, Rendered]
    name: str = "rendered dataset"
    problems: tuple[Problem, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """As rendered."""
        return self.splits["train"].class_names

    @property
    def mask_names(self) -> tuple[str, ...]:
        """As rendered."""
        return self.splits["train"].mask_names

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Numbered from 0 in each split; an id is also the path."""
        return tuple(
            Entry(f"{split}/{number:05d}", f"{split}/{number:05d}", label, split)
            for split in SPLITS
            for number, label in enumerate(self.splits[split].labels.tolist())
        )

    @property
    def num_bytes(self) -> int:
        """Exact, but for the index."""
        return sum(rendered.images.nbytes + rendered.masks.nbytes for rendered in self.splits.values())

    def items(self, first: int = 0) -> Generator[Item]:
        """Yield each image with its mask."""
        images = chain.from_iterable(
            zip(self.splits[split].images, self.splits[split].masks, strict=True) for split in SPLITS
        )
        for entry, (pixels_HWC, mask_HW) in zip(self.entries[first:], islice(images, first, None), strict=True):
            yield Item(entry, (), pixels_HWC, mask_HW, digest_of_pixels(pixels_HWC, mask_HW))


def source_of(dataset: Manifest | Mapping[Split, Rendered], *, short_side: int | None, workers: int) -> Source:
    """Return the source for a dataset.

    Raises:
        InputError: If rendered images would have to be resized, which would part them from their masks.
    """
    if isinstance(dataset, Manifest):
        return Photographs(dataset, short_side, workers)
    height, width = dataset["train"].images.shape[1:3]
    if short_side not in (None, min(height, width)):
        raise InputError(
            f"input.short_side is {short_side}, but images are rendered at {height} x {width} pixels; "
            "set it to null and choose the size in the format's options"
        )
    return RenderedScenes(dataset)
