"""What the columns of training_examples will mean, decided on the training users of the pooled nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.config import Config, SignalConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.journeys.split import is_validation
from almmta_spark.logs.arrays import matrix
from almmta_spark.propensity.fit import statistics

STATISTICS_JOURNEYS = 100_000
"""Training journeys (the first by hash) covariate means and scales are taken from: bounded on the driver."""
SHORT_CONTENT = 32
"""Longest content that every touch carries unless conf says otherwise."""
CONTENT_ITEMS = 50_000
"""Items (the first by hash) that mean contents of clusters are taken from: bounded on the driver."""


Contents = tuple[tuple[tuple[float, ...], ...], tuple[float, ...], float]
"""Means by cluster in the model's units, and what a content loses and is divided by to be in them."""


def build_spec(
    journeys: DataFrame, propensities: DataFrame, items: DataFrame, embedding_length: int, conf: Config
) -> ExampleSpec:
    """The spec of the pooled nights. ValueError for a one-class outcome or a night without any outcome proxy.

    Cost: three scans of journeys, one of propensities' clusters; on the driver a row a signal name and the covariates
    of at most STATISTICS_JOURNEYS journeys, and at most CONTENT_ITEMS contents.
    """
    split = journeys.withColumn("is_validation", is_validation(conf.seed, conf.examples.validation_share))
    training = split.where("is_validation = 0")
    counts = split.agg(
        F.count_if(F.col("is_validation") == 0).alias("training"),
        F.count_if(F.col("is_validation") == 1).alias("validation"),
        F.count_if((F.col("is_validation") == 0) & (F.col("outcome") == 1)).alias("outcomes"),
    ).first()
    assert counts is not None
    _refuse_one_class(counts["training"], counts["outcomes"])
    mean, scale = covariate_statistics(training, counts["training"], conf.seed)
    outcome_proxies = _signals(training, "outcome_proxies", "outcome_proxy", conf.signals)
    if not outcome_proxies:
        raise ValueError(
            "table signals: no outcome proxy has an event in the lookback window, and without one the mediator cannot "
            "be read: write signals of the night's lookback window, or give a signal the role outcome_proxy in conf"
        )
    clusters = _clusters(propensities)
    contents, content_mean, content_scale = cluster_contents(items, clusters, conf.seed)
    return ExampleSpec(
        clusters=clusters,
        max_touchpoints=conf.journeys.max_touchpoints,
        outcome_proxies=outcome_proxies,
        intent_proxies=_signals(training, "intent_proxies", "intent_proxy", conf.signals),
        covariate_mean=mean,
        covariate_scale=scale,
        embedding_length=embedding_length,
        num_hard_negatives=conf.pairs.num_hard_negatives,
        touch_embeddings=carries_contents(conf.examples.touch_embeddings, embedding_length),
        num_buckets=conf.propensity.num_buckets,
        num_training=counts["training"],
        num_validation=counts["validation"],
        base_rate=counts["outcomes"] / counts["training"],
        cluster_contents=contents,
        content_mean=content_mean,
        content_scale=content_scale,
    )


def carries_contents(wanted: bool | None, embedding_length: int) -> bool:
    """examples.touch_embeddings for a night whose contents have this length (0: there are none)."""
    return embedding_length > 0 and (embedding_length <= SHORT_CONTENT if wanted is None else wanted)


def _refuse_one_class(num_training: int, num_outcomes: int) -> None:
    if not 0 < num_outcomes < num_training:
        raise ValueError(
            f"table journeys: training needs journeys with and without an upload, got {num_outcomes} with one out of "
            f"{num_training}: check that uploads of the outcome window are there, or pool more nights (pool_nights)"
        )


