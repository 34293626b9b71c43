"""A night's draw as rows of the input tables: numpy in, Arrow record batches out, no Spark.

Every table draws its users anew: a draw costs 6 microseconds a user and night, less than keeping it would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import hashing, truth
from almmta_spark.simulator.draws import Bools, NightDraw, covariates, draw_night, upload_content
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.signals import COUNT_CAP, SignalLaw
from almmta_spark.simulator.world import World

# n users, L slots, v events a user can have

DAY = 86_400_000_000
"""Microseconds."""
FIRST_ITEM_ID = 10_000
FIRST_AUTHOR_ID = 100
ITEMS_PER_AUTHOR = 5
P_WITHHELD = 0.5

Columns = dict[str, Any]

FIELD_TYPES: Mapping[str, pa.DataType] = {
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
    "p_outcome": pa.float64(),
    "outcome": pa.int32(),
}


@dataclass(frozen=True)
class Night:
    """What the rows of one night depend on besides the users."""

    world: World
    conf: SimulatorConfig
    seed: int
    ds: str

    @property
    def number(self) -> int:
        return date.fromisoformat(self.ds).toordinal()

    @property
    def index_microseconds(self) -> int:
        """index_ts since 1970 in UTC."""
        return (date.fromisoformat(self.ds) - date(1970, 1, 1)).days * DAY

    def draw(self, users: Ints, experiment: Any = None, uniform: bool = False) -> NightDraw:
        """Everything that happens to these users in the night."""
        return draw_night(self.world, self.seed, self.number, users, experiment, uniform)


@dataclass(frozen=True)
class Source:
    """How a table comes about: whose nights it logs, and what a night writes into which day."""

    draw: Callable[[Night, Ints], NightDraw]
    writers: tuple[tuple[int, Callable[[Night, NightDraw], Columns]], ...]
    """(days before the night, columns of the rows written there)."""

    def days(self, nights: Sequence[str]) -> list[str]:
        """Days that these nights have input on."""
        return sorted({shift(ds, -back) for ds in nights for back, _ in self.writers})


def schema(table: tables.Table) -> pa.Schema:
    """The table's Arrow schema; a touch_id, which is Spark's hash, stands as the columns that it is hashed from."""
    names = [n for c in table.column_names for n in (("item_id", "event_ts") if c == "touch_id" else (c,))]
    return pa.schema([(name, FIELD_TYPES[name]) for name in names])


def table_records(
    world: World,
    conf: SimulatorConfig,
    seed: int,
    nights: Sequence[str],
    table: tables.Table,
    day: str,
    user_ids: Any,
) -> Iterator[pa.RecordBatch]:
    """The users' rows in one day of a table that has a source. Users from num_users on are the randomised ones."""
    source, users = SOURCES[table.name], np.asarray(user_ids, dtype=np.int64)
    for back, write in source.writers:
        night = Night(world, conf, seed, shift(day, back))
        if night.ds in nights:
            yield _batch(schema(table), write(night, source.draw(night, users)))


def user_records(world: World, seed: int, user_ids: Any) -> Iterator[pa.RecordBatch]:
    """The users snapshot: the same covariates every night."""
    users = np.asarray(user_ids, dtype=np.int64)
    yield _batch(schema(tables.USERS), {"user_id": users, "covariates": _lists(covariates(world, seed, users))})


def item_table(world: World) -> pa.Table:
    """The items snapshot: clusters' items in order, five consecutive ones by one author."""
    items = np.arange(len(world.item_content_IE))
    columns = {
        "item_id": FIRST_ITEM_ID + items,
        "author_id": FIRST_AUTHOR_ID + items // ITEMS_PER_AUTHOR,
        "cluster": world.item_cluster_I.astype(np.int32),
        "embedding": _lists(world.item_content_IE),
    }
    return pa.table(columns)


def samples(conf: SimulatorConfig, seed: int, user_ids: Any) -> tuple[Bools, Bools]:
    """Which users are in the truth sample, and which in the withholding experiment; nobody is in both."""
    u = hashing.uniforms(seed, "samples", 0, user_ids, 1)[:, 0]
    return u < conf.truth_share, u >= 1 - conf.withholding_share


def _logged(night: Night, users: Ints) -> NightDraw:
    users = users[users < night.conf.num_users]
    return night.draw(users, experiment=samples(night.conf, night.seed, users)[1])


def _in_truth(night: Night, users: Ints) -> NightDraw:
    users = users[users < night.conf.num_users]
    return night.draw(users[samples(night.conf, night.seed, users)[0]])


def _randomised(night: Night, users: Ints) -> NightDraw:
    return night.draw(users[users >= night.conf.num_users], uniform=True)


def _exposures(night: Night, draw: NightDraw) -> Columns:
    """Touches shown, some of them twice: row for row equal, as a log that is delivered at least once has them."""
    u = hashing.uniforms(night.seed, "duplicates", night.number, draw.user_ids, draw.shown.shape[1])
    return _touches(night, draw, draw.shown.astype(np.int64) + (draw.shown & (u < night.conf.duplicate_rate)))


def _randomised_exposures(night: Night, draw: NightDraw) -> Columns:
    return _touches(night, draw, draw.shown)


