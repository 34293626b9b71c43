"""Ingest: every input row validated, counted, and either accepted, refused with a reason, or outside the night.

Exposures and signals come as days by user (days.py), whose rows were validated when the day was written; what is left
for a night is to say which lie in its windows, and which name an item or a user that its snapshots do not know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.logs import clusters, days, events, rules
from almmta_spark.logs.accounting import Account, account, refuse_too_many_rejections
from almmta_spark.logs.days import Counted
from almmta_spark.logs.keyed import Keyed
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.logs.windows import Windows
from almmta_spark.tables import EXPOSURES, ITEMS, SIGNALS, UPLOADS, USERS, WITHHOLDINGS

Counts = Mapping[str, Sequence[Row]]
"""By table: rows of status, detail, count and, for tables with a key, repeated and conflicting."""


@dataclass(frozen=True)
class Logs:
    """The input of a night: days by user, the other tables as spark_tables.read and read_snapshot give them (those of
    events with a column ds)."""

    days: DataFrame
    """`event_days` of the days that the windows of exposures and signals overlap."""
    counted: Sequence[Counted]
    """Input rows behind them."""
    uploads: DataFrame
    items: DataFrame
    users: DataFrame
    withholdings: DataFrame | None = None


@dataclass(frozen=True)
class Ingested:
    """Lazy tables and the facts behind them."""

    uploads: DataFrame
    """`accepted_uploads`."""
    item_clusters: DataFrame
    rejected_rows: DataFrame
    summary: IngestSummary


def ingest(logs: Logs, ds: str, conf: Config) -> Ingested:
    """Validates the night's logs; writes nothing. ValueError where the input is unusable, before anything is published.

    Cost: one scan of items, users and uploads for their list lengths, two of the tables with a key and a shuffle of
    their keys (24 bytes a row), one of the touches' ids in days; the frames returned are lazy scans more. Items and
    users up to ingest.broadcast_rows are broadcast to look touches up in, more are joined by a shuffle. On the driver:
    counts, and the bounded sample of clusters.assign where clusters are not given.
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
    counts = _collected(events.union([_counted(df, name) for name, df in looked_up.items()]))
    windows = Windows.of(ds, conf.journeys)
    accounts[EXPOSURES.name] = _exposures_account(logs.counted, windows, counts[EXPOSURES.name])
    accounts[SIGNALS.name], signal_rows = _signals_account(logs.counted, windows, conf)
    if WITHHOLDINGS.name in keyed:
        accounts[WITHHOLDINGS.name] = _withholdings_account(accounts[WITHHOLDINGS.name], counts[WITHHOLDINGS.name])
    refuse_too_many_rejections(accounts, conf.ingest.max_rejected_rate)
    _refuse_empty_day(accounts[EXPOSURES.name], ds, conf)

    summary = IngestSummary(
        accounts={name: a.check(name) for name, a in sorted(accounts.items())},
        embedding_length=embedding_length,
        covariate_length=covariate_length,
        clusters=how,
        signal_rows=dict(sorted(signal_rows.items())),
        unknown_signals=tuple(sorted(set(signal_rows) - set(conf.signals))),
        broadcast_items=known.broadcast_items,
    )
    refused = _rejected(logs, keyed, looked_up, accounts)
    return Ingested(valid[UPLOADS.name], item_clusters, refused, summary)


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
    """Rows that name an item and a user, each with its final status and how many copies there are of it."""
    touches = days.touches(logs.days, Windows.of(ds, conf.journeys))
    found = {EXPOSURES.name: known.look_up(touches.withColumn("status", F.lit(rules.USED)))}
    if WITHHOLDINGS.name in valid:
        decided = valid[WITHHOLDINGS.name].withColumns({"status": F.lit(rules.USED), "copies": F.lit(1)})
        found[WITHHOLDINGS.name] = known.look_up(decided)
    return found


def _counted(rows: DataFrame, source: str) -> DataFrame:
    """source, status, count. Cost: one aggregation; three groups."""
    groups = rows.groupBy("status").agg(F.sum("copies").alias("count"))
    return groups.select(F.lit(source).alias("source"), "status", "count")


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


