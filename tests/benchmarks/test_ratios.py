"""Ratios, their intervals and their bounds."""

import pytest

from benchmarks.ratios import Ratio, interleave, ratio_of_medians


def test_the_ratio_is_that_of_the_medians_whatever_the_outliers():
    value, low, high = ratio_of_medians([2.0, 2.0, 90.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 50.0])
    assert value == 2
    assert low <= value <= high


def test_the_interval_of_equal_pairs_is_the_value():
    assert ratio_of_medians([3.0] * 4, [2.0] * 4) == (1.5, 1.5, 1.5)


@pytest.mark.parametrize(
    ("low", "high", "bounds", "holds"),
    [
        (1.04, 1.2, {"at_most": 1.05}, True),
        (1.06, 1.2, {"at_most": 1.05}, False),
        (1.2, 1.4, {"at_least": 1.35}, True),
        (1.2, 1.3, {"at_least": 1.35}, False),
        (0.1, 9.0, {}, True),
    ],
)
def test_a_bound_is_broken_only_by_a_whole_interval_beyond_it(low, high, bounds, holds):
    assert Ratio("r", (low + high) / 2, low, high, **bounds).holds is holds


def test_a_missed_goal_is_shown_and_breaks_nothing():
    ratio = Ratio("r", 1.04, 1.04, 1.05, at_most=1.05, goal="<= 1.03")
    assert ratio.bound == "<= 1.05, goal <= 1.03, ok"


def test_a_ratio_without_a_bound_has_no_verdict():
    assert str(Ratio("r", 2.0, 1.5, 2.5, detail="of this")) == "r: 2.000 [1.500, 2.500] of this"


def test_actions_take_turns():
    calls = []
    actions = [lambda: calls.append("a") or 1.0, lambda: calls.append("b") or 2.0]
    assert interleave(actions, 2) == [[1.0, 1.0], [2.0, 2.0]]
    assert calls == ["a", "b", "a", "b"]
