"""Which rows are a sweep of a weight."""

import subprocess
import sys
from dataclasses import replace

import pytest

from dctkd.report.sweeps import sweeps

from .conftest import MadeUp

WEIGHTS = {"at-5": 5.0, "at-0.1": 0.1, "at-1": 1.0}


def plan_of(tmp_path, methods, weights=WEIGHTS):
    return MadeUp(tmp_path, methods=("baseline", *methods), weights=weights).plan()


def with_rows(plan, **changes):
    """Return the plan with rows replaced."""
    methods = {name: row.model_copy(update=changes.get(name, {})) for name, row in plan.config.methods.items()}
    return replace(plan, config=plan.config.model_copy(update={"methods": methods}))


def test_rows_of_one_method_are_in_order_of_their_weight(tmp_path):
    assert sweeps(plan_of(tmp_path, WEIGHTS)) == {"at": ("at-0.1", "at-1", "at-5")}


def test_two_weights_are_no_sweep(tmp_path):
    assert sweeps(plan_of(tmp_path, ("at-5", "at-1", "kd"))) == {}


def test_one_weight_given_twice_counts_once(tmp_path):
    weights = {**WEIGHTS, "at-one": 1.0}
    assert sweeps(plan_of(tmp_path, weights, weights)) == {"at": ("at-0.1", "at-1", "at-5")}


@pytest.mark.parametrize("change", [{"ce": 0.5}, {"options": {"stage": 1}}, {"warmup_epochs": 2.0}])
def test_a_row_that_differs_in_more_than_its_weight_is_in_no_sweep(tmp_path, change):
    weights = {**WEIGHTS, "at-2": 2.0}
    plan = with_rows(plan_of(tmp_path, weights, weights), **{"at-2": change})
    assert sweeps(plan) == {"at": ("at-0.1", "at-1", "at-5")}


def test_rows_with_and_without_kd_are_apart(tmp_path):
    weights = {**WEIGHTS, "at-1+kd": 1.0, "at-2+kd": 2.0, "at-3+kd": 3.0}
    found = sweeps(plan_of(tmp_path, weights, weights))
    assert found == {"at": ("at-0.1", "at-1", "at-5"), "at+kd": ("at-1+kd", "at-2+kd", "at-3+kd")}


def test_a_method_swept_twice_with_different_options_has_two_names(tmp_path):
    weights = {**WEIGHTS, "other-1": 1.0, "other-2": 2.0, "other-3": 3.0}
    others = {row: {"ce": 0.5} for row in ("other-1", "other-2", "other-3")}
    assert list(sweeps(with_rows(plan_of(tmp_path, weights, weights), **others))) == ["at", "at (other-1)"]


def test_a_row_without_a_weight_of_its_own_counts_with_the_one_its_runs_have(tmp_path):
    plan = plan_of(tmp_path, ("at-5", "at-1", "at"))
    resolved = {"at-5": 5.0, "at-1": 1.0, "at": 1000.0, "baseline": 0.0}
    runs = tuple(
        replace(run, identity={"method": {"method": run.method.split("-")[0], "weight": resolved[run.method]}})
        for run in plan.runs
    )
    assert sweeps(replace(plan, runs=runs)) == {"at": ("at-1", "at-5", "at")}


def test_module_is_light():
    code = "import sys, dctkd.report.sweeps; print(*{'pandas', 'matplotlib', 'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
