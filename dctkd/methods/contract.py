"""The contract of a method, as checks that anyone can run on their own class.

The tests run them on every method in METHODS; `dctkd methods check FILE` runs them on a user's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from dctkd.errors import InputError
from dctkd.methods import catalogue, make_options
from dctkd.methods.base import FEATURES, Method
from dctkd.methods.contract_checks import PAIR_CHECKS, require
from dctkd.methods.contract_trial import PAIRS, Pair, Trial
from dctkd.methods.options import MethodOptions


class CheckResult(NamedTuple):
    """Outcome of one check; the message is empty if it passed, or says that the method refuses the pair."""

    check: str
    passed: bool
    message: str


def check_method(
    method_class: type[Method], *, options: Mapping[str, Any] | None = None, pairs: tuple[Pair, ...] = PAIRS
) -> list[CheckResult]:
    """Run every check on every pair of networks.

    A method may refuse a pair with an InputError when it is made; at least one pair must be accepted.

    Args:
        method_class: The method.
        options: The method's options, if its defaults do not suit tiny inputs or it has required ones.
        pairs: Shapes of the networks.

    Returns:
        One result per check and pair, in a fixed order.
    """
    given = dict(options or {})
    results = [_run(name, partial(check, method_class, given)) for name, check in CLASS_CHECKS.items()]
    num_accepted = 0
    for pair in pairs:
        trial = Trial(method_class, pair, given)
        made = _run(f"can be made [{pair.name}]", trial.build)
        if not made.passed and made.message.startswith(InputError.__name__):
            results.append(made._replace(passed=True, message=f"refused: {made.message}"))
            continue
        results.append(made)
        num_accepted += made.passed
        if made.passed:
            results += [_run(f"{name} [{pair.name}]", partial(check, trial)) for name, check in PAIR_CHECKS.items()]
    message = "" if num_accepted else f"the method cannot be made for any of {', '.join(pair.name for pair in pairs)}"
    return [*results, CheckResult("some pair is accepted", num_accepted > 0, message)]


def check_description(method_class: type[Method], options: Mapping[str, Any]) -> None:
    """The class says what it is, where it comes from and what it reads."""
    require(
        not (missing := catalogue.missing_attributes(method_class)), f"missing class attributes {', '.join(missing)}"
    )
    for name in ("title", "paper", "default_weight_source"):
        text = getattr(method_class, name)
        require(isinstance(text, str) and bool(text.strip()), f"{name} must be a non-empty text, got {text!r}")
    require(
        bool(method_class.__doc__) and method_class.__doc__ != Method.__doc__,
        "the class needs a docstring: the loss in one line",
    )
    parts = method_class.features.split(" + ")
    require(
        set(parts) <= set(FEATURES),
        f"features must be among {FEATURES}, joined by ' + '; got {method_class.features!r}",
    )
    has_terms = parts != ["none"]
    require(not has_terms or isinstance(method_class.year, int), f"year must be an integer, got {method_class.year!r}")
    require(
        has_terms == (method_class.default_weight > 0),
        "default_weight must be > 0, and 0 for a method that reads nothing",
    )
    require(method_class.default_ce >= 0, f"default_ce must be >= 0, got {method_class.default_ce}")
    require(method_class.results_version >= 1, f"results_version counts from 1, got {method_class.results_version}")


def check_options_round_trip(method_class: type[Method], options: Mapping[str, Any]) -> None:
    """Options are frozen, described, survive JSON, and the schema fills in the same defaults as the model."""
    model = method_class.Options
    require(issubclass(model, MethodOptions), "Options must be a subclass of dctkd.methods.options.MethodOptions")
    undescribed = [name for name, field in model.model_fields.items() if not field.description]
    require(not undescribed, f"options without a description (unit and source): {', '.join(undescribed)}")
    made = make_options(method_class, options, where="options")
    require(
        model.model_validate_json(made.model_dump_json()) == made,
        "the options change when written to JSON and read again",
    )
    filled = catalogue.validate_options(catalogue.describe(method_class), options, "options")
    dumped = made.model_dump(mode="json")
    require(filled == dumped, f"the JSON schema gives {filled}, the model {dumped}; give every default in the field")
    try:
        model.model_validate({**dumped, "no_such_option": 1})
    except ValidationError:
        pass
    else:
        raise AssertionError('Options accept an unknown key; keep extra="forbid"')
    require(bool(model.model_config.get("frozen")), "Options must stay frozen")


def _run(name: str, check: Callable[[], object]) -> CheckResult:
    try:
        check()
    except Exception as error:  # Anything that a user's code raises is a failed check, reported with its type.
        return CheckResult(name, False, " ".join(f"{type(error).__name__}: {error}".split()))
    return CheckResult(name, True, "")


CLASS_CHECKS: Final[Mapping[str, Callable[[type[Method], Mapping[str, Any]], None]]] = MappingProxyType(
    {"description": check_description, "options round trip": check_options_round_trip}
)