def covariate_statistics(training: DataFrame, num_rows: int, seed: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each covariate over finite values; 0 and 1 where there are none or one value."""
    share = min(1.0, STATISTICS_JOURNEYS / max(num_rows, 1))
    part = F.pmod(F.xxhash64(F.lit(seed), F.lit("statistics"), "journey_id"), F.lit(1_000_000))
    sample = training.where(part < max(1, round(share * 1_000_000))).select("journey_id", "covariates")
    found: pd.DataFrame = sample.toPandas()  # bounded, see STATISTICS_JOURNEYS
    ordered = found.sort_values("journey_id")["covariates"]  # one order, so that sums are equal to the last bit
    mean_D, scale_D = statistics(np.array(ordered.tolist(), dtype=np.float64))
    return tuple(mean_D.tolist()), tuple(scale_D.tolist())


def cluster_contents(items: DataFrame, clusters: Sequence[int], seed: int) -> Contents:
    """ExampleSpec.cluster_contents, content_mean and content_scale. Empty where no item has content.

    Cost: one scan of items for a bounded sample.
    """
    order = [F.xxhash64(F.lit(seed), F.lit("contents"), "item_id"), F.col("item_id")]
    known = items.where(F.col("embedding").isNotNull() & F.col("cluster").isin(*clusters))
    sample = known.orderBy(*order).limit(CONTENT_ITEMS).select("cluster", "embedding").toArrow()
    if not sample.num_rows:
        return (), (), 1.0
    content_NE = matrix(sample.column("embedding").combine_chunks()).astype(np.float64)
    index_N = np.searchsorted(np.asarray(clusters), sample.column("cluster").to_numpy())
    return centred_contents(content_NE, index_N, len(clusters))


def centred_contents(content_NE: NDArray[np.float64], index_N: NDArray[np.int64], num_clusters: int) -> Contents:
    """Means by cluster, each dimension centred over the clusters that have one, all scaled to unit mean square.

    A cluster without content has the mean of the others, 0.
    """
    count_K = np.bincount(index_N, minlength=num_clusters)
    sums = [np.bincount(index_N, weights=x_N, minlength=num_clusters) for x_N in content_NE.T]
    mean_KE = np.stack(sums, axis=1) / np.maximum(count_K, 1)[:, None]
    there_K = count_K > 0
    centre_E = mean_KE[there_K].mean(axis=0)
    centred_KE = np.where(there_K[:, None], mean_KE - centre_E, 0.0)
    scale = float(np.sqrt((centred_KE[there_K] ** 2).mean())) or 1.0
    return tuple(map(tuple, (centred_KE / scale).tolist())), tuple(centre_E.tolist()), scale


def _signals(training: DataFrame, column: str, role: str, known: Mapping[str, SignalConfig]) -> tuple[Signal, ...]:
    """Signals with the role that have an event in the window, by name; kinds from conf, else from the data."""
    largest = training.select(F.explode(column).alias("s")).groupBy("s.signal").agg(F.max("s.value").alias("largest"))
    found = {row["signal"]: row["largest"] for row in largest.toLocalIterator()}
    signals = []
    for name in sorted(found):
        conf = known.get(name, SignalConfig())
        if role in conf.roles:
            kind = conf.kind or ("binary" if found[name] <= 1 else "count")
            signals.append(Signal(name, kind, conf.anchor))
    return tuple(signals)


def _clusters(propensities: DataFrame) -> tuple[int, ...]:
    """All clusters of the pooled nights, ascending."""
    rows = propensities.select("cluster").distinct().toLocalIterator()  # one row a night
    return tuple(sorted({int(c) for row in rows for c in row["cluster"]}))


def standardised(covariates: Column, mean: Sequence[float], scale: Sequence[float]) -> Column:
    """(x - mean) / scale as floats; unknown values (null, NaN, infinite) become the mean, 0."""
    means, scales = F.array(*map(F.lit, mean)), F.array(*map(F.lit, scale))

    def one(x: Column, i: Column) -> Column:
        value = x.cast("double")
        known = x.isNotNull() & ~F.isnan(x) & (F.abs(value) < F.lit(float("inf")))
        return F.when(known, (value - F.get(means, i)) / F.get(scales, i)).otherwise(F.lit(0.0)).cast("float")

    return F.transform(covariates, one)
