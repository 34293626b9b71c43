"""Events to journeys, in one shuffle by user; every input row is accounted for."""

from __future__ import annotations

from almmta_spark import runner, tables
from almmta_spark.journeys.build import build_journeys
from almmta_spark.logs.ingest import accepted_users
from almmta_spark.logs.summary import IngestSummary
from jobs.ingest import users_not_after


def run(night: runner.Night) -> None:
    """events, users -> journeys; notes the account of every input row."""
    events = night.read(tables.EVENTS)
    ingested = IngestSummary.from_dict(night.meta(tables.EVENTS))
    users = accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested)
    journeys = build_journeys(events, users, night.ds, night.conf.journeys)
    night.write(journeys.table, tables.JOURNEYS, check=lambda: journeys.accounts(ingested))
    accounting = {name: account.to_dict() for name, account in journeys.accounts(ingested).items()}
    reasons = {name: account.pop("reasons") for name, account in accounting.items()}
    night.note(accounting=accounting, rejection_reasons={name: r for name, r in reasons.items() if r})


if __name__ == "__main__":
    runner.main("build_journeys", run, __doc__)
