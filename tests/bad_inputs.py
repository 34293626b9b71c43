"""Bad inputs, one a line: a small healthy world, what is done to it, and what must then be said or counted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from almmta_spark import tables
from almmta_spark.tables import EXPOSURES, ITEMS, SIGNALS, UPLOADS, USERS, WITHHOLDINGS, Table
from tests.hand_made import DAY_BEFORE, DS, after, before

Rows = Sequence[tuple[Any, ...]]
NAN, INF = float("nan"), float("inf")
TICK = timedelta(microseconds=1)
LONGEST, SHORTEST = 2**63 - 1, -(2**63)
LOOKBACK_HOURS, OUTCOME_HOURS, MAX_TOUCHPOINTS = 20.0, 20.0, 4
"""Shorter than a day, so that a day has rows outside the windows; few touches, so that few are too many."""
DAYS = {EXPOSURES: DAY_BEFORE, SIGNALS: DAY_BEFORE, UPLOADS: DS, ITEMS: DAY_BEFORE, USERS: DAY_BEFORE}
DAYS[WITHHOLDINGS] = DAY_BEFORE
ARROW = {
    "bigint": pa.int64(),
    "int": pa.int32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "array<float>": pa.list_(pa.float32()),
}

HEALTHY: Mapping[Table, Rows] = {
    EXPOSURES: [(user, 10 + (user + n) % 4, before(2 + n)) for user in range(1, 13) for n in range(3)],
    SIGNALS: [(user, "camera", before(1), 1.0) for user in range(1, 13)],
    UPLOADS: [(user, user, after(1), [0.1 * user, 2.0]) for user in range(1, 13, 3)],
    ITEMS: [(item, item // 2, item % 2, [1.0, float(item)]) for item in range(10, 16)],
    USERS: [(user, [float(user), 1.0]) for user in range(1, 13)],
    WITHHOLDINGS: [(user, 14, before(3), user % 2 == 0, 0.5) for user in range(1, 13)],
}


def arrow(table: Table, rows: Rows) -> pa.Table:
    """Rows of a table as a platform would write them; timestamps may also be microseconds since 1970."""
    columns = {c.name: pa.array([row[i] for row in rows], ARROW[c.type]) for i, c in enumerate(table.columns)}
    return pa.table(columns)


def folder_of(warehouse: str | Path, table: Table) -> Path:
    return Path(warehouse) / table.name / f"ds={DAYS[table]}"


def write(warehouse: Path, rows: Mapping[Table, Rows]) -> None:
    """One day of each table, one file."""
    for table, of_table in rows.items():
        folder = folder_of(warehouse, table)
        folder.mkdir(parents=True)
        pq.write_table(arrow(table, of_table), folder / "part.parquet")


# ---- rows: refused by name, or counted ------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadRows:
    """Rows added to the healthy ones; none of them hides another."""

    name: str
    table: Table
    rows: Rows
    becomes: Mapping[str, int]
    """Rows by reason of refusal, or by the account's own parts."""


PARTS = ("used", "deduplicated", "outside_window", "capped", "without_journey")
FAR = datetime(2035, 1, 1, tzinfo=UTC)
BEFORE_1970 = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def _rows(table: Table, *cases: tuple[str, Rows, str | Mapping[str, int]]) -> list[BadRows]:
    return [
        BadRows(name, table, rows, {becomes: len(rows)} if isinstance(becomes, str) else becomes)
        for name, rows, becomes in cases
    ]


def _times(make: Callable[[Any], tuple[Any, ...]]) -> list[tuple[str, Rows, str]]:
    """An event of another day than its folder's. make: the row of a time."""
    wrong = {"a day early": before(30), "ten years ahead": FAR, "before 1970": BEFORE_1970}
    wrong |= {"the last instant there is": LONGEST, "the first instant there is": SHORTEST}
    return [
        ("no time", [make(None)], "null_event_ts"),
        *[(name, [make(ts)], "event_outside_its_day") for name, ts in wrong.items()],
    ]


