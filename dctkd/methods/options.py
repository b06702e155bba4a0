"""Base of every method's options. Imports no torch, so that options can be described and checked cheaply."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dctkd.methods.option_schema import ADDED_LATER


class MethodOptions(BaseModel):
    """Frozen options of a method: unknown keys are refused, defaults are checked, numbers are finite.

    A subclass states each field's unit and source in its description and its range with `Field(gt=..., ge=..., ...)`:
    the generated JSON schema is what an experiment file is checked against, without importing the method. An option
    that joins a method of which runs exist is declared by `later_option`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def later_option(default: Any, *, description: str, **constraints: Any) -> Any:
    """Return the field of an option that a method gets after runs of it exist; its default is what they did.

    While it has its default it is left out of a run's identity, so that specs and digests of those runs stay and none
    is trained again. Hence the default can never change, and with it the method must keep every bit.

    Args:
        default: What the method did before it had the option.
        description: Meaning, unit and source.
        **constraints: As of `pydantic.Field`: gt, ge, lt, le, min_length, ...

    Returns:
        What stands on the right of an annotated field.

    Example:
        >>> class Options(MethodOptions):
        ...     power: float = later_option(2.0, gt=0, description="exponent, no unit")
        >>> Options().power
        2.0
    """
    return Field(default, description=description, json_schema_extra={ADDED_LATER: True}, **constraints)
