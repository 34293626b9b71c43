"""Propensities of a night: fitted on a bounded sample of training users, predicted for everybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config
from almmta_spark.journeys.split import fold, is_validation
from almmta_spark.logs import arrays
from almmta_spark.propensity.fit import PropensityModel, fit
from almmta_spark.propensity.weights import bucket, bucket_cuts, logit_bin, stabilized_weight

_PARTS = 1_000_000


@dataclass(frozen=True)
class FittedPropensity:
    """Everything prediction needs; small, sent to the executors with the task."""

    clusters: tuple[int, ...]
    models: dict[int, PropensityModel]
    """By fold of the user to be predicted: the model that never saw that fold."""
    marginal_K: NDArray[np.float64]
    """Share of training journeys that hold each cluster, strictly between 0 and 1."""
    min_propensity: float
    max_weight: float
    cuts: list[int]


def fit_propensity(journeys: DataFrame, clusters: Sequence[int], conf: Config) -> FittedPropensity:
    """Fits one model a fold on training users of the other folds, then the bucket cuts and marginals.

    journeys: of the pooled nights. Cost: one count, then scans of a hash sample of at most propensity.max_fit_journeys
    journeys; one executor task a fold holds its sample; the driver sees coefficients, bins and a row a cluster.
    ValueError where fewer than two clusters are there.
    """
    if len(clusters) < 2:
        raise ValueError(
            f"table items: attribution needs at least 2 treatment clusters, got {len(clusters)}: give items clusters, "
            "or null throughout and set propensity.num_clusters"
        )
    sample = _training_sample(journeys, conf).persist()
    try:
        models = _fit_folds(sample, tuple(clusters), conf)
        marginal_K = _marginals(sample, clusters)
        unbucketed = FittedPropensity(
            tuple(clusters), models, marginal_K, conf.propensity.min_propensity, conf.propensity.max_weight, []
        )
        cuts = bucket_cuts(_count_bins(sample, unbucketed), conf.propensity.num_buckets)
    finally:
        sample.unpersist()
    return FittedPropensity(**{**unbucketed.__dict__, "cuts": cuts})


def predict_propensity(people: DataFrame, fitted: FittedPropensity, conf: Config) -> DataFrame:
    """The propensities table. people: journey_id, user_id, covariates and clusters (array<int> of the touches').

    Cost: one scan, vectorised per Arrow batch; a row's bits do not depend on its batch.
    """
    rows = _keyed(people, conf)
    schema = ", ".join(f"{c.name} {c.type}" for c in tables.PROPENSITIES.columns)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield _scored(batch, fitted)

    return rows.mapInArrow(score, schema)


def _keyed(people: DataFrame, conf: Config) -> DataFrame:
    held_out = is_validation(conf.seed, conf.examples.validation_share)
    return people.select(
        "journey_id",
        "user_id",
        "covariates",
        "clusters",
        fold(conf.seed, conf.propensity.num_folds).alias("fold"),
        held_out.alias("is_validation"),
    )


def people_of(journeys: DataFrame) -> DataFrame:
    """Journeys in the form predict_propensity takes."""
    return journeys.select("journey_id", "user_id", "covariates", F.col("touches.cluster").alias("clusters"))


def _training_sample(journeys: DataFrame, conf: Config) -> DataFrame:
    keyed = _keyed(people_of(journeys), conf).where("is_validation = 0")
    share = min(1.0, conf.propensity.max_fit_journeys / max(keyed.count(), 1))
    part = F.pmod(F.xxhash64(F.lit(conf.seed), F.lit("propensity"), "journey_id"), F.lit(_PARTS))
    return keyed.where(part < max(1, round(share * _PARTS)))


def _fit_folds(sample: DataFrame, clusters: tuple[int, ...], conf: Config) -> dict[int, PropensityModel]:
    folds, l2 = conf.propensity.num_folds, conf.propensity.l2

    def fit_one(key: tuple[Any, ...], rows: pd.DataFrame) -> pd.DataFrame:
        ordered = rows.sort_values("journey_id")  # one order, so that sums are equal to the last bit
        covariates_ND = np.array(ordered["covariates"].tolist(), dtype=np.float64)
        model = fit(covariates_ND, _counts(ordered["clusters"], clusters), l2)
        return pd.DataFrame({"for_fold": [int(key[0])], "model": [model.to_json()]})

    others = F.filter(F.sequence(F.lit(0), F.lit(folds - 1)), lambda f: f != F.col("fold"))
    grouped = sample.withColumn("for_fold", F.explode(others)).groupBy("for_fold")
    rows = grouped.applyInPandas(fit_one, "for_fold int, model string").toLocalIterator()
    models = {row["for_fold"]: PropensityModel.from_json(row["model"]) for row in rows}
    missing = sorted(set(range(folds)) - set(models))
    if missing:
        raise ValueError(
            f"propensity.num_folds must leave training users in every fold, got none for fold {missing[0]} of {folds}: "
            "lower it, or give the night more users"
        )
    return models


def _counts(clusters_of_rows: pd.Series, clusters: tuple[int, ...]) -> NDArray[np.int64]:
    """[N, K] touches of each cluster."""
    lengths = clusters_of_rows.str.len().to_numpy()
    flat = np.concatenate([np.zeros(0, np.int64), *clusters_of_rows.to_numpy()]).astype(np.int64)
    return _tally(flat, lengths, clusters)


def _tally(flat: NDArray[np.int64], lengths: NDArray[np.int64], clusters: tuple[int, ...]) -> NDArray[np.int64]:
    counts_NK = np.zeros((len(lengths), len(clusters)), dtype=np.int64)
    column = np.searchsorted(np.array(clusters, dtype=np.int64), flat)
    np.add.at(counts_NK, (np.repeat(np.arange(len(lengths)), lengths), column), 1)
    return counts_NK


def _marginals(sample: DataFrame, clusters: Sequence[int]) -> NDArray[np.float64]:
    """Laplace's (held + 1) / (n + 2), so that a weight is always finite."""
    held = sample.select(F.explode(F.array_distinct("clusters")).alias("cluster")).groupBy("cluster").count()
    counts = {row["cluster"]: row["count"] for row in held.toLocalIterator()}
    num_journeys = sample.count()
    return np.array([(counts.get(c, 0) + 1) / (num_journeys + 2) for c in clusters])


def _count_bins(sample: DataFrame, fitted: FittedPropensity) -> dict[int, int]:
    """How many (journey, cluster) pairs of the sample lie in each logit bin (a few thousand bins)."""

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                bins, counts = np.unique(logit_bin(_propensity(batch, fitted)), return_counts=True)
                yield pa.RecordBatch.from_arrays([pa.array(bins), pa.array(counts.astype(np.int64))], ["bin", "n"])

    counted = sample.mapInArrow(count, "bin bigint, n bigint").groupBy("bin").agg(F.sum("n").alias("n"))
    return {row["bin"]: row["n"] for row in counted.toLocalIterator()}


def _propensity(batch: pa.RecordBatch, fitted: FittedPropensity) -> NDArray[np.float64]:
    """[N, K], clipped; each row by the model that never saw its fold."""
    covariates_ND = arrays.matrix(batch.column("covariates"))
    fold_N = batch.column("fold").to_numpy(zero_copy_only=False)
    out_NK = np.empty((batch.num_rows, len(fitted.clusters)))
    for f in np.unique(fold_N):
        out_NK[fold_N == f] = fitted.models[int(f)].propensity(covariates_ND[fold_N == f])
    return np.clip(out_NK, fitted.min_propensity, 1.0 - fitted.min_propensity)


def _scored(batch: pa.RecordBatch, fitted: FittedPropensity) -> pa.RecordBatch:
    propensity_NK = _propensity(batch, fitted)
    flat, lengths = arrays.ragged(batch.column("clusters"))
    exposed_NK = _tally(flat.astype(np.int64), lengths, fitted.clusters) > 0
    weight_NK = np.minimum(stabilized_weight(exposed_NK, propensity_NK, fitted.marginal_K), fitted.max_weight)
    clusters_NK = np.broadcast_to(np.array(fitted.clusters, dtype=np.int32), propensity_NK.shape)
    columns = {
        "journey_id": batch.column("journey_id"),
        "user_id": batch.column("user_id"),
        "fold": batch.column("fold"),
        "is_validation": batch.column("is_validation"),
        "cluster": arrays.lists(clusters_NK, pa.int32()),
        "exposed": arrays.lists(exposed_NK, pa.bool_()),
        "propensity": arrays.lists(propensity_NK.astype(np.float32), pa.float32()),
        "propensity_bucket": arrays.lists(bucket(propensity_NK, fitted.cuts), pa.int32()),
        "stabilized_weight": arrays.lists(weight_NK.astype(np.float32), pa.float32()),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
