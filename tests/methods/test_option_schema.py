"""Options are checked against the schema as pydantic would, with a message on one line."""

from typing import Literal

import pytest
from pydantic import Field

from dctkd.errors import InputError
from dctkd.methods.option_schema import check_options
from dctkd.methods.options import MethodOptions
from dctkd.provenance import canonical_json


class Everything(MethodOptions):
    number: float = Field(1.0, gt=0, le=10, description="a number")
    count: int = Field(3, ge=1, description="a count")
    flag: bool = Field(True, description="a flag")
    mode: Literal["mean", "sum"] = Field("mean", description="a mode")
    limit: float | None = Field(None, ge=0, description="a limit or null")
    weights: tuple[float, ...] = Field((1.0, 0.5), description="weights")
    window: tuple[int, int] = Field((2, 2), description="a window")


class Required(MethodOptions):
    size: int = Field(ge=1, description="size of the memory, images")


SCHEMA = Everything.model_json_schema()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"number": 2},
        {"count": 4.0},
        {"flag": False, "mode": "sum"},
        {"limit": 0},
        {"limit": None},
        {"weights": [1, 2, 0.25]},
        {"weights": (1, 2)},
        {"window": [3, 1]},
    ],
)
def test_valid_options_become_what_pydantic_makes_of_them(options):
    expected = Everything.model_validate(options).model_dump(mode="json")
    assert canonical_json(check_options(SCHEMA, options, "x")) == canonical_json(expected)  # Tells 2 from 2.0.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nubmer": 1}, "x: unknown option 'nubmer'; did you mean 'number'?"),
        ({3: 1}, "x: unknown option 3; choose from count, flag, limit, mode, number, weights, window"),
        ({"number": 0}, "x.number: expected a number > 0 and <= 10, got 0"),
        ({"number": 11}, "x.number: expected a number > 0 and <= 10, got 11"),
        ({"number": True}, "x.number: expected a number > 0 and <= 10, got True"),
        ({"number": None}, "x.number: expected a number > 0 and <= 10, got None"),
        ({"number": "much"}, "x.number: expected a number > 0 and <= 10, got 'much'"),
        (
            {"number": "1e-3"},
            "x.number: expected a number > 0 and <= 10, got '1e-3'; "
            "it is text: write it without quotes and with a decimal point, such as 1.0e-3",
        ),
        ({"number": float("nan")}, "x.number: expected finite numbers, got nan"),
        ({"weights": [1.0, float("inf")]}, "x.weights: expected finite numbers, got [1.0, inf]"),
        ({"count": 1.5}, "x.count: expected an integer >= 1, got 1.5"),
        ({"flag": 1}, "x.flag: expected true or false, got 1"),
        ({"mode": "means"}, "x.mode: expected one of 'mean', 'sum', got 'means'; did you mean 'mean'?"),
        ({"mode": 1}, "x.mode: expected one of 'mean', 'sum', got 1"),
        ({"limit": -1}, "x.limit: expected a number >= 0 or null, got -1"),
        ({"weights": 1.0}, "x.weights: expected a list, got 1.0"),
        ({"weights": [1.0, "a"]}, "x.weights.1: expected a number, got 'a'"),
        ({"window": [1, 2, 3]}, "x.window: expected a list of at least 2 entries and at most 2 entries, got [1, 2, 3]"),
    ],
)
def test_invalid_options_are_refused_on_one_line(options, message):
    with pytest.raises(InputError) as caught:
        check_options(SCHEMA, options, "x")
    assert str(caught.value) == message


def test_a_missing_required_option_is_named_with_its_purpose():
    with pytest.raises(InputError, match=r"^x.size: this option is required \(size of the memory, images\)$"):
        check_options(Required.model_json_schema(), {}, "x")


def test_options_that_are_no_mapping_are_refused():
    with pytest.raises(InputError, match=r"^x: expected a mapping of options, got \[1\]$"):
        check_options(SCHEMA, [1], "x")


def test_options_are_frozen_and_closed():
    with pytest.raises(ValueError, match="frozen"):
        Everything().number = 2.0
    with pytest.raises(ValueError, match="Extra inputs"):
        Everything(nubmer=1)
