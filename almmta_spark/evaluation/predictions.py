"""What journey_scores say about the models' predictions: AUC, log loss, how much the proxies tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.evaluation.auuc import Row, null_if_nan
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

LOGGED, RANDOMISED = "logged", "randomised"
_BINS_PER_LOGIT = 256
_EPSILON = 1e-12


@dataclass(frozen=True)
class Predictions:
    """Counts and sums per (method, sample, half, outcome, bin of the prediction): columns of equal length."""

    columns: Mapping[str, NDArray[Any]]

    @property
    def methods(self) -> list[str]:
        return sorted(set(self.columns["method"]))

    def where(self, **values: Any) -> dict[str, NDArray[Any]]:
        """The rows with these values."""
        rows = np.logical_and.reduce([self.columns[name] == value for name, value in values.items()])
        return {name: column[rows] for name, column in self.columns.items()}


def predictions(journey_scores: DataFrame) -> Predictions:
    """One scan of journey_scores. The prediction is p_outcome, and p_do of a sequence that nobody chose (where a model
    has one): touches drawn at random tell nothing about the user. Bins are 1/256 wide in its logit: at most some
    14,000 a half of a sample of a model, and in practice 2,000, are collected."""
    predicted = F.when(F.col("sample") == RANDOMISED, F.coalesce("p_do", "p_outcome")).otherwise(F.col("p_outcome"))
    p = clipped(predicted)
    log_p = log_likelihood(p)
    posterior = F.col("posterior_mean")
    bin_ = F.floor(F.ln(p / (1 - p)) * _BINS_PER_LOGIT).alias("bin")
    found = collect(
        journey_scores.groupBy("method", "sample", "is_validation", "outcome", bin_).agg(
            F.count(F.lit(1)).alias("n"),
            fixed_sum(log_p).alias("log_p"),
            fixed_sum(log_p * log_p).alias("log_p_squared"),
            F.count(posterior).alias("posterior_n"),
            fixed_sum(posterior).alias("posterior"),
            fixed_sum(posterior * posterior).alias("posterior_squared"),
            F.count("leak_gain").alias("leak_n"),
            fixed_sum(F.col("leak_gain")).alias("leak_gain"),
        )
    )
    order = np.lexsort((found["bin"], found["outcome"], found["is_validation"], found["sample"], found["method"]))
    return Predictions({name: values[order] for name, values in found.items()})


def clipped(predicted: Column) -> Column:
    """A predicted chance, strictly between 0 and 1."""
    return F.least(F.greatest(predicted, F.lit(_EPSILON)), F.lit(1 - _EPSILON))


def log_likelihood(p: Column) -> Column:
    """Of a journey's outcome under the chance p, in (0, 1)."""
    return F.ln(F.when(F.col("outcome") == 1, p).otherwise(1 - p))


def as_scores(predicted: DataFrame, method: str, sample: str) -> DataFrame:
    """p_outcome and outcome of anything that predicts, as rows of journey_scores: what it does not say is null."""
    said = {
        "p_outcome": F.col("p_outcome"),
        "outcome": F.col("outcome"),
        "method": F.lit(method),
        "sample": F.lit(sample),
        "is_validation": F.lit(0),
    }
    columns = [said.get(c.name, F.lit(None)).cast(c.type).alias(c.name) for c in tables.JOURNEY_SCORES.columns]
    return predicted.select(*columns)


def upload_auc_rows(found: Predictions) -> Iterator[Row]:
    """upload_auc_logged (held-out journeys) and upload_auc_randomised (all of that sample) of each model.

    The logged one is NOT causal: it rewards reading the hidden intent off what was served (METHOD.md section 6).
    Journeys of one bin are ties, which moves the AUC by less than .001.
    """
    for method in found.methods:
        for sample, half in ((LOGGED, {"is_validation": 1}), (RANDOMISED, {})):
            rows = found.where(method=method, sample=sample, **half)
            if not len(rows["n"]):
                continue
            _, bin_ = np.unique(rows["bin"], return_inverse=True)
            negatives, positives = (np.bincount(bin_, weights=rows["n"] * (rows["outcome"] == y)) for y in (0, 1))
            yield {
                "method": method,
                "metric": f"upload_auc_{sample}",
                "value": null_if_nan(auc_of_counts(positives, negatives)),
                "n": int(rows["n"].sum()),
            }


def auc_of_counts(positives: NDArray[Any], negatives: NDArray[Any]) -> float:
    """P(score of a positive > that of a negative) + P(equal) / 2, from counts in rising order of the score; in [0, 1].

    (Mann & Whitney 1947.) NaN with one class only.
    """
    below = np.cumsum(negatives) - negatives
    pairs = float(positives.sum()) * float(negatives.sum())
    return float(np.sum(positives * (below + negatives / 2.0)) / pairs) if pairs else float("nan")


@dataclass(frozen=True)
class Fit:
    """How well a model predicts on one half of the journeys."""

    journeys: int
    outcomes: int
    log_likelihood: float
    """Sum over journeys of log P(Y | T, X)."""
    gain: float
    """McFadden's 1 - LL / LL_0 against the half's own base rate; NaN with one class only."""
    gain_sd: float
    """Standard error of gain over journeys."""


@dataclass(frozen=True)
class ModelFit:
    """How well one model predicts the journeys it learned from and those it did not."""

    training: Fit
    held_out: Fit
    posterior_variance: float
    """Var E[eps | Y', T, X] over logged journeys: the reliability of the proxies; NaN where the model has none."""
    leak_gain: float
    """Log likelihood that a leak of Y into Y' gains, per held-out journey; NaN where the model has no such term."""


def model_fits(found: Predictions) -> dict[str, ModelFit]:
    """Fit of each model on training and held-out logged journeys."""
    fits = {}
    for method in found.methods:
        training, held_out = (_fit(found.where(method=method, sample=LOGGED, is_validation=half)) for half in (0, 1))
        rows = found.where(method=method, sample=LOGGED)
        n, first, second = (float(rows[c].sum()) for c in ("posterior_n", "posterior", "posterior_squared"))
        variance = second / n - (first / n) ** 2 if n else float("nan")
        rows = found.where(method=method, sample=LOGGED, is_validation=1)
        leak_n = float(rows["leak_n"].sum())
        gain = float(rows["leak_gain"].sum()) / leak_n if leak_n else float("nan")
        fits[method] = ModelFit(training, held_out, variance, gain)
    return fits


def _fit(rows: Mapping[str, NDArray[Any]]) -> Fit:
    journeys, outcomes = int(rows["n"].sum()), int(rows["n"][rows["outcome"] == 1].sum())
    likelihood = float(rows["log_p"].sum())
    if outcomes in (0, journeys):
        return Fit(journeys, outcomes, likelihood, float("nan"), float("nan"))
    base = np.where(rows["outcome"] == 1, math.log(outcomes / journeys), math.log(1 - outcomes / journeys))
    null = float(np.sum(rows["n"] * base))
    # sum over journeys of (log p - log p_0)^2
    squares = float(np.sum(rows["log_p_squared"] - 2 * base * rows["log_p"] + rows["n"] * base**2))
    variance = squares - (likelihood - null) ** 2 / journeys
    return Fit(journeys, outcomes, likelihood, 1 - likelihood / null, math.sqrt(max(variance, 0.0)) / abs(null))
