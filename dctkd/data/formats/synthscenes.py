"""synthscenes: rendered scenes whose class is decided by which objects occur together and how they lie to each other.

A controlled testbed for attention: a network must look at every deciding object to name the class.

- A class is a sequence of object types and a direction: `disc_square_row` has a disc to the left of a square,
  `disc_square_column` a disc above a square. Classes come in groups that share their objects and differ in direction
  or order alone, and every object type occurs in at least two classes; `class_table` lists them.
- Texture, colour, scale, pose, place, background and clutter are drawn independently of the class. Objects do not
  overlap, clutter lies beneath them, and clutter has shapes of its own, so the label of every image is certain.
- Masks: 0 background, 1 to T the object types, T + 1 upwards the shapes of clutter (`Rendered.mask_names`).
- Image i of a split is a function of (options, split, i) alone: its numbers come from a counter-based generator
  (Philox, raw bits) keyed by seed and split, at counter i. Objects, background, clutter and noise read streams of
  their own, so adding noise or clutter moves no object. Image i has class i modulo the number of classes.

The order of objects decides classes, so images must not be mirrored in training (`hflip: false`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from dctkd.data.formats.synthscenes_scene import draw_scene
from dctkd.data.formats.synthscenes_shapes import CLUTTER_SHAPES, OBJECT_SHAPES
from dctkd.strict import Strict

if TYPE_CHECKING:
    from dctkd.data.manifest import Rendered

Split = Literal["train", "test"]
Direction = Literal["row", "column"]

_ARRANGEMENTS: tuple[tuple[Direction, bool], ...] = (("row", False), ("column", False), ("row", True), ("column", True))


class Options(Strict):
    """What the scenes are made of."""

    num_classes: int = Field(
        12, ge=2, description="classes; each split has equally many images of each, give or take one"
    )
    num_object_types: int = Field(6, ge=2, le=len(OBJECT_SHAPES), description="different shapes that decide classes")
    objects_per_class: int = Field(2, ge=2, le=4, description="deciding objects in each image")
    arrangements_per_group: int = Field(
        2, ge=1, le=4, description="classes that share their objects: row, column, then both in reverse order"
    )
    num_train_images: int = Field(3000, ge=1, description="images of the training split")
    num_test_images: int = Field(1000, ge=1, description="images of the test split")
    image_side: int = Field(72, ge=32, le=512, description="pixels; crops of 64 leave room to move")
    clutter: int = Field(
        2, ge=0, le=16, description="objects per image that do not decide the class, beneath those that do"
    )
    noise: float = Field(
        8.0, ge=0, le=128, description="standard deviation per pixel and channel, in grey levels of 256"
    )
    min_contrast: float = Field(
        30.0, ge=0, description="least difference of an object's brightness from the background, in grey levels"
    )
    max_contrast: float = Field(120.0, le=140, description="largest such difference, in grey levels")
    colour: float = Field(
        25.0, ge=0, le=80, description="largest shift of a channel against the others, in grey levels"
    )
    background: float = Field(
        20.0, ge=0, le=80, description="largest swing of the background's brightness, in grey levels"
    )
    min_radius: float = Field(
        0.28, gt=0, description="smallest bounding circle, as a fraction of image_side / objects_per_class"
    )
    max_radius: float = Field(0.4, le=0.4, description="largest bounding circle, in the same unit")
    max_rotation_degrees: float = Field(20.0, ge=0, le=90, description="largest turn of an object to either side")
    max_tilt: float = Field(
        0.6, ge=0, le=0.8, description="largest offset across the direction per offset along it; < 1 keeps it clear"
    )
    seed: int = Field(0, ge=0, description="seed of all images; independent of the training seeds")

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        if self.min_radius > self.max_radius:
            raise ValueError(f"min_radius {self.min_radius} must not exceed max_radius {self.max_radius}")
        if self.min_contrast > self.max_contrast:
            raise ValueError(f"min_contrast {self.min_contrast} must not exceed max_contrast {self.max_contrast}")
        num_groups = math.ceil(self.num_classes / self.arrangements_per_group)
        num_sets = math.comb(self.num_object_types, self.objects_per_class)
        if num_groups > num_sets:
            raise ValueError(
                f"num_classes {self.num_classes} needs {num_groups} sets of {self.objects_per_class} objects, "
                f"but {self.num_object_types} object types give {num_sets}; lower num_classes or raise num_object_types"
            )
        uses = [sum(kind in scene.objects for scene in class_table(self)) for kind in range(self.num_object_types)]
        if min(uses) < 2:
            raise ValueError(
                f"every object type must occur in at least 2 classes, or it gives its class away; "
                f"{uses.count(min(uses))} of {self.num_object_types} do not; raise num_classes or "
                f"lower num_object_types"
            )
        return self


@dataclass(frozen=True)
class SceneClass:
    """What decides a class: object types, counted from 0, from left to right in a row, downwards in a column."""

    objects: tuple[int, ...]
    direction: Direction

    @property
    def name(self) -> str:
        """Name such as `disc_square_row`."""
        shapes = list(OBJECT_SHAPES)
        return "_".join([*(shapes[kind] for kind in self.objects), self.direction])


def class_table(options: Options) -> tuple[SceneClass, ...]:
    """Return what decides each class, in the order of the labels.

    Types stand on a circle, and a set of objects is turned by one type after the other, so that every type occurs
    equally often when the number of sets allows it.
    """
    per_group = options.arrangements_per_group
    scenes = [
        SceneClass(kinds[::-1] if is_reversed else kinds, direction)
        for kinds in _object_sets(
            options.num_object_types, options.objects_per_class, math.ceil(options.num_classes / per_group)
        )
        for direction, is_reversed in _ARRANGEMENTS[:per_group]
    ]
    return tuple(scenes[: options.num_classes])


def _object_sets(num_types: int, size: int, count: int) -> list[tuple[int, ...]]:
    """Return `count` different sets of types; the caller has checked that there are as many."""
    chosen: list[tuple[int, ...]] = []
    for others in combinations(range(1, num_types), size - 1):
        orbit: dict[frozenset[int], tuple[int, ...]] = {}
        for turn in range(num_types):
            kinds = tuple((kind + turn) % num_types for kind in (0, *others))
            orbit.setdefault(frozenset(kinds), kinds)
        fresh = [kinds for members, kinds in orbit.items() if members not in {frozenset(known) for known in chosen}]
        wanted = min(count - len(chosen), len(fresh))
        # Spread over the circle: a part of an orbit must not use some types twice and others never.
        chosen += [fresh[place * len(fresh) // wanted] for place in range(wanted)]
    return chosen


def render(options: Options, split: Split) -> Rendered:
    """Render one split.

    Args:
        options: What the scenes are made of.
        split: `train` or `test`.

    Returns:
        Images uint8 (N, side, side, 3), labels int64 (N,), masks uint8 (N, side, side), names of
        classes and of mask values.

    Raises:
        ValueError: If the split has another name.
    """
    import numpy as np

    from dctkd.data.manifest import Rendered

    if split not in ("train", "test"):
        raise ValueError(f"synthscenes: split must be train or test, got {split!r}")
    num_images = options.num_train_images if split == "train" else options.num_test_images
    table, side = class_table(options), options.image_side
    images = np.empty((num_images, side, side, 3), dtype=np.uint8)
    masks = np.empty((num_images, side, side), dtype=np.uint8)
    for index in range(num_images):
        images[index], masks[index] = draw_scene(options, table[index % len(table)], split, index)
    return Rendered(
        images=images,
        labels=np.arange(num_images, dtype=np.int64) % len(table),
        masks=masks,
        class_names=tuple(scene.name for scene in table),
        mask_names=mask_names(options),
    )


def mask_names(options: Options) -> tuple[str, ...]:
    """Return the name of each mask value: background, object types, shapes of clutter with the prefix `clutter_`."""
    return (
        "background",
        *list(OBJECT_SHAPES)[: options.num_object_types],
        *(f"clutter_{name}" for name in CLUTTER_SHAPES),
    )
