"""Base of every method's options. Imports no torch, so that options can be described and checked cheaply."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MethodOptions(BaseModel):
    """Frozen options of a method: unknown keys are refused, defaults are checked, numbers are finite.

    A subclass states each field's unit and source in its description and its range with `Field(gt=..., ge=..., ...)`:
    the generated JSON schema is what an experiment file is checked against, without importing the method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
