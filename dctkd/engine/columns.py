"""Columns of Parquet files without pandas, which pa.array and pa.scalar take half a second to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def column_of_numbers(values_N: NDArray[Any]) -> pa.Array:
    """Return numbers of any width, or truth values, as a column without gaps; NaN stays NaN.

    Example:
        >>> column_of_numbers(np.array([True, False, True])).to_pylist()
        [True, False, True]
        >>> column_of_numbers(np.array([1.5, 2.5])).to_pylist()
        [1.5, 2.5]
    """
    packed = np.packbits(values_N, bitorder="little") if values_N.dtype == np.bool_ else np.ascontiguousarray(values_N)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values_N.dtype), len(values_N), [None, pa.py_buffer(packed)])


def column_of_texts(texts: Sequence[str]) -> pa.Array:
    """Return texts as a column without gaps.

    Example:
        >>> column_of_texts(["val/1", "", "ü"]).to_pylist()
        ['val/1', '', 'ü']
    """
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *(len(text) for text in encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))
