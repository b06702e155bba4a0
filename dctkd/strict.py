"""The model that all settings are made of: frozen, and strict about keys and truth values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from dctkd.errors import did_you_mean, shown


def _refuse_truth_values(key: str, value: Any, annotation: Any) -> None:
    """Refuse true and false where a number is expected: pydantic would take them for 1 and 0."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    if bool not in (annotation, *get_args(annotation)) and any(isinstance(one, bool) for one in values):
        raise PydanticCustomError(
            "unknown_key", "{key}: expected no true or false, got {got}", {"key": key, "got": shown(value)}
        )


class Strict(BaseModel):
    """Frozen model that refuses unknown keys and suggests the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            for key, value in raw.items():
                if key not in cls.model_fields:
                    hint = did_you_mean(str(key), cls.model_fields)
                    raise PydanticCustomError(
                        "unknown_key", "unknown key {key}{hint}", {"key": shown(key), "hint": hint}
                    )
                _refuse_truth_values(key, value, cls.model_fields[key].annotation)
        return raw
