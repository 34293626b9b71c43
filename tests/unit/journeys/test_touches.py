"""Touches of journeys against a plain loop over users. Arrow batches, no Spark."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from almmta_spark.journeys.touches import COUNTS, KnownItems, with_touches

INDEX = 10**15
CAP = 3
ITEMS = {5: (50, 1), -7: (70, 2), 2**40: (60, 3)}
KNOWN = KnownItems(
    *(np.array(column) for column in zip(*sorted((i, a, c) for i, (a, c) in ITEMS.items()), strict=True))
)

touches = st.lists(
    st.tuples(st.integers(1, 6), st.integers(-9, 9), st.sampled_from([*ITEMS, 6, -8]), st.integers(1, 4)),
    max_size=8,
    unique_by=lambda touch: touch[:2],
)
users = st.lists(st.tuples(st.one_of(st.none(), touches), st.booleans()), max_size=7)


def batch_of(users, of_item=False):
    """user_id, covariates (null: not known) and lists of touches, which are (ago, touch_id, item_id, copies)."""
    types = {
        "touch_ts": pa.timestamp("us", tz="UTC"),
        "touch_id": pa.int64(),
        "item_id": pa.int64(),
        "copies": pa.int32(),
    }
    types |= {"author_id": pa.int64(), "cluster": pa.int32()} if of_item else {}
    rows = [
        None if listed is None else [(INDEX - ago, i, item, n, *ITEMS.get(item, ())) for ago, i, item, n in listed]
        for listed, _ in users
    ]
    lists = {
        name: pa.array([None if row is None else [t[k] for t in row] for row in rows], pa.list_(kind))
        for k, (name, kind) in enumerate(types.items())
    }
    known = pa.array([[0.5] if is_known else None for _, is_known in users], pa.list_(pa.float32()))
    return pa.RecordBatch.from_pydict(
        {"user_id": pa.array(range(len(users)), pa.int64()), "covariates": known, **lists}
    )


def found_in(batch, items):
    names = ["user_id", *COUNTS, "touches"]
    return [row for made in with_touches([batch], items, INDEX, CAP, names) for row in made.to_pylist()]


def expected(listed, is_known):
    """Oldest first, the newest CAP, and the rows behind them."""
    there = sorted((INDEX - ago, i, item, n) for ago, i, item, n in listed or [] if is_known and item in ITEMS)
    capped, kept = there[: max(0, len(there) - CAP)], there[-CAP:]
    rows = [(ts, i, item, *ITEMS[item], np.float32((INDEX - ts) / 3.6e9)) for ts, i, item, _ in kept]
    return rows, (sum(t[3] for t in there), sum(t[3] - 1 for t in kept), sum(t[3] for t in capped))


@given(users)
def test_touches_are_looked_up_put_in_order_and_capped_as_a_loop_does_it(users):
    rows = found_in(batch_of(users), SimpleNamespace(value=KNOWN))
    for row, (listed, is_known) in zip(rows, users, strict=True):
        wanted, counts = expected(listed, is_known)
        made = [
            (
                int(t["touch_ts"].timestamp() * 1e6 + 0.5),
                *(t[k] for k in ("touch_id", "item_id", "author_id", "cluster", "age_hours")),
            )
            for t in row["touches"]
        ]
        assert made == wanted and tuple(row[name] for name in COUNTS) == counts


@given(users)
def test_items_that_were_joined_before_give_the_same(users):
    known = [([t for t in listed or [] if t[2] in ITEMS], is_known) for listed, is_known in users]
    assert found_in(batch_of(known, of_item=True), None) == found_in(batch_of(known), SimpleNamespace(value=KNOWN))


def test_a_night_without_items_knows_none():
    none = KnownItems(*(np.zeros(0, np.int64) for _ in range(3)))
    (row,) = found_in(batch_of([([(1, 1, 5, 2)], True)]), SimpleNamespace(value=none))
    assert row == {"user_id": 0, "touches": [], **dict.fromkeys(COUNTS, 0)}