def _contents(make: Callable[[int, Any], tuple[Any, ...]]) -> list[tuple[str, Rows, str]]:
    """Embeddings that are no content. make: the row of a number and its embedding."""
    wrong: list[tuple[str, Any, str]] = [
        ("a longer embedding", [1.0, 2.0, 3.0], "embedding_length"),
        ("a shorter embedding", [1.0], "embedding_length"),
        ("an empty embedding", [], "embedding_length"),
        ("NaN in an embedding", [1.0, NAN], "embedding_not_finite"),
        ("infinity in an embedding", [INF, 1.0], "embedding_not_finite"),
        ("minus infinity in an embedding", [-INF, 1.0], "embedding_not_finite"),
        ("a null in an embedding", [1.0, None], "embedding_not_finite"),
        ("a huge embedding", [1e7, 1.0], "embedding_norm"),
        ("the largest float in an embedding", [3.4e38, 3.4e38], "embedding_norm"),
        ("an embedding of zeros", [0.0, 0.0], "embedding_constant"),
        ("a constant embedding", [2.5, 2.5], "embedding_constant"),
    ]
    return [(name, [make(900 + n, embedding)], reason) for n, (name, embedding, reason) in enumerate(wrong)]


ROWS: list[BadRows] = [
    *_rows(
        EXPOSURES,
        ("no user", [(None, 10, before(3))], "null_user_id"),
        ("no item", [(1, None, before(3))], "null_item_id"),
        *_times(lambda ts: (1, 10, ts)),
        ("an item nobody knows", [(1, 777, before(3))] * 3, "unknown_item"),
        ("an item whose row is refused", [(1, 900, before(3))], "unknown_item"),
        ("an item with contradictory rows", [(1, 920, before(3))], "unknown_item"),
        ("a user nobody knows", [(777, 10, before(3))], "unknown_user"),
        ("a user whose row is refused", [(900, 10, before(3))], "unknown_user"),
        ("the smallest id", [(SHORTEST, 10, before(3))], "unknown_user"),
        ("one touch three times", [(21, 10, before(3))] * 3, {"used": 1, "deduplicated": 2}),
        ("at the window's first instant", [(21, 10, before(LOOKBACK_HOURS))], "used"),
        ("an instant before it", [(21, 10, before(LOOKBACK_HOURS) - TICK)], "outside_window"),
        ("a negative user", [(-5, 10, before(3))], "used"),
        ("two touches at one instant", [(22, 10, before(4)), (22, 11, before(4))], "used"),
        (
            "more touches than are kept",
            [(23, 10 + n % 4, before(5) + n * TICK) for n in range(10)] + [(23, 10, before(5))],
            {"used": MAX_TOUCHPOINTS, "capped": 7},
        ),
    ),
    *_rows(
        SIGNALS,
        ("no user", [(None, "camera", before(3), 1.0)], "null_user_id"),
        ("no name", [(1, None, before(3), 1.0)], "null_signal"),
        ("a blank name", [(1, "   ", before(3), 1.0), (1, "", before(3), 1.0)], "null_signal"),
        *_times(lambda ts: (1, "camera", ts, 1.0)),
        ("no value", [(1, "camera", before(3), None)], "null_value"),
        ("NaN", [(1, "camera", before(3), NAN)], "non_finite_value"),
        ("infinity", [(1, "camera", before(3), INF)], "non_finite_value"),
        ("minus infinity", [(1, "camera", before(3), -INF)], "non_finite_value"),
        ("a negative value", [(1, "camera", before(3), -1e-9)], "negative_value"),
        ("a huge value", [(1, "camera", before(3), 1.1e9), (1, "camera", before(3), 1e308)], "value_too_large"),
        ("nothing", [(1, "camera", before(3), 0.0), (1, "camera", before(3), 5e-324)], "used"),
        ("a name that conf does not know", [(1, "waved", before(3), 1.0)], "used"),
        ("outside the window", [(1, "camera", before(21), 1.0)], "outside_window"),
        ("of a user nobody knows", [(777, "camera", before(3), 1.0)], "without_journey"),
    ),
    *_rows(
        UPLOADS,
        ("no user", [(None, 890, after(1), None)], "null_user_id"),
        ("no upload", [(1, None, after(1), None)], "null_upload_id"),
        *[
            (name, [(*row[:1], 880 + n, *row[2:])], why)
            for n, (name, (row,), why) in enumerate(_times(lambda ts: (1, 0, ts, None)))
        ],
        *_contents(lambda n, embedding: (1, n, after(1), embedding)),
        ("no content", [(2, 20, after(1), None)], "used"),
        ("one upload twice", [(2, 21, after(1), None)] * 2, {"used": 1, "deduplicated": 1}),
        ("one upload of two users", [(2, 22, after(1), None), (4, 22, after(1), None)], "conflicting_duplicates"),
        ("one upload at two times", [(2, 23, after(1), None), (2, 23, after(2), None)], "conflicting_duplicates"),
        ("after the outcome window", [(2, 24, after(OUTCOME_HOURS), None)], "outside_window"),
        ("its last instant", [(2, 25, after(OUTCOME_HOURS) - TICK, None)], "used"),
        ("of a user nobody knows", [(777, 26, after(1), None)], "without_journey"),
        (
            "more uploads than are kept",
            [(23, 30 + n, after(1) + n * TICK, None) for n in range(6)],
            {"used": MAX_TOUCHPOINTS, "capped": 2},
        ),
    ),
    *_rows(
        ITEMS,
        ("no item", [(None, 5, 1, [1.0, 2.0])], "null_item_id"),
        ("no author", [(930, None, 1, [1.0, 2.0])], "null_author_id"),
        *_contents(lambda n, embedding: (n, 5, 1, embedding)),
        ("neither cluster nor content", [(931, 5, None, None)], "neither_cluster_nor_embedding"),
        ("one item twice", [(40, 5, 1, None)] * 2, {"used": 1, "deduplicated": 1}),
        ("one item in two clusters", [(920, 5, 1, None), (920, 5, 2, None)], "conflicting_duplicates"),
        (
            "one item with a cluster and without",
            [(921, 5, 1, None), (921, 5, None, [1.0, 2.0])],
            "conflicting_duplicates",
        ),
        ("no cluster beside given ones", [(41, 5, None, [1.0, 14.0])], "used"),
        ("a negative cluster", [(42, 5, -7, None)], "used"),
    ),
    *_rows(
        USERS,
        ("no user", [(None, [1.0, 2.0])], "null_user_id"),
        ("no covariates", [(900, None)], "null_covariates"),
        ("empty covariates", [(901, [])], "covariates_length"),
        ("one covariate too many", [(902, [1.0, 2.0, 3.0])], "covariates_length"),
        ("one user twice", [(21, [1.0, NAN])] * 2, {"used": 1, "deduplicated": 1}),
        ("one user with two lives", [(903, [1.0, 2.0]), (903, [2.0, 1.0])], "conflicting_duplicates"),
        ("nothing known", [(22, [NAN, None])], "used"),
        ("infinite covariates", [(23, [INF, -INF])], "used"),
        ("a negative id", [(-5, [1.0, 2.0])], "used"),
        ("nobody's journey", [(24, [1.0, 2.0])], "without_journey"),
    ),
    *_rows(
        WITHHOLDINGS,
        ("no user", [(None, 10, before(3), True, 0.5)], "null_user_id"),
        ("no item", [(1, None, before(3), True, 0.5)], "null_item_id"),
        *_times(lambda ts: (1, 10, ts, True, 0.5)),
        ("no decision", [(1, 10, before(4), None, 0.5)], "null_withheld"),
        *[
            (f"probability {p}", [(1, 10, before(5) + n * TICK, True, p)], "p_withheld_not_in_0_1")
            for n, p in enumerate((0.0, 1.0, -0.1, 2.0, NAN, INF))
        ],
        ("an item nobody knows", [(1, 777, before(3), True, 0.5)], "unknown_item"),
        ("a user nobody knows", [(777, 10, before(3), True, 0.5)], "unknown_user"),
        ("one decision twice", [(1, 11, before(6), True, 0.5)] * 2, {"used": 1, "deduplicated": 1}),
        (
            "one decision both ways",
            [(1, 11, before(7), True, 0.5), (1, 11, before(7), False, 0.5)],
            "conflicting_duplicates",
        ),
        ("outside the window", [(1, 11, before(21), True, 0.5)], "outside_window"),
    ),
]