def _withholdings(night: Night, draw: NightDraw) -> Columns:
    decided = np.arange(draw.shown.shape[1]) == draw.decided[:, None]
    withheld = np.broadcast_to(draw.withheld[:, None], decided.shape)
    return _touches(night, draw, decided, withheld=withheld, p_withheld=np.full(decided.shape, P_WITHHELD))


def _truth(night: Night, draw: NightDraw) -> Columns:
    ett, ate_x = truth.exact_effects(night.world, draw)
    return _touches(night, draw, draw.shown, ett=ett, ate_x=ate_x)


def _truth_randomised(night: Night, draw: NightDraw) -> Columns:
    rows = draw.shown.any(axis=1)
    p_outcome = truth.interventional(night.world, draw)
    return {"user_id": draw.user_ids[rows], "p_outcome": p_outcome[rows], "outcome": draw.outcome[rows]}


def _touches(night: Night, draw: NightDraw, copies_nL: Any, **of_touch: Any) -> Columns:
    """One row a touch and copy, with the touch's entry of each further (n, L) column."""
    rows, slots = np.nonzero(copies_nL)
    times = copies_nL[rows, slots].astype(np.int64)
    rows, slots = np.repeat(rows, times), np.repeat(slots, times)
    return {
        "user_id": draw.user_ids[rows],
        "item_id": FIRST_ITEM_ID + draw.item[rows, slots],
        "event_ts": night.index_microseconds - draw.age_microseconds[rows, slots],
        **{name: values[rows, slots] for name, values in of_touch.items()},
    }


def _proxies(night: Night, draw: NightDraw) -> Columns:
    """Y' in the lookback window."""
    return _signals(night, draw, night.world.mechanism.proxies, draw.proxies, "proxy_times", days_before=1)


def _intents(night: Night, draw: NightDraw) -> Columns:
    """Z in the 24 h before the lookback window."""
    return _signals(night, draw, night.world.mechanism.intents, draw.intents, "intent_times", days_before=2)


def _signals(
    night: Night, draw: NightDraw, laws: Sequence[SignalLaw], values_nj: Ints, stream: str, days_before: int
) -> Columns:
    """One event for each binary signal, as many as the value says for a count."""
    most_j = [COUNT_CAP if law.kind == "count" else 1 for law in laws]
    happened = [np.arange(most) < value[:, None] for most, value in zip(most_j, values_nj.T, strict=True)]
    names = [law.name for law, most in zip(laws, most_j, strict=True) for _ in range(most)]
    return _events(night, draw, np.concatenate(happened, axis=1), names, stream, days_before)


def _events(
    night: Night, draw: NightDraw, happened_nv: Bools, names: list[str], stream: str, days_before: int
) -> Columns:
    """Events at times uniform in the day that begins days_before before index_ts."""
    words_nv = hashing.bits(night.seed, stream, night.number, draw.user_ids, len(names))
    rows, events = np.nonzero(happened_nv)
    within = (words_nv[rows, events] % np.uint64(DAY)).astype(np.int64)
    return {
        "user_id": draw.user_ids[rows],
        "signal": np.array(names, dtype=object)[events],
        "event_ts": night.index_microseconds - days_before * DAY + within,
        "value": np.ones(len(rows)),
    }


def _uploads(night: Night, draw: NightDraw) -> Columns:
    rows = np.nonzero(draw.outcome)[0]
    words = hashing.bits(night.seed, "uploads", night.number, draw.user_ids[rows], 2)
    return {
        "user_id": draw.user_ids[rows],
        "upload_id": (words[:, 0] >> np.uint64(1)).astype(np.int64),
        "event_ts": night.index_microseconds + (words[:, 1] % np.uint64(DAY)).astype(np.int64),
        "embedding": _lists(upload_content(night.world, draw, night.seed, night.number)[rows]),
    }


def shift(ds: str, days: int) -> str:
    """The date so many days later, or earlier below 0."""
    return (date.fromisoformat(ds) + timedelta(days=days)).isoformat()


def _lists(values: Floats) -> pa.Array:
    """(n, m) as n lists of m float32."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.astype(np.float32).ravel()))


def _batch(form: pa.Schema, columns: Columns) -> pa.RecordBatch:
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, form.field(n).type) for n, v in columns.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns)).select(form.names)


SOURCES: Mapping[str, Source] = {
    tables.EXPOSURES.name: Source(_logged, ((1, _exposures),)),
    tables.SIGNALS.name: Source(_logged, ((1, _proxies), (2, _intents))),
    tables.UPLOADS.name: Source(_logged, ((0, _uploads),)),
    tables.WITHHOLDINGS.name: Source(_logged, ((1, _withholdings),)),
    tables.TRUTH_ATTRIBUTION.name: Source(_in_truth, ((0, _truth),)),
    tables.RANDOMISED_EXPOSURES.name: Source(_randomised, ((0, _randomised_exposures),)),
    tables.RANDOMISED_UPLOADS.name: Source(_randomised, ((0, _uploads),)),
    tables.TRUTH_RANDOMISED.name: Source(_randomised, ((0, _truth_randomised),)),
}
