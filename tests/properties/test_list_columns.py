"""Laws of list columns as arrays, and of the books that ingest keeps."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.logs.accounting import Account, account, refuse_too_many_rejections
from almmta_spark.logs.arrays import lists, matrix, padded, positions_of, ragged, ragged_lists, rows_of
from almmta_spark.logs.clusters import kmeans
from almmta_spark.logs.rules import OUTSIDE_WINDOW, USED

LAW = settings(deadline=None, max_examples=50)
ragged_rows = st.lists(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), max_size=8)
counts = st.dictionaries(st.sampled_from([USED, OUTSIDE_WINDOW, "null_user_id", "unknown_item"]), st.integers(0, 1000))


@LAW
@given(ragged_rows)
def test_a_ragged_column_comes_back_as_it_was(rows: list[list[int]]) -> None:
    values_T, lengths_N = ragged(pa.array(rows, pa.list_(pa.int64())))
    assert ragged_lists(values_T, lengths_N, pa.int64()).to_pylist() == rows
    assert [rows[r][p] for r, p in zip(rows_of(lengths_N), positions_of(lengths_N), strict=True)] == values_T.tolist()


@LAW
@given(ragged_rows, st.integers(5, 9))
def test_padding_keeps_every_entry_and_fills_the_rest(rows: list[list[int]], width: int) -> None:
    values_T, lengths_N = ragged(pa.array(rows, pa.list_(pa.int64())))
    assert padded(values_T, lengths_N, width, fill=7).tolist() == [r + [7] * (width - len(r)) for r in rows]


@LAW
@given(ragged_rows, st.integers(0, 8), st.integers(0, 8))
def test_a_slice_of_a_column_is_read_as_that_slice(rows: list[list[int]], start: int, length: int) -> None:
    values_T, lengths_N = ragged(pa.array(rows, pa.list_(pa.int64())).slice(start, length))
    wanted = rows[start : start + length]
    assert (values_T.tolist(), lengths_N.tolist()) == ([v for r in wanted for v in r], [len(r) for r in wanted])


@LAW
@given(st.integers(1, 5), st.integers(1, 4))
def test_a_matrix_comes_back_as_it_was(rows: int, width: int) -> None:
    values = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    assert matrix(lists(values, pa.float32())).tolist() == values.tolist()


def test_unknown_entries_of_a_list_become_nan_and_a_null_list_is_empty() -> None:
    assert np.isnan(matrix(pa.array([[1.0, None]], pa.list_(pa.float32())))).tolist() == [[False, True]]
    assert ragged(pa.array([None, [1]], pa.list_(pa.int64())))[1].tolist() == [0, 1]


@LAW
@given(counts, st.data())
def test_every_row_of_a_table_has_one_place_in_its_account(statuses: dict[str, int], data: st.DataObject) -> None:
    repeated = data.draw(st.integers(0, statuses.get(USED, 0)))
    conflicting = data.draw(st.integers(0, statuses.get(USED, 0) - repeated))
    found = account(statuses, repeated, conflicting).check("exposures")
    assert found.rows_in == sum(statuses.values())
    assert Account.from_dict(found.to_dict()) == found


@LAW
@given(st.integers(0, 100), st.integers(1, 100), st.floats(0, 1))
def test_a_night_stops_exactly_above_the_allowed_rate(rejected: int, used: int, rate: float) -> None:
    books = {"items": account({USED: used, "null_item_id": rejected})}
    if rejected > rate * (rejected + used):
        with pytest.raises(ValueError, match="table items"):
            refuse_too_many_rejections(books, rate)
    else:
        refuse_too_many_rejections(books, rate)


def test_a_row_lost_between_two_stages_is_an_assertion() -> None:
    with pytest.raises(AssertionError, match="signals"):
        Account(rows_in=3, used=1, rejected={"null_value": 1}).check("signals")


@LAW
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=4, unique=True), st.integers(2, 4))
def test_centroids_are_sorted_distinct_and_do_not_depend_on_a_repeated_fit(points: list[tuple], k: int) -> None:
    x_NE = np.array(points, float)
    centroid_KE = kmeans(x_NE, k, seed=0)
    assert sorted(map(tuple, centroid_KE)) == list(map(tuple, centroid_KE))
    assert len(np.unique(centroid_KE, axis=0)) == k
    assert np.array_equal(centroid_KE, kmeans(x_NE, k, seed=0))
