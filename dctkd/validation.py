"""What pydantic finds wrong, as one line in the words of an experiment file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dctkd.errors import shown

EXPECTED = {
    "string_type": "text",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of a size that makes sense",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "a path, as text",
}
"""By pydantic's kind of problem; others are said in pydantic's own words."""
OWN_KINDS = ("unknown_key", "value_error", "optimiser")
"""Problems that the models themselves put into words."""

_BRANCH = re.compile(r"(literal|tuple|function-[\w-]+)\[.*\]|constrained-int|int|\[key\]", re.DOTALL)
"""Parts of a location that name a branch of a type, not a key."""


def explain(error: ValidationError, within: str = "") -> str:
    """Return the first problem of a validation as one line: key path, what was expected, what came.

    Args:
        error: What pydantic found.
        within: Key path of what was validated.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    path = ".".join([*filter(None, [within]), *(str(part) for part in _readable_location(first))])
    message = _message(first)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def _message(problem: ErrorDetails) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "missing":
        return "this key is required"
    if kind in OWN_KINDS:
        return problem["msg"].removeprefix("Value error, ")
    if kind == "too_short":
        expected = f"at least {context['min_length']} {'entry' if context['min_length'] == 1 else 'entries'}"
    else:
        expected = EXPECTED.get(kind) or re.sub(r"^(Input|String|Tuple) should (be )?", "", problem["msg"])
    return f"expected {expected}, got {shown(problem['input'])}"


def _readable_location(problem: ErrorDetails) -> Iterator[str | int]:
    for before, part in zip(("", *problem["loc"]), problem["loc"], strict=False):
        if before == "optimiser" and part in ("sgd", "adamw"):
            continue
        if not _BRANCH.fullmatch(str(part)) or isinstance(part, int):
            yield part
