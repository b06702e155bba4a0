"""What an experiment compares for an audit: for each finding, pairs of settings that differ in one thing.

Imports neither torch nor pandas: every cluster job reads it with the experiment file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dctkd.names import Name
from dctkd.recipe import Recipe
from dctkd.strict import Strict

ALL_ROWS = "*"
"""Row of a side that is the mean over all rows of students; with a chosen weight, over all methods that are swept."""


class Side(Strict):
    """One side of a contrast: whose accuracy, how chosen and how counted. In short: the name of the row alone."""

    row: Name | Literal["*"] = Field(description="row under methods, or * for the mean over all of them")
    weight: Literal["own", "held_out", "test"] = Field(
        "own",
        description="own: the row as it is; else, of all rows that differ from it in nothing but the weight, the one "
        "with the highest mean accuracy on held-out or on test images",
    )
    epoch: Literal["last", "best_held_out", "best_on_test"] = Field(
        "last", description="epoch whose test accuracy counts: the last, or the one that was best on those images"
    )
    meter: Literal["exact", "released"] = Field(
        "exact", description="released: the mean over batches of the released code, a short last one as a full one"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, raw: Any) -> Any:
        return {"row": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _is_recorded(self) -> Self:
        if self.meter == "released" and self.epoch != "last":
            raise ValueError(
                "meter: released needs the predictions, which are those of the last epoch; leave epoch out"
            )
        return self


class Contrast(Strict):
    """Two sides that differ in one thing; its effect is the paired difference a - b of top-1 accuracy, in points."""

    label: str = Field(min_length=1, description="what differs, as 'a minus b' in words")
    a: Side
    b: Side

    @model_validator(mode="after")
    def _compares_like_with_like(self) -> Self:
        if (self.a.row == ALL_ROWS) != (self.b.row == ALL_ROWS):
            raise ValueError(f"a and b must both be a row, or both {ALL_ROWS}; got {self.a.row} and {self.b.row}")
        return self


class Audit(Strict):
    """The findings that an experiment measures."""

    sources: tuple[Name, ...] = Field(
        min_length=1, description="paper_tables/findings/<name>.yaml: what was found in released code"
    )
    contrasts: dict[Name, tuple[Contrast, ...]] = Field(description="by the id of the finding or question")


def require_measurable(audit: Audit, rows: Mapping[str, object], recipe: Recipe, recipe_name: str) -> None:
    """Check that an experiment will have what its contrasts ask for.

    Args:
        audit: The contrasts.
        rows: Rows of the experiment by name.
        recipe: Recipe of its students.
        recipe_name: Its name, for messages.

    Raises:
        ValueError: One line: the contrast, what it needs, what to do.
    """
    for finding, contrasts in audit.contrasts.items():
        for number, contrast in enumerate(contrasts):
            for name, side in (("a", contrast.a), ("b", contrast.b)):
                where = f"audit.contrasts.{finding}.{number}.{name}"
                if side.row != ALL_ROWS and side.row not in rows:
                    raise ValueError(f"{where}: no row {side.row!r} under methods; give the name of one, or *")
                _require_recorded(side, recipe, f"{where}: {{}} needs recipes.{recipe_name}.{{}}")


def _require_recorded(side: Side, recipe: Recipe, message: str) -> None:
    if side.epoch != "last" and recipe.evaluate_every_epochs is None:
        raise ValueError(message.format(f"epoch: {side.epoch}", "evaluate_every_epochs"))
    if recipe.held_out_fraction is None:
        if side.epoch == "best_held_out":
            raise ValueError(message.format("epoch: best_held_out", "held_out_fraction"))
        if side.weight == "held_out":
            raise ValueError(message.format("weight: held_out", "held_out_fraction"))
