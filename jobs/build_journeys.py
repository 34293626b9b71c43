"""Days by user to journeys; every input row is accounted for."""

from __future__ import annotations

from almmta_spark import runner, tables
from almmta_spark.journeys.build import build_journeys
from almmta_spark.logs.ingest import accepted_users
from almmta_spark.logs.summary import IngestSummary
from jobs.ingest import days_as_ingested, users_not_after


def run(night: runner.Night) -> None:
    """event_days, accepted_uploads, item_clusters, users -> journeys; notes the account of every input row."""
    ingested = IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS))
    journeys = build_journeys(
        days_as_ingested(night),
        night.read(tables.ACCEPTED_UPLOADS),
        night.read(tables.ITEM_CLUSTERS),
        accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested),
        night.ds,
        night.conf.journeys,
        night.conf.signals,
        ingested.broadcast_items,
    )
    night.write(journeys.table, tables.JOURNEYS, check=lambda: journeys.accounts(ingested))
    accounting = {name: account.to_dict() for name, account in journeys.accounts(ingested).items()}
    reasons = {name: account.pop("reasons") for name, account in accounting.items()}
    night.note(accounting=accounting, rejection_reasons={name: r for name, r in reasons.items() if r})


if __name__ == "__main__":
    runner.main("build_journeys", run, __doc__)
