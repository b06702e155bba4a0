"""Which rows of an experiment are a sweep of a method's weight. Imports neither pandas nor matplotlib."""

from __future__ import annotations

import json

from dctkd.config import KD_SUFFIX
from dctkd.plan import Plan
from dctkd.report.published import weight_of

MIN_WEIGHTS = 3
"""Fewer weights than this are a comparison, not a sweep."""


def sweeps(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return the rows that differ in nothing but the weight of their method, if there are three or more weights.

    A row without a weight of its own counts with its method's default. Two rows of one weight are the same runs: the
    first stands for both. Rows whose weight is not known are left out.

    Args:
        plan: The experiment's plan.

    Returns:
        Method, with `+kd` where the rows have that term, -> names of its rows by rising weight. A method that is swept
        twice, with different options, has the first row's name behind its own the second time.
    """
    alike: dict[str, dict[float, str]] = {}
    for row in plan.config.methods:
        weight = weight_of(plan, row)
        if weight is not None:
            alike.setdefault(_all_but_weight(plan, row), {}).setdefault(weight, row)
    found: dict[str, tuple[str, ...]] = {}
    for by_weight in alike.values():
        if len(by_weight) >= MIN_WEIGHTS:
            rows = tuple(by_weight[weight] for weight in sorted(by_weight))
            method = method_of(plan, rows[0])
            found[f"{method} ({rows[0]})" if method in found else method] = rows
    return found


def method_of(plan: Plan, row: str) -> str:
    """Return the method of a row, with `+kd` where the row has that term."""
    if method := plan.config.methods[row].method:
        return method + (KD_SUFFIX if row.endswith(KD_SUFFIX) else "")
    return row


def _all_but_weight(plan: Plan, row: str) -> str:
    """Return everything that determines a row's runs but its weight: as resolved, else as the experiment file says."""
    settings = next((run.identity.get("method") for run in plan.runs if run.method == row), None)
    if settings is None:
        settings = plan.config.methods[row].model_dump(mode="json")
    known = {key: value for key, value in settings.items() if key != "weight"}
    return json.dumps({**known, "method": method_of(plan, row)}, sort_keys=True)
