"""Every method in METHODS keeps the contract on every pair; a new method is tested with no new code here."""

import ast
from pathlib import Path

import pytest

from dctkd.methods import METHODS
from dctkd.methods.contract import CLASS_CHECKS, check_method
from dctkd.methods.contract_checks import PAIR_CHECKS
from dctkd.methods.contract_trial import PAIRS, Trial

SMALL: dict[str, dict[str, int]] = {"semckd": {"mid_channels": 8}, "crd": {"num_negatives": 64}}
"""Options that keep a contract to seconds; what they leave out is size alone."""
METHOD_TESTS = Path(__file__).parents[1] / "methods"


@pytest.mark.parametrize("check", CLASS_CHECKS)
@pytest.mark.parametrize("name", METHODS)
def test_class(name, check):
    CLASS_CHECKS[check](METHODS[name], SMALL.get(name, {}))


@pytest.mark.parametrize("check", PAIR_CHECKS)
@pytest.mark.parametrize("pair", PAIRS, ids=[pair.name for pair in PAIRS])
@pytest.mark.parametrize("name", METHODS)
def test_pair(name, pair, check):
    PAIR_CHECKS[check](Trial(METHODS[name], pair, SMALL.get(name, {})))


@pytest.mark.parametrize("name", METHODS)
def test_method_has_a_reference_test(name):
    tree = ast.parse((METHOD_TESTS / f"test_{name}.py").read_text(encoding="utf-8"))
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert any(n.startswith("test_") and "reference" in n for n in names), (
        f"tests/methods/test_{name}.py compares with nothing"
    )


def test_check_method_runs_every_check_on_every_pair():
    results = check_method(METHODS["kd"], pairs=PAIRS[:2])
    assert len(results) == len(CLASS_CHECKS) + 2 * (1 + len(PAIR_CHECKS)) + 1
    assert all(result.passed and result.message == "" for result in results)
