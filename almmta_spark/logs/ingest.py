"""Ingest: every input row validated, counted, and either accepted, refused with a reason, or outside the night."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.logs import clusters, events, rules
from almmta_spark.logs.accounting import Account, account, refuse_too_many_rejections
from almmta_spark.logs.keyed import Keyed
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows
from almmta_spark.tables import EXPOSURES, ITEMS, SIGNALS, UPLOADS, USERS, WITHHOLDINGS

MAX_SIGNAL_NAMES = 1000
"""More distinct signal names than this are ids in the wrong column, not signals."""

Counts = Mapping[str, Sequence[Row]]
"""By table: rows of status, detail, count and, for tables with a key, repeated and conflicting."""


@dataclass(frozen=True)
class Logs:
    """The input tables of a night, as spark_tables.read and read_snapshot give them (event tables with a column ds)."""

    exposures: DataFrame
    signals: DataFrame
    uploads: DataFrame
    items: DataFrame
    users: DataFrame
    withholdings: DataFrame | None = None


@dataclass(frozen=True)
class Ingested:
    """Lazy tables and the facts behind them."""

    events: DataFrame
    item_clusters: DataFrame
    rejected_rows: DataFrame
    summary: IngestSummary


def ingest(logs: Logs, ds: str, conf: Config) -> Ingested:
    """Validates the night's logs; writes nothing. ValueError where the input is unusable, before anything is published.

    Cost: one scan of items, users and uploads for their list lengths, two of the tables with a key and a shuffle of
    their keys (24 bytes a row), one of exposures and signals to count; the frames returned are lazy scans more. Items
    and users up to ingest.broadcast_rows are broadcast to look exposures up in, more are joined by a shuffle. On the
    driver: counts, and the bounded sample of clusters.assign where clusters are not given.
    """
    embedding_length, covariate_length = list_lengths(logs)
    keyed = _keyed(logs, ds, conf, embedding_length, covariate_length)
    counts = _collected(events.union([k.counted() for k in keyed.values()]))
    accounts = {name: _account(counts[name]) for name in keyed}
    refuse_too_many_rejections(accounts, conf.ingest.max_rejected_rate)
    valid = {name: k.resolved(_has_repeats(accounts[name])) for name, k in keyed.items()}

    how = _how_to_cluster(counts[ITEMS.name], conf)
    item_clusters = clusters.assign(valid[ITEMS.name], how, conf.propensity.num_clusters, conf.seed)
    known = events.Known(item_clusters, valid[USERS.name], *_small(accounts, conf.ingest.broadcast_rows))
    looked_up = _look_up(logs, ds, conf, known, valid)
    counts = _count_events(looked_up)
    accounts.update(_event_accounts(counts, accounts))
    refuse_too_many_rejections(accounts, conf.ingest.max_rejected_rate)
    _refuse_empty_day(accounts[EXPOSURES.name], ds, conf)

    signal_rows = {str(row["detail"]): int(row["count"]) for row in counts[SIGNALS.name] if row["status"] == rules.USED}
    summary = IngestSummary(
        accounts={name: a.check(name) for name, a in sorted(accounts.items())},
        embedding_length=embedding_length,
        covariate_length=covariate_length,
        clusters=how,
        signal_rows=dict(sorted(signal_rows.items())),
        unknown_signals=tuple(sorted(set(signal_rows) - set(conf.signals))),
    )
    accepted = events.as_events(looked_up[EXPOSURES.name], looked_up[SIGNALS.name], valid[UPLOADS.name])
    return Ingested(accepted, item_clusters, _rejected(keyed, looked_up, accounts), summary)


def accepted_users(users: DataFrame, summary: IngestSummary) -> DataFrame:
    """The users snapshot as ingest accepted it. Cost: a map; a shuffle by user where the snapshot repeats users."""
    rows = users.withColumn("status", rules.user_status(summary.covariate_length))
    return Keyed(USERS, rows).resolved(_has_repeats(summary.accounts[USERS.name]))


def accepted_withholdings(
    withholdings: DataFrame, item_clusters: DataFrame, users: DataFrame, ds: str, conf: Config, summary: IngestSummary
) -> DataFrame:
    """Decisions inside the lookback as ingest accepted them, with author_id and cluster of their item.

    users: accepted_users. Cost: a scan of withholdings; items and users are looked up as in ingest.
    """
    rows = withholdings.withColumn("status", rules.withholding_status(Windows.of(ds, conf.journeys)))
    valid = Keyed(WITHHOLDINGS, rows).resolved(_has_repeats(summary.accounts[WITHHOLDINGS.name]))
    known = events.Known(item_clusters, users, *_small(summary.accounts, conf.ingest.broadcast_rows))
    found = known.look_up(valid.withColumn("status", F.lit(rules.USED))).where(F.col("status") == rules.USED)
    return found.select(*WITHHOLDINGS.column_names, "author_id", "cluster")


def list_lengths(logs: Logs) -> tuple[int, int]:
    """(embedding length of items and uploads together, covariate length): the most frequent, the shorter of equals.

    0 where there is none. Cost: one scan of three list columns; a handful of groups on the driver.
    """
    parts = ((logs.items, "embedding"), (logs.uploads, "embedding"), (logs.users, "covariates"))
    sizes = [df.select(F.lit(c).alias("list"), F.size(c).alias("n")).where(F.col("n") > 0) for df, c in parts]
    counted = events.union(sizes).groupBy("list", "n").count().collect()
    best = {row["list"]: int(row["n"]) for row in sorted(counted, key=lambda row: (row["count"], -row["n"]))}
    return best.get("embedding", 0), best.get("covariates", 0)


def _keyed(logs: Logs, ds: str, conf: Config, embedding_length: int, covariate_length: int) -> dict[str, Keyed]:
    """Tables with a key, each row with its status."""
    windows, max_norm = Windows.of(ds, conf.journeys), conf.ingest.max_embedding_norm
    parts = [
        (ITEMS, logs.items, rules.item_status(embedding_length, max_norm)),
        (USERS, logs.users, rules.user_status(covariate_length)),
        (UPLOADS, logs.uploads, rules.upload_status(windows, embedding_length, max_norm)),
    ]
    if logs.withholdings is not None:
        parts.append((WITHHOLDINGS, logs.withholdings, rules.withholding_status(windows)))
    return {table.name: Keyed(table, df.withColumn("status", status)) for table, df, status in parts}


def _look_up(
    logs: Logs, ds: str, conf: Config, known: events.Known, valid: Mapping[str, DataFrame]
) -> dict[str, DataFrame]:
    """Rows of the tables without a snapshot of their own, each with its final status."""
    windows = Windows.of(ds, conf.journeys)
    exposures = logs.exposures.withColumn("status", rules.exposure_status(windows))
    found = {
        EXPOSURES.name: known.look_up(exposures),
        SIGNALS.name: logs.signals.withColumn("status", rules.signal_status(windows, conf.signals)),
    }
    if WITHHOLDINGS.name in valid:
        found[WITHHOLDINGS.name] = known.look_up(valid[WITHHOLDINGS.name].withColumn("status", F.lit(rules.USED)))
    return found


def _count_events(looked_up: Mapping[str, DataFrame]) -> Counts:
    """Counts, accepted signals by name. ValueError: names without end."""
    used = F.col("status") == rules.USED
    details = {SIGNALS.name: F.when(used, F.col("signal"))}
    frames = [events.counted(df, name, details.get(name)) for name, df in looked_up.items()]
    rows = events.union(frames).orderBy(F.col("detail").asc_nulls_first()).limit(2 * MAX_SIGNAL_NAMES)
    counts = _collected(rows)
    names = {row["detail"] for row in counts[SIGNALS.name]} - {None}
    if len(names) > MAX_SIGNAL_NAMES:
        raise ValueError(
            f"signals.signal must have at most {MAX_SIGNAL_NAMES} distinct names, has more ({sorted(names)[0]!r}, "
            f"{sorted(names)[1]!r}, ...): write the kind of act there, not an id"
        )
    return counts


def _collected(rows: DataFrame) -> Counts:
    counts: dict[str, list[Row]] = defaultdict(list)
    for row in rows.collect():
        counts[row["source"]].append(row)
    return counts


def _account(counts: Sequence[Row]) -> Account:
    """Details summed; repeated and conflicting rows are told apart where the table has a key."""
    statuses: dict[str, int] = defaultdict(int)
    repeated = conflicting = 0
    for row in counts:
        statuses[row["status"]] += int(row["count"])
        if "repeated" in row:
            repeated, conflicting = repeated + int(row["repeated"]), conflicting + int(row["conflicting"])
    return account(statuses, repeated, conflicting)


def _event_accounts(counts: Counts, keyed: Mapping[str, Account]) -> dict[str, Account]:
    """Accounts of exposures and signals; that of withholdings with what the look-up refused."""
    found = {name: _account(counts[name]) for name in (EXPOSURES.name, SIGNALS.name)}
    if WITHHOLDINGS.name in keyed:
        before, after = keyed[WITHHOLDINGS.name], _account(counts[WITHHOLDINGS.name])
        assert after.rows_in == before.used, "withholdings changed between two looks"
        rejected = {**before.rejected, **after.rejected}
        found[WITHHOLDINGS.name] = replace(before, used=after.used, rejected=rejected)
    return found


def _has_repeats(counts: Account) -> bool:
    return bool(counts.deduplicated or counts.rejected.get(events.CONFLICTING))


def _small(accounts: Mapping[str, Account], broadcast_rows: int) -> tuple[bool, bool]:
    """Whether items and users are few enough to broadcast."""
    return accounts[ITEMS.name].used <= broadcast_rows, accounts[USERS.name].used <= broadcast_rows


def _how_to_cluster(item_counts: Sequence[Row], conf: Config) -> str:
    used = {row["detail"]: int(row["count"]) for row in item_counts if row["status"] == rules.USED}
    without, given = used.get("no_cluster", 0), used.get(None, 0)
    how = clusters.GIVEN if not without else clusters.NEAREST if given else clusters.FITTED
    if how == clusters.FITTED and conf.pool_nights > 1:
        raise ValueError(
            f"pool_nights = {conf.pool_nights} pools journeys whose clusters must mean the same every night, but "
            "items.cluster is null throughout and would be fitted anew each night: write items.cluster, or set "
            "pool_nights to 1"
        )
    return how


def _refuse_empty_day(exposures: Account, ds: str, conf: Config) -> None:
    if not exposures.used:
        raise ValueError(
            f"table exposures: no usable row in the {conf.journeys.lookback_hours:g} hours before ds={ds} 00:00 UTC "
            f"({exposures.rows_in} rows read, {exposures.outside_window} outside the window, {exposures.num_rejected} "
            "rejected): check that the day was written, or run a night that has logs"
        )


def _rejected(
    keyed: Mapping[str, Keyed], looked_up: Mapping[str, DataFrame], accounts: Mapping[str, Account]
) -> DataFrame:
    """rejected_rows of all tables; tables without rejections are not scanned again."""
    frames = []
    for name, counts in sorted(accounts.items()):
        if not counts.rejected:
            continue
        table = tables.BY_NAME[name]
        if name in keyed:
            frames.append(events.rejected(keyed[name].rows, table))
        if name in looked_up:
            frames.append(events.rejected(looked_up[name], table))
        if counts.rejected.get(events.CONFLICTING):
            frames.append(events.rejected_conflicts(keyed[name].conflicts(), table))
    some = next(iter(looked_up.values()))
    return events.union(frames) if frames else events.no_rejections(some)
