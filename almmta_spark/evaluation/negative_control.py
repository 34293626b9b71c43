"""The negative control: what the proxies say about the mediator's noise must not know the intent (METHOD section 7).

E[eps | Y', T, X] is read from acts that follow the touches, Z from acts that come before them. Given touches and
covariates the mediator's noise is new, so the two are independent, unless the intent leaks into the proxies or into the
mediator itself. Lipsitch, Tchetgen Tchetgen & Cohen (2010).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal.partial_correlation import partial_correlation_t
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

_LARGEST = 30.0
"""Controls are clipped here: logits beyond it say nothing more, and their fourth powers must fit a fixed-point sum."""


def negative_controls(journey_scores: DataFrame, journeys: DataFrame) -> dict[str, float]:
    """t of the partial correlation of posterior_mean and Z given (T, X), for each model that has a posterior mean.

    Z is the sum over intent proxies of log(1 + value); (T, X) is held constant through the model's own summaries of it:
    mu, g0, slope, their squares, and the number of touches. Empty where no journey has an intent proxy.
    Cost: one scan of the logged journey_scores joined with journeys by journey_id; 55 sums a model on the driver.
    """
    intent = F.aggregate("intent_proxies", F.lit(0.0), lambda total, s: total + F.log1p(s["value"]))
    known = journeys.select("journey_id", F.size("touches").alias("num_touches"), intent.alias("intent"))
    scores = journey_scores.where((F.col("sample") == "logged") & F.col("posterior_mean").isNotNull())
    variables = _variables()
    products = [
        fixed_sum(variables[i] * variables[j]).alias(f"{i}_{j}") for i in range(len(variables)) for j in range(i + 1)
    ]
    found = collect(scores.join(known, "journey_id").groupBy("method").agg(*products))
    grams = {method: _gram(found, row, len(variables)) for row, method in enumerate(found["method"])}
    return {method: partial_correlation_t(gram)[1] for method, gram in sorted(grams.items()) if gram[-1, -1] > 0}


def _variables() -> list[Column]:
    """The constant, the controls, posterior_mean and Z."""
    pieces = [_clipped(name) for name in ("mu", "g0", "slope")]
    controls = [*pieces, *[piece * piece / _LARGEST for piece in pieces], F.col("num_touches") / _LARGEST]
    return [F.lit(1.0), *controls, F.col("posterior_mean"), F.col("intent")]


def _clipped(name: str) -> Column:
    return F.greatest(F.least(F.coalesce(name, F.lit(0.0)), F.lit(_LARGEST)), F.lit(-_LARGEST))


def _gram(found: Mapping[str, np.ndarray], row: int, size: int) -> np.ndarray:
    gram = np.zeros((size, size))
    for i in range(size):
        for j in range(i + 1):
            gram[i, j] = gram[j, i] = found[f"{i}_{j}"][row]
    return gram
