"""Training journeys as paths of clusters: what the fitted baselines learn from, the rows that models are trained on."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.baselines import rows
from almmta_spark.example_spec import ExampleSpec

DIGITS = 12
"""Decimals kept of a fitted effect, so that the last bits of a solver's sums do not make another model_version."""


def training_paths(examples: DataFrame, spec: ExampleSpec) -> DataFrame:
    """path (clusters, oldest touch first) and outcome (0 or 1) of training_examples that are not held out."""
    clusters = F.array(*map(F.lit, spec.clusters))
    indices = F.slice("cluster_index", 1, F.col("num_touches"))
    return examples.where("is_validation = 0 and num_touches > 0").select(
        F.transform(indices, lambda i: F.element_at(clusters, i + 1)).alias("path"),
        F.col("outcome").cast("int").alias("outcome"),
    )


def worth(paths: DataFrame) -> DataFrame:
    """path, outcome (conversions) and value, exact to 10 decimals so that sums do not depend on the order of arrival;
    the number of conversions where paths has no values."""
    value = F.col("value" if "value" in paths.columns else "outcome").cast("decimal(28,10)")
    return paths.select("path", "outcome", value.alias("value"))


def touches_by_cluster(paths: DataFrame) -> dict[int, int]:
    """Touches of each cluster, repeats counted. One aggregation; a row a cluster on the driver."""
    found = paths.select(F.explode("path").alias("cluster")).groupBy("cluster").count().collect()
    return {row["cluster"]: row["count"] for row in sorted(found)}


def claim(method: str, parameters: Mapping[str, float], credit: Mapping[int, float], paths: DataFrame) -> Column:
    """A cluster's credit spread over its touches: the uploads that one touch of it brought, on average.

    In the table's unit, uploads per touch, and over the training touches it adds up to the credit. Every touch of a
    cluster is worth the same, whosever it is, and one of a cluster that training never saw nothing.
    """
    touches = touches_by_cluster(paths)
    effect = {cluster: round(credit.get(cluster, 0.0) / n, DIGITS) for cluster, n in touches.items()}
    fitted = {"effect": sorted(effect.items())}
    by_cluster = F.create_map(*[F.lit(x) for pair in sorted(effect.items()) for x in pair])
    found = F.transform("touches", lambda t: F.coalesce(F.element_at(by_cluster, t["cluster"]), F.lit(0.0)))
    return rows.claim(method, {**parameters, **fitted}, found)