# ---- tables: refused when a day of them is read ----------------------------------------------------------------------


@dataclass(frozen=True)
class BadTable:
    """A day of a table that is spoilt: whoever reads it is told."""

    name: str
    table: Table
    spoil: Callable[[Path], None]
    """Of the day's folder, which holds a healthy `part.parquet`."""
    says: str
    """A regular expression."""


Change = Callable[[pa.Table], pa.Table]
WRONG: Mapping[str, Sequence[tuple[str, pa.DataType]]] = {
    "bigint": [("string", pa.string()), ("double", pa.float64())],
    "int": [("bigint", pa.int64())],
    "double": [("string", pa.string())],
    "boolean": [("int", pa.int32())],
    "string": [("bigint", pa.int64())],
    "timestamp": [("bigint", pa.int64()), ("timestamp_ntz", pa.timestamp("us")), ("date", pa.date32())],
    "array<float>": [("array<double>", pa.list_(pa.float64())), ("string", pa.string())],
}
"""Types that a writer may take for the right one, by Spark's name."""


def _rewritten(table: Table, change: Change, name: str = "part.parquet") -> Callable[[Path], None]:
    """The healthy day, changed, in a file of that name."""
    return lambda folder: pq.write_table(change(arrow(table, HEALTHY[table])), folder / name)


