"""A night's draw as rows of the input tables: numpy in, Arrow record batches out, no Spark."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import hashing, truth, worlds
from almmta_spark.simulator.draws import Bools, NightDraw, draw_night
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.worlds import World, row_sums

# n users, L slots, E content, v events a user can have

DAY = 86_400_000_000
"""Microseconds."""
FIRST_ITEM_ID = 10_000
FIRST_AUTHOR_ID = 100
ITEMS_PER_AUTHOR = 5
P_WITHHELD = 0.5

SCHEMA = pa.schema(
    {
        "table": pa.string(),
        "day": pa.string(),
        "user_id": pa.int64(),
        "item_id": pa.int64(),
        "event_ts": pa.timestamp("us", tz="UTC"),
        "signal": pa.string(),
        "value": pa.float64(),
        "upload_id": pa.int64(),
        "embedding": pa.list_(pa.float32()),
        "covariates": pa.list_(pa.float32()),
        "withheld": pa.bool_(),
        "p_withheld": pa.float64(),
        "ett": pa.float64(),
        "ate_x": pa.float64(),
    }
)
"""One row of any simulated table; `table` and `day` say where it belongs, what the table lacks is null."""


def night_records(world: World, conf: SimulatorConfig, seed: int, ds: str, user_ids: Any) -> Iterator[pa.RecordBatch]:
    """Rows of the users' night in every table but the snapshots. Users from num_users on are the randomised ones."""
    users = np.asarray(user_ids, dtype=np.int64)
    night = date.fromisoformat(ds).toordinal()
    logged, randomised = users[users < conf.num_users], users[users >= conf.num_users]
    if len(logged):
        in_truth, in_experiment = samples(conf, seed, logged)
        draw = draw_night(world, seed, night, logged, in_experiment)
        yield _exposures(draw, seed, ds, conf.duplicate_rate)
        yield from _signals(draw, seed, ds)
        yield _uploads(world, draw, seed, ds, tables.UPLOADS)
        yield _withholdings(draw, ds)
        if in_truth.any():
            yield _truth(world, draw_night(world, seed, night, logged[in_truth]), ds)
    if len(randomised):
        draw = draw_night(world, seed, night, randomised, uniform=True)
        yield _touches(draw, draw.shown, tables.RANDOMISED_EXPOSURES.name, ds, ds)
        yield _uploads(world, draw, seed, ds, tables.RANDOMISED_UPLOADS)


def user_records(seed: int, day: str, user_ids: Any) -> pa.RecordBatch:
    """The users snapshot: the same covariates every night."""
    users = np.asarray(user_ids, dtype=np.int64)
    x = hashing.normals(seed, "covariates", 0, users, worlds.NUM_COVARIATES)
    return _batch(tables.USERS.name, day, users, covariates=_lists(x))


