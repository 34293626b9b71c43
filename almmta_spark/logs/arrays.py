"""Arrow list columns as NumPy arrays and back, without a per-row loop. N rows, W width, T total entries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def matrix(column: pa.Array) -> NDArray[Any]:
    """[N, W] of a list column without nulls whose lists have one length; null entries become NaN."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    if not len(column):
        return np.zeros((0, 0), values.dtype if values.dtype != object else np.float32)
    width, rest = divmod(len(values), len(column))
    assert not rest and column.null_count == 0, "lists of one length expected"
    return values.reshape(len(column), width)


def ragged(column: pa.Array) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(values [T], lengths [N]) of a list column without null entries; a null list has length 0."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return column.flatten().to_numpy(zero_copy_only=False), lengths


def rows_of(lengths_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """[T] row of each entry."""
    return np.repeat(np.arange(len(lengths_N)), lengths_N)


def positions_of(lengths_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """[T] position of each entry in its list."""
    starts_N = np.cumsum(lengths_N) - lengths_N
    return np.arange(int(lengths_N.sum())) - np.repeat(starts_N, lengths_N)


def padded(values_T: NDArray[Any], lengths_N: NDArray[np.int64], width: int, fill: Any = 0) -> NDArray[Any]:
    """[N, W] of a ragged column, fill after the end of each list; no list may be longer than width."""
    out = np.full((len(lengths_N), width), fill, values_T.dtype)
    out[rows_of(lengths_N), positions_of(lengths_N)] = values_T
    return out


def lists(values: NDArray[Any], type_: pa.DataType) -> pa.Array:
    """List column of an [N, W] array."""
    rows, width = values.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values).reshape(-1), type_))


def ragged_lists(values_T: NDArray[Any], lengths_N: NDArray[np.int64], type_: pa.DataType) -> pa.Array:
    """List column of ragged values."""
    offsets = np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_T, type_))
