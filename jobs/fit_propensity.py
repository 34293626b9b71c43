"""P(the journey holds a touch of a cluster | X) for every cluster, cross-fitted; buckets and stabilised weights."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import runner, tables
from almmta_spark.journeys.build import journey_id
from almmta_spark.logs.ingest import accepted_users
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.propensity.build import fit_propensity, people_of, predict_propensity
from jobs.ingest import accepted_decisions, users_not_after


def run(night: runner.Night) -> None:
    """The pooled nights' item_clusters and journeys -> propensities of the night, and of those in its experiment."""
    pooled = (tables.ITEM_CLUSTERS, tables.JOURNEYS)
    nights = night.pooled_nights(*pooled)
    items, journeys = (night.read_nights(table, nights) for table in pooled)
    rows = items.select("cluster").distinct().toLocalIterator()  # one a cluster
    clusters = sorted(row["cluster"] for row in rows)
    fitted = fit_propensity(journeys, clusters, night.conf)
    people = people_of(night.read(tables.JOURNEYS))
    decisions = accepted_decisions(night)
    if decisions is not None:
        people = people.unionByName(decided_without_journey(night, decisions, people))
    night.write(predict_propensity(people, fitted, night.conf), tables.PROPENSITIES, meta={"cuts": fitted.cuts})
    night.note(num_clusters=len(clusters))


def decided_without_journey(night: runner.Night, decisions: DataFrame, people: DataFrame) -> DataFrame:
    """Users whose only touch was withheld: they have no journey, and the experiment needs their bucket."""
    ingested = IngestSummary.from_dict(night.meta(tables.ACCEPTED_UPLOADS))
    users = accepted_users(night.read_snapshot(tables.USERS, users_not_after(night)), ingested)
    decided = decisions.select("user_id").distinct().join(people.select("user_id"), "user_id", "left_anti")
    return decided.join(users, "user_id").select(
        journey_id(night.ds).alias("journey_id"),
        "user_id",
        "covariates",
        F.lit([]).cast("array<int>").alias("clusters"),
    )


if __name__ == "__main__":
    runner.main("fit_propensity", run, __doc__)
