"""The table of dataset formats. Imports neither torch nor PIL nor numpy; formats are imported when they are asked for.

A format is a module with `Options`, a frozen pydantic model, and one function:

- photographs: `read_manifest(root: Path, options: Options) -> Manifest`
- rendered: `render(options: Options, split: Split) -> Rendered`

A format whose test images come with annotated objects has a second module, `<module>_objects`, with one function:

- `read_objects(cache: PixelCache, options: Options, root: Path | None, crop: int) -> Annotations | None`
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from dctkd.errors import InputError, did_you_mean, shown
from dctkd.strict import Strict
from dctkd.validation import explain

if TYPE_CHECKING:
    from pathlib import Path

    from dctkd.data.annotations import Annotations
    from dctkd.data.cache import PixelCache
    from dctkd.data.manifest import Manifest, Rendered, Split


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Attributes:
        module: Full name of the module that implements it.
        kind: Whether images are photographs below a root folder, or computed.
        has_objects: Whether a module `<module>_objects` reads annotated objects.
    """

    module: str
    kind: Literal["photographs", "rendered"]
    has_objects: bool = False

    @property
    def options_type(self) -> type[Strict]:
        """The format's model of options."""
        options: type[Strict] = importlib.import_module(self.module).Options
        return options

    def read_manifest(self, root: Path, options: Strict) -> Manifest:
        """List what a dataset of photographs consists of; see the format's module."""
        manifest: Manifest = importlib.import_module(self.module).read_manifest(root, options)
        return manifest

    def render(self, options: Strict, split: Split) -> Rendered:
        """Compute one split of a rendered dataset; see the format's module."""
        rendered: Rendered = importlib.import_module(self.module).render(options, split)
        return rendered

    def read_objects(self, cache: PixelCache, options: Strict, root: Path | None, crop: int) -> Annotations | None:
        """Read the objects of the test images; see `dctkd.data.annotations.read_annotations`."""
        objects: Annotations | None = importlib.import_module(f"{self.module}_objects").read_objects(
            cache, options, root, crop
        )
        return objects


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "ade20k": Format("dctkd.data.formats.ade20k", "photographs", has_objects=True),
        "imagefolder": Format("dctkd.data.formats.imagefolder", "photographs"),
        "miniplaces": Format("dctkd.data.formats.miniplaces", "photographs", has_objects=True),
        "mit67": Format("dctkd.data.formats.mit67", "photographs"),
        "sun397": Format("dctkd.data.formats.sun397", "photographs"),
        "synthscenes": Format("dctkd.data.formats.synthscenes", "rendered", has_objects=True),
    }
)
"""All formats by the name that a config gives."""


def get(name: str, where: str = "dataset") -> Format:
    """Return a format.

    Args:
        name: As in FORMATS.
        where: Key path of the dataset, for the message.

    Raises:
        InputError: If there is none of that name; suggests the nearest.
    """
    if name not in FORMATS:
        raise InputError(f"{where}.format: unknown format {shown(name)}{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def parse_options(name: str, raw: Mapping[str, Any], where: str = "dataset") -> Strict:
    """Check the options of a format and fill in its defaults.

    Args:
        name: As in FORMATS.
        raw: Options as the config gives them.
        where: Key path of the dataset, for messages.

    Raises:
        InputError: If the format or one of its options is unknown, or a value does not fit.

    Example:
        >>> parse_options("miniplaces", {"num_classes": 10}).model_dump()
        {'num_classes': 10}
    """
    options_type = get(name, where).options_type
    try:
        return options_type.model_validate(dict(raw))
    except ValidationError as error:
        raise InputError(explain(error, f"{where}.options")) from error