def item_table(world: World) -> pa.Table:
    """The items snapshot: clusters' items in order, five consecutive ones by one author."""
    items = np.arange(len(world.item_content_IE))
    columns = {
        "item_id": FIRST_ITEM_ID + items,
        "author_id": FIRST_AUTHOR_ID + items // ITEMS_PER_AUTHOR,
        "cluster": (items // world.items_per_cluster).astype(np.int32),
        "embedding": _lists(world.item_content_IE),
    }
    return pa.table(columns)


def samples(conf: SimulatorConfig, seed: int, user_ids: Any) -> tuple[Bools, Bools]:
    """Which users are in the truth sample, and which in the withholding experiment; nobody is in both."""
    u = hashing.uniforms(seed, "samples", 0, user_ids, 1)[:, 0]
    return u < conf.truth_share, u >= 1 - conf.withholding_share


def _exposures(draw: NightDraw, seed: int, ds: str, duplicate_rate: float) -> pa.RecordBatch:
    """Touches shown, some of them twice: row for row equal, as a log that is delivered at least once has them."""
    u = hashing.uniforms(seed, "duplicates", date.fromisoformat(ds).toordinal(), draw.user_ids, draw.shown.shape[1])
    copies = draw.shown.astype(np.int64) + (draw.shown & (u < duplicate_rate))
    return _touches(draw, copies, tables.EXPOSURES.name, shift(ds, -1), ds)


def _touches(draw: NightDraw, copies_nL: Any, table: str, day: str, ds: str, **columns: Floats) -> pa.RecordBatch:
    """One row a touch and copy, with the touch's entry of each (n, L) column."""
    rows, slots = np.nonzero(copies_nL)
    times = copies_nL[rows, slots].astype(np.int64)
    rows, slots = np.repeat(rows, times), np.repeat(slots, times)
    return _batch(
        table,
        day,
        draw.user_ids[rows],
        item_id=FIRST_ITEM_ID + draw.item[rows, slots],
        event_ts=_microseconds(ds) - draw.age_microseconds[rows, slots],
        **{name: values[rows, slots] for name, values in columns.items()},
    )


def _signals(draw: NightDraw, seed: int, ds: str) -> Iterator[pa.RecordBatch]:
    """Proxies in the lookback window, intents in the 24 h before it: one event each, the count's value in events."""
    cap = int(draw.proxies[:, -1].max(initial=0))
    proxies = np.concatenate([draw.proxies[:, :-1] == 1, np.arange(cap) < draw.proxies[:, -1:]], axis=1)
    names = [*worlds.OUTCOME_PROXIES[:-1], *[worlds.OUTCOME_PROXIES[-1]] * cap]
    yield _events(draw, proxies, names, seed, "proxy_times", ds, days_before=1)
    yield _events(draw, draw.intents == 1, list(worlds.INTENT_PROXIES), seed, "intent_times", ds, days_before=2)


def _events(
    draw: NightDraw, happened_nv: Bools, names: list[str], seed: int, stream: str, ds: str, days_before: int
) -> pa.RecordBatch:
    """Events at times uniform in the day that begins days_before before index_ts."""
    night = date.fromisoformat(ds).toordinal()
    within_nv = (hashing.bits(seed, stream, night, draw.user_ids, len(names)) % np.uint64(DAY)).astype(np.int64)
    rows, events = np.nonzero(happened_nv)
    return _batch(
        tables.SIGNALS.name,
        shift(ds, -days_before),
        draw.user_ids[rows],
        event_ts=_microseconds(ds) - days_before * DAY + within_nv[rows, events],
        signal=np.array(names, dtype=object)[events],
        value=np.ones(len(rows)),
    )


def _uploads(world: World, draw: NightDraw, seed: int, ds: str, table: tables.Table) -> pa.RecordBatch:
    night = date.fromisoformat(ds).toordinal()
    rows = np.nonzero(draw.outcome)[0]
    users = draw.user_ids[rows]
    words = hashing.bits(seed, "uploads", night, users, 2)
    return _batch(
        table.name,
        ds,
        users,
        upload_id=(words[:, 0] >> np.uint64(1)).astype(np.int64),
        event_ts=_microseconds(ds) + (words[:, 1] % np.uint64(DAY)).astype(np.int64),
        embedding=_lists(upload_content(world, draw, seed, night)[rows]),
    )


def upload_content(world: World, draw: NightDraw, seed: int, night: int) -> Floats:
    """(n, E) content an upload of each user would have: its origin's, plus noise.

    The origin is touch k with probability g_k / (S + uninspired), else the user's own taste X[:4] / 2.
    """
    law = world.mechanism
    reach_nL = np.cumsum(draw.stimulus, axis=1)
    total_n = row_sums(draw.stimulus) + law.uninspired
    mark_n = hashing.uniforms(seed, "upload_origin", night, draw.user_ids, 1)[:, 0] * total_n
    origin_n = (reach_nL <= mark_n[:, None]).sum(axis=1)
    inspired = origin_n < draw.item.shape[1]
    item_n = draw.item[np.arange(len(mark_n)), np.minimum(origin_n, draw.item.shape[1] - 1)]
    taste = draw.x[:, : worlds.CONTENT_LENGTH] / 2
    base = np.where(inspired[:, None], world.item_content_IE[np.maximum(item_n, 0)], taste)
    noise = hashing.normals(seed, "upload_content", night, draw.user_ids, worlds.CONTENT_LENGTH)
    return np.asarray(base + law.upload_noise * noise)


def _withholdings(draw: NightDraw, ds: str) -> pa.RecordBatch:
    decided = np.arange(draw.shown.shape[1]) == draw.decided[:, None]
    withheld = np.broadcast_to(draw.withheld[:, None], decided.shape)
    p_withheld = np.full(decided.shape, P_WITHHELD)
    name = tables.WITHHOLDINGS.name
    return _touches(draw, decided, name, shift(ds, -1), ds, withheld=withheld, p_withheld=p_withheld)


def _truth(world: World, draw: NightDraw, ds: str) -> pa.RecordBatch:
    ett, ate_x = truth.exact_effects(world, draw)
    return _touches(draw, draw.shown, tables.TRUTH_ATTRIBUTION.name, ds, ds, ett=ett, ate_x=ate_x)


def shift(ds: str, days: int) -> str:
    return (date.fromisoformat(ds) + timedelta(days=days)).isoformat()


def _microseconds(ds: str) -> int:
    """index_ts since 1970 in UTC."""
    return (date.fromisoformat(ds) - date(1970, 1, 1)).days * DAY


def _lists(values: Floats) -> pa.Array:
    """(n, m) as n lists of m float32."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.float32).ravel()))


def _batch(table: str, day: str, user_ids: Ints, **columns: Any) -> pa.RecordBatch:
    num = len(user_ids)
    given = {"table": [table] * num, "day": [day] * num, "user_id": user_ids, **columns}
    arrays = []
    for field in SCHEMA:
        values = given.get(field.name)
        if values is None:
            arrays.append(pa.nulls(num, field.type))
        else:
            arrays.append(values if isinstance(values, pa.Array) else pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