def _retyped(column: str, wrong: pa.DataType) -> Change:
    def change(day: pa.Table) -> pa.Table:
        made = day.column(column).cast(wrong) if pa.types.is_timestamp(wrong) else pa.nulls(day.num_rows, wrong)
        return day.set_column(day.column_names.index(column), column, made)

    return change


def _without(column: str) -> Change:
    return lambda day: day.drop([column])


def _renamed(column: str) -> Change:
    return lambda day: day.rename_columns([f"{c}_" if c == column else c for c in day.column_names])


def _schemas(table: Table) -> list[BadTable]:
    """Every column missing, renamed, and in each wrong type."""
    cases = []
    for c in table.columns:
        where = rf"^table {table.name}: column {c.name} "
        if not c.optional:
            absent = rf"{where}\({re.escape(c.type)}\) is missing in ds={DAYS[table]}, found .*: write the column$"
            for name, change in (("missing", _without(c.name)), ("renamed", _renamed(c.name))):
                cases.append(BadTable(f"{c.name} {name}", table, _rewritten(table, change), absent))
        for found, wrong in WRONG[c.type]:
            says = rf"{where}must be {c.type}, is {found} in ds={DAYS[table]}: write it with the declared type$"
            spoil = _rewritten(table, _retyped(c.name, wrong))
            cases.append(BadTable(f"{c.name} as {found}", table, spoil, says))
    return cases