def _exposures_account(counted: Sequence[Counted], windows: Windows, looked_up: Sequence[Row]) -> Account:
    """Touches beyond a day's MOST_TOUCHPOINTS are capped, whatever they name."""
    own = [c for c in counted if c.source == EXPOSURES.name]
    inside = [c for c in own if c.reason is None and windows.has_lookback(c.part)]
    found = _account(looked_up)
    assert found.rows_in == sum(c.kept for c in inside), f"exposures: {found.rows_in} looked up of {inside}"
    return replace(
        found,
        rows_in=sum(c.rows for c in own),
        rejected={**_refused(own), **found.rejected},
        outside_window=sum(c.rows for c in own if c.reason is None and not windows.has_lookback(c.part)),
        capped=sum(c.rows - c.kept for c in inside),
    )


def _signals_account(counted: Sequence[Counted], windows: Windows, conf: Config) -> tuple[Account, dict[str, int]]:
    """The account, and accepted rows by name: those that a window of one of their name's roles holds."""
    own = [c for c in counted if c.source == SIGNALS.name]
    used: dict[str, int] = defaultdict(int)
    for c in own:
        roles = rules.roles(conf.signals, c.signal)
        if c.reason is None and (
            (windows.has_lookback(c.part) and "outcome_proxy" in roles)
            or (windows.has_pre(c.part) and "intent_proxy" in roles)
        ):
            used[str(c.signal)] += c.rows
    refused, rows_in = _refused(own), sum(c.rows for c in own)
    inside = sum(used.values())
    outside = rows_in - inside - sum(refused.values())
    days.refuse_names_without_end(set(used))
    return Account(rows_in, inside, refused, outside_window=outside), dict(used)


def _refused(counted: Sequence[Counted]) -> dict[str, int]:
    """Rows by the rule of their own that they break."""
    reasons: dict[str, int] = defaultdict(int)
    for c in counted:
        if c.reason is not None:
            reasons[c.reason] += c.rows
    return dict(reasons)


def _withholdings_account(before: Account, looked_up: Sequence[Row]) -> Account:
    """With what the look-up refused."""
    after = _account(looked_up)
    assert after.rows_in == before.used, "withholdings changed between two looks"
    return replace(before, used=after.used, rejected={**before.rejected, **after.rejected})


def _has_repeats(counts: Account) -> bool:
    return bool(counts.deduplicated or counts.rejected.get(events.CONFLICTING))


def _small(accounts: Mapping[str, Account], broadcast_rows: int) -> tuple[bool, bool]:
    """Whether items and users are few enough to broadcast."""
    return accounts[ITEMS.name].used <= broadcast_rows, accounts[USERS.name].used <= broadcast_rows


def _how_to_cluster(item_counts: Sequence[Row], conf: Config) -> str:
    used = {row["detail"]: int(row["count"] - row["conflicting"]) for row in item_counts if row["status"] == rules.USED}
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
    logs: Logs, keyed: Mapping[str, Keyed], looked_up: Mapping[str, DataFrame], accounts: Mapping[str, Account]
) -> DataFrame:
    """rejected_rows of all tables; tables without rejections are not scanned again."""
    frames = [days.refused(logs.days)] if any(c.reason for c in logs.counted) else []
    for name, counts in sorted(accounts.items()):
        if not counts.rejected:
            continue
        table = tables.BY_NAME[name]
        if name in keyed:
            frames.append(events.rejected(keyed[name].rows, table))
        if name in looked_up and set(counts.rejected) & set(events.UNKNOWN):
            rows = looked_up[name].where(F.col("status") != rules.USED)
            frames.append(events.rejected(rows.withColumn("copy", days.times(F.col("copies"))), table))
        if counts.rejected.get(events.CONFLICTING):
            frames.append(events.rejected_conflicts(keyed[name].conflicts(), table))
    return events.union(frames) if frames else events.no_rejections(logs.days)
