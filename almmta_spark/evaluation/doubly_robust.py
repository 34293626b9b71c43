"""Unit rows of the doubly robust observational protocol: outcomes less what covariates let expect.

The same weights as the weighted protocol's, on residuals of causal/outcome_regression.py in place of outcomes, with the
mean expected difference added back (grouped.GroupSums). Cross-fitted: a user's expectations come, as the propensity
does, from users of the other folds. Not causal: neither half knows a cause that the covariates do not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import outcome_regression
from almmta_spark.causal.outcome_regression import OutcomeRegression
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.grouped import GROUP

MAX_FIT_JOURNEYS = 100_000
"""Journeys (by hash) the regressions are fitted on."""
_PARTS = 1_000_000
_PAIRS = ("cluster", "exposed", "propensity_bucket", "stabilized_weight")


def doubly_robust_rows(journeys: DataFrame, propensities: DataFrame, seed: int) -> DataFrame:
    """A row per (journey, cluster) as of grouped.observational_rows; value = outcome - mu of the row's own arm, and
    expected = mu_1 - mu_0.

    Cost: a count, one join by journey for the sample (at most MAX_FIT_JOURNEYS, a fold's in one executor task; the
    driver sees coefficients) and one for the rows, which only pass through to the aggregation.
    """
    joined = propensities.select(
        "journey_id", "fold", bootstrap.user_cell(F.col("user_id"), seed).alias("cell"), *_PAIRS
    ).join(journeys.select("journey_id", "covariates", F.col("outcome").cast("double").alias("outcome")), "journey_id")
    models = _fit(joined, seed)
    columns = "propensity_bucket int, cluster int, cell int, treated boolean, weight double"
    schema = f"{columns}, value double, expected double, outcome double"
    if not models:
        return joined.sparkSession.createDataFrame([], schema)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield _scored(batch, models)

    return joined.mapInArrow(score, schema)


def _fit(joined: DataFrame, seed: int) -> dict[int, OutcomeRegression]:
    """By fold of the user to be predicted; where only one fold has users, from itself."""
    share = min(1.0, MAX_FIT_JOURNEYS / max(joined.count(), 1))
    part = F.pmod(F.xxhash64(F.lit(seed), F.lit("outcome_regression"), "journey_id"), F.lit(_PARTS))
    sample = joined.where(part < max(1, round(share * _PARTS)))
    folds = sorted(row["fold"] for row in joined.select("fold").distinct().toLocalIterator())
    fits_for = F.array(*map(F.lit, folds))
    others = F.filter(fits_for, lambda f: f != F.col("fold")) if len(folds) > 1 else fits_for

    def fit_one(key: tuple[Any, ...], rows: pd.DataFrame) -> pd.DataFrame:
        ordered = rows.sort_values("journey_id")  # one order, so that sums are equal to the last bit
        lengths = ordered["cluster"].str.len().to_numpy()
        flat = {name: np.concatenate(ordered[name].to_numpy()) for name in ("cluster", "exposed")}
        found = outcome_regression.fit(
            np.array(ordered["covariates"].tolist(), dtype=np.float64),
            ordered["outcome"].to_numpy(),
            np.repeat(np.arange(len(ordered)), lengths),
            flat["cluster"].astype(np.int64),
            flat["exposed"].astype(bool),
        )
        arrays = (found.mean_D, found.scale_D, found.cluster_K, found.beta_K2P.ravel())
        return pd.DataFrame([[int(key[0]), *(values.tolist() for values in arrays)]], columns=_MODEL)

    by_fold = sample.withColumn("for_fold", F.explode(others)).groupBy("for_fold").applyInPandas(fit_one, _MODEL_DDL)
    return {row["for_fold"]: _model(row.asDict()) for row in by_fold.toLocalIterator()}


_MODEL = ["for_fold", "mean", "scale", "cluster", "beta"]
_MODEL_DDL = "for_fold int, mean array<double>, scale array<double>, cluster array<bigint>, beta array<double>"


def _model(row: Mapping[str, Any]) -> OutcomeRegression:
    mean, scale, cluster, beta = (np.array(row[name]) for name in _MODEL[1:])
    return OutcomeRegression(mean, scale, cluster, beta.reshape(len(cluster), 2, 1 + len(mean)))


def _scored(batch: pa.RecordBatch, models: Mapping[int, OutcomeRegression]) -> pa.RecordBatch:
    column = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in ("fold", "cell", "outcome")}
    covariates_ND = batch.column("covariates").flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    covariates_ND = covariates_ND.reshape(batch.num_rows, -1)
    lengths = batch.column("cluster").value_lengths().to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(batch.num_rows), lengths)
    flat = {name: batch.column(name).flatten().to_numpy(zero_copy_only=False) for name in _PAIRS}
    mu_F2 = np.zeros((len(row), 2))
    for fold, model in models.items():
        of = column["fold"][row] == fold
        mu_F2[of] = model.predict(covariates_ND, row[of], flat["cluster"][of].astype(np.int64))
    exposed, outcome = flat["exposed"].astype(bool), column["outcome"][row]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(flat["propensity_bucket"].astype(np.int32)),
            pa.array(flat["cluster"].astype(np.int32)),
            pa.array(column["cell"][row].astype(np.int32)),
            pa.array(exposed),
            pa.array(flat["stabilized_weight"].astype(np.float64)),
            pa.array(outcome - np.where(exposed, mu_F2[:, 1], mu_F2[:, 0])),
            pa.array(mu_F2[:, 1] - mu_F2[:, 0]),
            pa.array(outcome),
        ],
        [*GROUP, "cell", "treated", "weight", "value", "expected", "outcome"],
    )