def _overwritten(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "part.parquet"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def _broken(table: Table) -> list[BadTable]:
    """Files that are not Parquet, or not whole; one file among others that is of another schema."""
    says = rf"^table {table.name}: ds={DAYS[table]} cannot be read as Parquet.*part\.parquet.*: write the day again$"
    bytes_of: dict[str, Callable[[bytes], bytes]] = {
        "text": lambda _: b"user_id,item_id\n1,2\n",
        "nothing": lambda _: b"",
        "half a file": lambda whole: whole[: len(whole) // 2],
        "a spoilt page": lambda whole: whole[:4] + b"\xff" * 40 + whole[44:],
    }
    cases = [BadTable(name, table, _overwritten(change), says) for name, change in bytes_of.items()]
    cases.append(BadTable("no folder", table, shutil.rmtree, rf"^table {table.name}: needs ds={DAYS[table]} under .*"))
    column = table.columns[-1] if table != WITHHOLDINGS else table.columns[-2]
    is_list = column.type == "array<float>"
    spoil = _rewritten(table, _retyped(column.name, pa.list_(pa.float64()) if is_list else pa.string()), "z.parquet")
    must_be, found = ("float", "DOUBLE") if is_list else (column.type, "BINARY")
    says = rf"^table {table.name}: ds={DAYS[table]}: column {column.name} must be {must_be}, is {found} in the file "
    cases.append(BadTable(f"{column.name} retyped in one file", table, spoil, rf"{says}.*z\.parquet: write the day"))
    if "event_ts" in table.column_names:
        spoil = _rewritten(table, _retyped("event_ts", pa.timestamp("ns", tz="UTC")))
        says = rf"^table {table.name}: ds={DAYS[table]} cannot be read .*Timestamps must be microsecond UTC instants"
        cases.append(BadTable("nanoseconds", table, spoil, says))
    return cases


TABLES: list[BadTable] = [case for table in tables.INPUTS for case in (*_schemas(table), *_broken(table))]


# ---- nights: each row may be well, all of them together are not ------------------------------------------------------


@dataclass(frozen=True)
class BadNight:
    """Rows instead of the healthy ones: a stage refuses the night."""

    name: str
    rows: Mapping[Table, Rows]
    says: str
    """A regular expression."""
    stages: int = 1
    """Up to which the night is run: ingest, build_journeys, fit_propensity, build_pairs, build_examples."""


def _instead(table: Table, *changed: Any) -> Mapping[Table, Rows]:
    """The healthy rows with the columns after the first ones changed."""
    return {table: [(*row[: len(row) - len(changed)], *changed) for row in HEALTHY[table]]}


NIGHTS: list[BadNight] = [
    BadNight(
        "no exposures",
        {EXPOSURES: []},
        r"table exposures: no usable row in the 20 hours before ds=2026-01-15 .*check that the day was written",
    ),
    BadNight(
        "all exposures outside the window",
        {EXPOSURES: [(1, 10, before(21))]},
        r"table exposures: no usable row in the 20 hours .*\(1 rows read, 1 outside the window, 0 rejected\)",
    ),
    BadNight("no users", {USERS: [], WITHHOLDINGS: []}, r"table exposures: .* \(100\.0%\).*unknown_user \(36\)"),
    BadNight("no items", {ITEMS: [], WITHHOLDINGS: []}, r"table exposures: .* \(100\.0%\).*unknown_item \(36\)"),
    BadNight("items without cluster and content", _instead(ITEMS, None, None), r"table items: .*neither_cluster_nor"),
    BadNight(
        "one content for all",
        _instead(ITEMS, None, [1.0, 2.0]),
        r"items\.embedding: 1 distinct contents cannot make propensity\.num_clusters = 40 clusters: give items\.clus",
    ),
    BadNight("constant contents", _instead(ITEMS, None, [2.0, 2.0]), r"table items: .*embedding_constant \(6\)"),
    BadNight("huge contents", _instead(ITEMS, None, [1.0, 3e38]), r"table items: .*embedding_norm \(6\)"),
    BadNight(
        "everybody twice and different",
        {USERS: [*HEALTHY[USERS], *_instead(USERS, [5.0, 5.0])[USERS]]},
        r"table users: .* \(100\.0%\).*conflicting_duplicates \(24\)",
    ),
    BadNight(
        "ids in place of signals' names",
        {SIGNALS: [(1, f"id{n}", before(3), 1.0) for n in range(1001)]},
        r"signals\.signal must have at most 1000 distinct names, has more .*: write the kind of act there",
    ),
    BadNight("one cluster", _instead(ITEMS, 1, None), r"table items: attribution needs at least 2 treatment clust", 3),
    BadNight(
        "nobody uploads", {UPLOADS: []}, r"table journeys: .*with and without an upload, got 0 with one out of", 5
    ),
    BadNight(
        "everybody uploads",
        {UPLOADS: [(user, user, after(1), None) for user in range(1, 13)]},
        r"table journeys: .*with and without an upload, got (\d+) with one out of \1: check that uploads of the",
        5,
    ),
    BadNight("no signals", {SIGNALS: []}, r"table signals: no outcome proxy has an event in the lookback window", 5),
]


# ---- settings --------------------------------------------------------------------------------------------------------


SETTINGS: list[str] = [
    *("jorneys.lookback_hours=3", "journeys.lookback=3", "training.ensemble.fold=3", "signals.camera.role=[x]", "x=1"),
    *("seed=-1", "seed=1.5", "seed=none", "seed=true", "seed=2147483648", "seed=", "seed=[1]", "seed=2026-01-15"),
    *(
        "env=",
        "env=../x",
        "warehouse=",
        "pool_nights=0",
        "pool_nights=367",
        "lateness_nights=-1",
        "lateness_nights=1e9",
    ),
    *("journeys=3", "journeys=", "spark=x", "spark.x=[1]", "signals=[camera]", "signals.camera=", "signals={' ': {}}"),
    *("signals.camera.roles=[]", "signals.camera.roles=[proxy]", "signals.camera.roles=x", "signals.camera.kind=real"),
    *("ingest.max_rejected_rate=1.01", "ingest.max_rejected_rate=.nan", "ingest.max_embedding_norm=0"),
    *("ingest.max_embedding_norm=.inf", "ingest.user_buckets=0", "ingest.broadcast_rows=-1"),
    *("journeys.lookback_hours=0", "journeys.lookback_hours=1e-12", "journeys.lookback_hours=.inf"),
    *("journeys.lookback_hours=8785", "journeys.pre_hours=-24", "journeys.pre_hours=.nan", "journeys.pre_hours='inf'"),
    *("journeys.outcome_window_hours=1e300", "journeys.max_touchpoints=0", "journeys.max_touchpoints=1025"),
    *(
        "propensity.num_clusters=1",
        "propensity.num_folds=1",
        "propensity.num_folds=1000000",
        "propensity.num_buckets=0",
    ),
    *("propensity.l2=-1", "propensity.min_propensity=0.5", "propensity.max_weight=.inf", "propensity.l2=1e300"),
    *("pairs.match_threshold=1.5", "pairs.match_quantile=1", "pairs.match_quantile=x", "pairs.num_hard_negatives=-1"),
    *("examples.validation_share=0", "examples.validation_share=1", "examples.num_row_groups=0"),
    *("model.quadrature_nodes=0", "model.quadrature_nodes=65", "model.hidden=0", "model.item_rows=-1"),
    *("model.modulation_sd=0", "model.sparsity=.inf", "model.adversary_target=all", "model.upload_content=none"),
    *("model.embedding_dim=99999999999", "model.signed=1", "model.contrastive_temperature=0"),
    *("training.variants=[]", "training.variants=[latent, latent]", "training.variants=latent"),
    *("training.variants=[ours]", "training.placebos=[sugar]", "training.num_ranks=0", "training.num_ranks=2000"),
    *("training.epochs=0", "training.epochs=-3", "training.batch_size=0", "training.dense_lr=.inf"),
    *("training.dense_lr=.nan", "training.dense_lr=0", "training.clip_norm=-1", "training.ema_decay=1"),
    *("training.loader=csv", "training.precision=fp8", "training.local_mode=0", "training.ensemble.folds=1"),
    *("training.ensemble.repeats=101", "training.ensemble.agreement=1.1", "training.ensemble.variants=[paper]"),
    *("attribution.half_life_hours=0", "attribution.markov_order=0", "attribution.baselines=[luck]"),
    *("evaluation.interval=1", "evaluation.interval=95", "evaluation.p_withheld=0", "evaluation.clip_sweep=[-1]"),
    *("evaluation.match_sweep=[2]", "evaluation.bootstrap_replicates=-1", "simulator.world=best"),
    *("simulator.world=random:x", "simulator.num_users=0", "simulator.base_rate=1", "simulator.truth_share=.9"),
    *("publishing.keep_nights=-1", "publishing.keep_nights=1e9", "publishing.lease_seconds=0"),
    *("publishing.lease_seconds=1e9", "publishing.wait_minutes=.inf", "tracking.uri=", "tracking.artifacts='{home}'"),
    *("tracking.registered_model=", "tracking.registered_model=a/b", "tracking.registered_model=a:b"),
]
"""Of --set: each is refused by an error that names the key, or the section that it is not in."""

CONF_FILES: Mapping[str, tuple[bytes, str]] = {
    "not YAML": (b"journeys: [1", r"c\.yaml must be YAML in UTF-8, is not: .*line 1.*: correct it there"),
    "a tab": (b"journeys:\n\tpre_hours: 3", r"c\.yaml must be YAML .*line 2"),
    "other bytes": (b"env: \xff\xfe", r"c\.yaml must be YAML in UTF-8"),
    "code": (b"seed: !!python/object/apply:os.getpid []", r"c\.yaml must be YAML .*os\.getpid"),
    "a tag that is not its value's": (b"seed: !!int ''", r"c\.yaml must be YAML"),
    "another": (b"env: !!timestamp now", r"c\.yaml must be YAML"),
    "a key twice": (b"seed: 1\nseed: 2", r"c\.yaml must be YAML .*the key seed stands twice.*line 2"),
    "a nested key twice": (b"journeys:\n  pre_hours: 1\n  pre_hours: 2", r"the key pre_hours stands twice"),
    "a list": (b"- 1", r"c\.yaml must hold a mapping of keys, got list"),
    "a number": (b"3", r"c\.yaml must hold a mapping of keys, got int"),
    "a date that is none": (b"env: 2026-13-45", r"c\.yaml must be YAML"),
    "its own base": (b"extends: c.yaml", r"extends must name another file, none that extends this one, got 'c\.yaml'"),
    "a base that is none": (b"extends: 3", r"extends must name another file, .*got 3 in .*c\.yaml"),
    "a base that is not there": (b"extends: none.yaml", r"no configuration file at .*none\.yaml"),
    "numbers for keys": (b"1: 2", r"unknown config key 1 in .*c\.yaml: known here are attribution, env,"),
}


NUM_CASES = len(ROWS) + len(TABLES) + len(NIGHTS) + len(SETTINGS) + len(CONF_FILES)
