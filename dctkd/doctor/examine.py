"""Run all checks; one that fails is a finding, and the others still run."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from dctkd.doctor.finding import Check, Finding, Surroundings

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "environment": "dctkd.doctor.environment",
        "compute": "dctkd.doctor.compute",
        "disk and memory": "dctkd.doctor.storage",
        "experiment": "dctkd.doctor.experiment",
        "locks and leftovers": "dctkd.doctor.leftovers",
    }
)
"""Title to module. Imported only when it is its turn: what a module needs may be what is missing."""


def examine(surroundings: Surroundings) -> dict[str, list[Finding]]:
    """Return what every check of every group finds, by the group's title, in order."""
    return {title: list(_findings_of(title, module, surroundings)) for title, module in GROUPS.items()}


def as_records(found: Mapping[str, Iterable[Finding]]) -> list[dict[str, str | None]]:
    """Return findings as JSON values: group, check, state, text and remedy of each."""
    return [{"group": title, **vars(finding)} for title, findings in found.items() for finding in findings]


def has_problem(found: Mapping[str, Iterable[Finding]]) -> bool:
    """Tell whether something does not work as it is."""
    return any(finding.state == "problem" for findings in found.values() for finding in findings)


def _findings_of(title: str, module: str, surroundings: Surroundings) -> Iterator[Finding]:
    try:
        checks: tuple[Check, ...] = importlib.import_module(module).CHECKS
    except Exception as error:
        yield _not_looked_at(title, error)
        return
    for check in checks:
        try:
            yield from check(surroundings)
        except (Exception, SystemExit) as error:
            yield _not_looked_at(check.__name__.replace("_", " "), error)


def _not_looked_at(what: str, error: BaseException) -> Finding:
    """A note: that a check cannot look does not mean that anything is wrong."""
    message = " ".join(str(error).split())
    return Finding(what, "note", f"could not be looked at ({type(error).__name__}: {message[:200]})")
