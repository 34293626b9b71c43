"""Validates the night's input rows: exposures and signals to `event_days`, where earlier nights have not done it yet;
uploads to `accepted_uploads`; refused rows of all tables, with their reason, to `rejected_rows`."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame

from almmta_spark import arrivals, event_days, runner, spark_tables, tables
from almmta_spark.logs.ingest import Logs, accepted_users, accepted_withholdings, ingest
from almmta_spark.logs.summary import IngestSummary


def run(night: runner.Night) -> None:
    """The input tables of the night's windows -> event_days, accepted_uploads, item_clusters, rejected_rows."""
    refuse_simulated_pseudonyms(night)
    first_read = arrivals.first_read(night.spark, night.place.conf, night.ds)
    hours = night.conf.journeys
    has_experiment = night.has_input(tables.WITHHOLDINGS, night.ds, hours.lookback_hours)
    versions = event_days.written(night.spark, night.conf, night.ds, days_of(night))
    logs = Logs(
        days=event_days.read(night.spark, night.conf, versions),
        counted=event_days.counted(versions),
        uploads=night.read(tables.UPLOADS, hours_ahead=hours.outcome_window_hours),
        items=night.read_snapshot(tables.ITEMS, night.ds),
        users=night.read_snapshot(tables.USERS, users_not_after(night)),
        withholdings=night.read(tables.WITHHOLDINGS, hours_back=hours.lookback_hours) if has_experiment else None,
    )
    ingested = ingest(logs, night.ds, night.conf)
    summary = replace(ingested.summary, event_days=event_days.fingerprints(versions)).to_dict()
    rows = {name: {k: a[k] for k in ("rows_in", "rejected")} for name, a in summary["accounts"].items()}
    night.note(rows=rows, signals=summary["signal_rows"], clusters=summary["clusters"])
    days = {name: read["days"] for name, read in night.inputs.items()}
    night.note(late=arrivals.late_rows(night.spark, night.place.conf, days, first_read))
    if summary["unknown_signals"]:
        night.note(unknown_signals=", ".join(summary["unknown_signals"]) + " (not in conf: taken as outcome proxies)")
    night.write(ingested.item_clusters, tables.ITEM_CLUSTERS)
    night.write(ingested.rejected_rows, tables.REJECTED_ROWS)
    night.write(ingested.uploads, tables.ACCEPTED_UPLOADS, meta=summary)
    ingested.item_clusters.unpersist()


def refuse_simulated_pseudonyms(night: runner.Night) -> None:
    """ValueError where the night has truth that could not be joined: better now than when it is evaluated."""
    if not night.conf.ingest.pseudonym_key:
        return
    simulated = [t.name for t in tables.SIMULATED if "user_id" in t.column_names and night.has_input(t, night.ds)]
    if simulated:
        raise ValueError(
            f"table {simulated[0]}: ds={night.ds} is simulated, and its users are nobody's: run it without "
            "ingest.pseudonym_key"
        )


def days_of(night: runner.Night) -> event_days.Days:
    """Days of exposures and of signals that the night's windows overlap."""
    hours = night.conf.journeys
    has_intents = any("intent_proxy" in s.roles for s in night.conf.signals.values())
    signal_hours = hours.lookback_hours + (hours.pre_hours if has_intents else 0.0)
    wanted = ((tables.EXPOSURES, hours.lookback_hours), (tables.SIGNALS, signal_hours))
    return {table.name: night.days(table, hours_back) for table, hours_back in wanted}


def days_as_ingested(night: runner.Night) -> DataFrame:
    """`event_days` of the night as ingest found them. ValueError where one is not to be had any more."""
    wanted = IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS)).event_days
    versions = event_days.with_fingerprints(night.spark, night.conf, night.ds, wanted)
    return event_days.read(night.spark, night.conf, versions)


def users_not_after(night: runner.Night) -> str:
    """The first day of the lookback window: a covariate measured after exposure is no covariate."""
    return spark_tables.days_between(night.ds, night.conf.journeys.lookback_hours, 0.0)[0]


def accepted_decisions(night: runner.Night) -> DataFrame | None:
    """The night's withholdings as ingest accepted them, with their item's cluster; None where ingest saw none."""
    ingested = IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS))
    if tables.WITHHOLDINGS.name not in ingested.accounts:
        return None
    users = accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested)
    raw = night.read(tables.WITHHOLDINGS, hours_back=night.conf.journeys.lookback_hours)
    return accepted_withholdings(raw, night.read(tables.ITEM_CLUSTERS), users, night.ds, night.conf, ingested)


if __name__ == "__main__":
    runner.main("ingest", run, __doc__)
