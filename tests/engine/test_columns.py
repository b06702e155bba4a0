"""Columns made without pandas hold what pyarrow's own conversion gives."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from dctkd.engine.columns import column_of_numbers, column_of_texts

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("length", [0, 1, 8, 1001])
@pytest.mark.parametrize("kind", ["int32", "int64", "float32", "float64", "bool"])
def test_a_column_of_numbers_is_pyarrows(kind, length):
    values = (RANDOM.uniform(-2, 2, size=length) * 3).astype(kind)
    column = column_of_numbers(values)
    column.validate(full=True)
    assert column.equals(pa.array(values))
    assert column_of_numbers(values[::-1]).equals(pa.array(values[::-1].copy()))


def test_nan_is_a_value_and_no_gap():
    assert column_of_numbers(np.array([np.nan])).null_count == 0


@pytest.mark.parametrize("texts", [[], [""], ["val/1.jpg", "", "\u00fcber\u5802", "a b"]])
def test_a_column_of_texts_is_pyarrows(texts):
    column = column_of_texts(texts)
    column.validate(full=True)
    assert column.equals(pa.array(texts, pa.string()))


def test_columns_and_their_file_need_no_pandas():
    code = """
import sys
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dctkd.engine.columns import column_of_numbers, column_of_texts
columns = [column_of_texts(["a", "b"]), column_of_numbers(np.array([1, 2])), column_of_numbers(np.array([True, False]))]
pq.write_table(pa.Table.from_arrays(columns, names=["x", "y", "z"]), pa.BufferOutputStream(), compression="zstd")
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
