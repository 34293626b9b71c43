"""Touches of journeys: looked up, in order, capped. Arrow batches of one row a user in and out, numpy between them.

N users of a batch, T touches of all of them, I items
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from almmta_spark.logs.arrays import ragged, rows_of
from almmta_spark.logs.days import TOUCH

Ints = NDArray[np.int64]
ITEM = ("author_id", "cluster")
"""What is known of an item."""
USERS_AT_A_TIME = 2048
"""With up to MOST_TOUCHPOINTS touches a part of a day each: tens of MB a day."""
COUNTS = ("num_exposures", "num_repeated", "num_capped")
"""Rows of a user's touches of known items; those that repeat a kept touch; those of touches that were capped."""


@dataclass(frozen=True)
class KnownItems:
    """item_id ascending, with the rest in its order."""

    item_id_I: Ints
    author_id_I: Ints
    cluster_I: Ints

    @classmethod
    def of(cls, item_clusters: DataFrame) -> KnownItems:
        """20 bytes an item on the driver."""
        found = item_clusters.select("item_id", *ITEM).toArrow()
        columns = [found.column(name).to_numpy().astype(np.int64) for name in found.column_names]
        order_I = np.argsort(columns[0], kind="stable")
        return cls(*(column[order_I] for column in columns))

    def look_up(self, item_id_T: Ints) -> tuple[NDArray[np.bool_], Ints, Ints]:
        """Whether each is known, and its author and cluster; those of an unknown one mean nothing."""
        if not len(self.item_id_I):
            return np.zeros(len(item_id_T), bool), item_id_T, item_id_T
        index_T = np.minimum(np.searchsorted(self.item_id_I, item_id_T), len(self.item_id_I) - 1)
        return self.item_id_I[index_T] == item_id_T, self.author_id_I[index_T], self.cluster_I[index_T]


def with_touches(
    batches: Iterable[pa.RecordBatch], items: Any, index: int, max_touchpoints: int, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches of users with `touches` (oldest first, the newest max_touchpoints) and COUNTS in place of the lists.

    items: a broadcast of KnownItems; None: the lists hold author_id and cluster already. index: index_ts, microseconds.
    A user without covariates is not known, and has no touches.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, USERS_AT_A_TIME):
            yield _with_touches(batch.slice(start, USERS_AT_A_TIME), items, index, max_touchpoints, names)


def _with_touches(
    batch: pa.RecordBatch, items: Any, index: int, max_touchpoints: int, names: Sequence[str]
) -> pa.RecordBatch:
    lists = {name: ragged(batch.column(name)) for name in (*TOUCH, *(() if items else ITEM))}
    touch_ts_T, item_id_T = lists["touch_ts"][0].astype("datetime64[us]").astype(np.int64), lists["item_id"][0]
    row_T = rows_of(lists["touch_ts"][1])
    if items:
        known_T, author_id_T, cluster_T = items.value.look_up(item_id_T)
    else:
        known_T, author_id_T, cluster_T = np.ones(len(row_T), bool), lists["author_id"][0], lists["cluster"][0]
    known_T = known_T & batch.column("covariates").is_valid().to_numpy(zero_copy_only=False)[row_T]
    known = np.flatnonzero(known_T)
    touch_id_T = lists["touch_id"][0]
    order = known[np.lexsort((touch_id_T[known], touch_ts_T[known], row_T[known]))]
    row_T, copies_T = row_T[order], lists["copies"][0][order].astype(np.int64)
    num_touches_N = np.bincount(row_T, minlength=batch.num_rows)
    ends_N = np.cumsum(num_touches_N)
    kept_T = ends_N[row_T] - np.arange(len(row_T)) <= max_touchpoints
    counts = (copies_T, np.where(kept_T, copies_T - 1, 0), np.where(kept_T, 0, copies_T))
    found = {name: _sums(row_T, c, batch.num_rows) for name, c in zip(COUNTS, counts, strict=True)}
    chosen = order[kept_T]
    touch = {
        "touch_ts": pa.array(touch_ts_T[chosen], pa.timestamp("us", tz="UTC")),
        "touch_id": touch_id_T[chosen],
        "item_id": item_id_T[chosen],
        "author_id": author_id_T[chosen],
        "cluster": cluster_T[chosen].astype(np.int32),
        "age_hours": ((index - touch_ts_T[chosen]) / 3_600_000_000.0).astype(np.float32),
    }
    structs = pa.StructArray.from_arrays([pa.array(v) for v in touch.values()], names=list(touch))
    offsets = np.concatenate([[0], np.cumsum(np.minimum(num_touches_N, max_touchpoints))]).astype(np.int32)
    made = {name: pa.array(values_N) for name, values_N in found.items()}
    made["touches"] = pa.ListArray.from_arrays(pa.array(offsets), structs)
    columns = [made[name] if name in made else batch.column(name) for name in names]
    return pa.RecordBatch.from_arrays(columns, names=list(names))


def _sums(row_T: Ints, value_T: Ints, num_rows: int) -> Ints:
    """Sum of each row's values, exact."""
    total_T = np.concatenate([[0], np.cumsum(value_T)])
    ends_N = np.cumsum(np.bincount(row_T, minlength=num_rows))
    return total_T[ends_N] - total_T[ends_N - np.bincount(row_T, minlength=num_rows)]
