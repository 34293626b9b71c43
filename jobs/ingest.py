"""Validates the night's input rows: accepted ones to `events`, refused ones with their reason to `rejected_rows`."""

from __future__ import annotations

from pyspark.sql import DataFrame

from almmta_spark import arrivals, runner, spark_tables, tables
from almmta_spark.logs.ingest import Logs, accepted_users, accepted_withholdings, ingest
from almmta_spark.logs.summary import IngestSummary


def run(night: runner.Night) -> None:
    """The input tables of the night's windows -> events, item_clusters, rejected_rows."""
    first_read = arrivals.first_read(night.spark, night.place.conf, night.ds)
    hours = night.conf.journeys
    has_intents = any("intent_proxy" in s.roles for s in night.conf.signals.values())
    signal_hours = hours.lookback_hours + (hours.pre_hours if has_intents else 0.0)
    has_experiment = night.has_input(tables.WITHHOLDINGS, night.ds, hours.lookback_hours)
    logs = Logs(
        exposures=night.read(tables.EXPOSURES, hours_back=hours.lookback_hours),
        signals=night.read(tables.SIGNALS, hours_back=signal_hours),
        uploads=night.read(tables.UPLOADS, hours_ahead=hours.outcome_window_hours),
        items=night.read_snapshot(tables.ITEMS, night.ds),
        users=night.read_snapshot(tables.USERS, users_not_after(night)),
        withholdings=night.read(tables.WITHHOLDINGS, hours_back=hours.lookback_hours) if has_experiment else None,
    )
    ingested = ingest(logs, night.ds, night.conf)
    summary = ingested.summary.to_dict()
    rows = {name: {k: a[k] for k in ("rows_in", "rejected")} for name, a in summary["accounts"].items()}
    night.note(rows=rows, signals=summary["signal_rows"], clusters=summary["clusters"])
    days = {name: read["days"] for name, read in night.inputs.items()}
    night.note(late=arrivals.late_rows(night.spark, night.place.conf, days, first_read))
    if summary["unknown_signals"]:
        night.note(unknown_signals=", ".join(summary["unknown_signals"]) + " (not in conf: taken as outcome proxies)")
    night.write(ingested.item_clusters, tables.ITEM_CLUSTERS)
    night.write(ingested.rejected_rows, tables.REJECTED_ROWS)
    night.write(ingested.events, tables.EVENTS, meta=summary)
    ingested.item_clusters.unpersist()


def users_not_after(night: runner.Night) -> str:
    """The first day of the lookback window: a covariate measured after exposure is no covariate."""
    return spark_tables.days_between(night.ds, night.conf.journeys.lookback_hours, 0.0)[0]


def accepted_decisions(night: runner.Night) -> DataFrame | None:
    """The night's withholdings as ingest accepted them, with their item's cluster; None where ingest saw none."""
    ingested = IngestSummary.from_dict(night.meta(tables.EVENTS))
    if tables.WITHHOLDINGS.name not in ingested.accounts:
        return None
    users = accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested)
    raw = night.read(tables.WITHHOLDINGS, hours_back=night.conf.journeys.lookback_hours)
    return accepted_withholdings(raw, night.read(tables.ITEM_CLUSTERS), users, night.ds, night.conf, ingested)


if __name__ == "__main__":
    runner.main("ingest", run, __doc__)
