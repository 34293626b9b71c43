"""Shapley value of clusters in the game that a coalition earns the uploads of journeys that lie within it.

    v(S) = uploads of journeys all of whose clusters are in S            (or what these uploads are worth)
    phi_c = sum over coalitions S without c of |S|! (K - |S| - 1)! / K! (v(S + c) - v(S))
          = sum over journeys with c of outcome / number of distinct clusters

(Shapley 1953; for attribution Zhao, Mahboobi & Bagheri 2018). v is a sum of unanimity games, one a journey, and the
value of such a game is an equal split among its players: the second line is exact for any number of clusters, and
nothing needs to be sampled. The variant `shapley_model` plays the game on a fitted outcome model instead.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.baselines.paths import worth


def values(paths: DataFrame) -> dict[int, float]:
    """phi_c of every cluster, of the uploads (outcome, as many as a journey has) or of `value` where paths has it.

    One aggregation into (cluster, size of its journey's set) with exact sums, so that they do not depend on the order
    of arrival; at most clusters x touches rows on the driver.
    """
    sets = worth(paths).where("outcome > 0").withColumn("members", F.array_distinct("path"))
    shares = sets.select(F.explode("members").alias("cluster"), F.size("members").alias("size"), "value")
    phi: dict[int, float] = {}
    found = shares.groupBy("cluster", "size").agg(F.sum("value").alias("value")).collect()
    for cluster, size, value in sorted(found):
        phi[cluster] = phi.get(cluster, 0.0) + float(value) / size
    return phi
