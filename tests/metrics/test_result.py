"""The record of one measured number."""

import json
import math
import subprocess
import sys

import pytest

from dctkd.metrics import Result


@pytest.mark.parametrize("value", [0.1 + 0.2, 100 / 3, 5e-324, 1.7976931348623157e308, -0.0])
def test_a_result_survives_json_bit_for_bit(value):
    result = Result("cross_entropy_nats", "last", "test", value, "nats")
    back = Result.from_dict(json.loads(json.dumps(result.to_dict())))
    assert back == result
    assert back.value.hex() == value.hex()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="must be finite"):
        Result("top1_percent", "last", "test", value, "percent")


@pytest.mark.parametrize("change", [{"extra": 1}, {"unit": None}])
def test_a_record_of_other_fields_is_refused(change):
    record = Result("top1_percent", "last", "test", 1.0, "percent").to_dict() | change
    if change.get("unit", 0) is None:
        del record["unit"]
    with pytest.raises(ValueError, match="a result has the fields"):
        Result.from_dict(record)


def test_reading_results_imports_no_torch():
    code = "import sys, dctkd.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
