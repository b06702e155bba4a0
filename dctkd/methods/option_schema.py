"""Check options against the JSON schema of a method, with messages that fit on one line. Imports no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dctkd.errors import InputError, did_you_mean

TYPE_WORDS = {
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
ADDED_LATER = "added_later"
"""Key that `options.later_option` sets to true in an option's schema."""
BOUND_SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def check_options(schema: Mapping[str, Any], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the options with defaults filled in and numbers in their field's type.

    Args:
        schema: JSON schema of a flat pydantic model.
        options: Names and values, as YAML gives them.
        where: Key path of the options, which starts every message.

    Raises:
        InputError: One line: key path, what was expected, what came, nearest known name.

    Example:
        >>> schema = {"properties": {"temperature": {"type": "number", "exclusiveMinimum": 0, "default": 4.0}}}
        >>> check_options(schema, {"temperature": 2}, "kd.options")
        {'temperature': 2.0}
        >>> check_options(schema, {"temperature": 0}, "kd.options")
        Traceback (most recent call last):
        dctkd.errors.InputError: kd.options.temperature: expected a number > 0, got 0
    """
    if not isinstance(options, Mapping):
        raise InputError(f"{where}: expected a mapping of options, got {options!r}")
    properties: Mapping[str, Any] = schema.get("properties", {})
    for key in options:
        if key not in properties:
            raise InputError(f"{where}: unknown option {key!r}{did_you_mean(str(key), properties)}")
    for key in schema.get("required", ()):
        if key not in options:
            purpose = properties[key].get("description", TYPE_WORDS.get(properties[key].get("type"), "a value"))
            raise InputError(f"{where}.{key}: this option is required ({purpose})")
    given = {key: _as_json(value) for key, value in options.items()}
    if given:  # The check imports jsonschema, which takes a tenth of a second.
        _check_values(schema, given, where)
    defaults = {key: fragment["default"] for key, fragment in properties.items() if "default" in fragment}
    return {**defaults, **{key: _normalise(value, properties[key]) for key, value in given.items()}}


def without_later_defaults(schema: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that joined the method later and have their default.

    Args:
        schema: JSON schema of a flat pydantic model.
        options: As `check_options` returns them.

    Example:
        >>> schema = {"properties": {"power": {"type": "number", "default": 2.0, "added_later": True}}}
        >>> without_later_defaults(schema, {"power": 2.0}), without_later_defaults(schema, {"power": 3.0})
        ({}, {'power': 3.0})
    """
    return {
        key: value for key, value in options.items() if not _is_later_default(value, schema["properties"].get(key, {}))
    }


def _is_later_default(value: Any, fragment: Mapping[str, Any]) -> bool:
    # As JSON: to Python 0 is False, to an option that takes both it is not.
    return bool(fragment.get(ADDED_LATER)) and _as_text(value, fragment) == _as_text(fragment["default"], fragment)


def _as_text(value: Any, fragment: Mapping[str, Any]) -> str:
    return json.dumps(_normalise(value, fragment))


def _check_values(schema: Mapping[str, Any], given: dict[str, Any], where: str) -> None:
    from jsonschema import Draft202012Validator

    for key, value in given.items():
        if not all(math.isfinite(number) for number in _numbers(value)):
            raise InputError(f"{where}.{key}: expected finite numbers, got {value!r}")
    errors = sorted(
        Draft202012Validator(schema).iter_errors(given), key=lambda error: [str(part) for part in error.absolute_path]
    )
    for error in errors:
        path = ".".join([where, *(str(part) for part in error.absolute_path)])
        fragment = error.schema if isinstance(error.schema, Mapping) else {}
        raise InputError(
            f"{path}: expected {_expectation(fragment)}, got {error.instance!r}{_hint(error.instance, fragment)}"
        )


def _hint(value: Any, fragment: Mapping[str, Any]) -> str:
    choices = [choice for choice in fragment.get("enum", ()) if isinstance(choice, str)]
    if not isinstance(value, str):
        return ""
    if choices:
        return did_you_mean(value, choices)
    looks_like_number = re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value, re.IGNORECASE)
    return "; it is text: write it without quotes and with a decimal point, such as 1.0e-3" if looks_like_number else ""


def _expectation(fragment: Mapping[str, Any]) -> str:
    """Return the valid values of a schema fragment in words."""
    if "anyOf" in fragment:
        return " or ".join(_expectation(branch) for branch in fragment["anyOf"])
    if "enum" in fragment or "const" in fragment:
        choices: Iterable[Any] = fragment.get("enum", (fragment.get("const"),))
        return "one of " + ", ".join(repr(choice) for choice in choices)
    words = TYPE_WORDS.get(fragment.get("type", ""), "another value")
    bounds = " and ".join(f"{sign} {fragment[key]}" for key, sign in BOUND_SIGNS.items() if key in fragment)
    lengths = " and ".join(
        f"{name} {fragment[key]} entries"
        for key, name in (("minItems", "at least"), ("maxItems", "at most"))
        if key in fragment
    )
    pattern = f"matching {fragment['pattern']}" if "pattern" in fragment else ""
    return " ".join(part for part in (words, bounds, f"of {lengths}" if lengths else "", pattern) if part)


def _normalise(value: Any, fragment: Mapping[str, Any]) -> Any:
    """Give a valid number the type of its field: a float or an int."""
    if isinstance(value, list):
        first = fragment.get("prefixItems", [])
        rest = fragment.get("items") or {}
        return [_normalise(item, first[n] if n < len(first) else rest) for n, item in enumerate(value)]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    types = {branch.get("type") for branch in (fragment, *fragment.get("anyOf", ()))}
    if "integer" in types and value == int(value):
        return int(value)
    return float(value) if "number" in types else value


def _as_json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value
