"""The gate: whether the model trained tonight, the candidate, may speak for the night.

It may where every input row is accounted for, no check fails, those that gate.must_pass names do not even warn, the
refutations and the planted touch were fitted at all, and it predicts held-out journeys as well as the champion, the
newest model of an earlier night that passed. Models are scored alike and journeys are the same, so the difference
between the two is free of what the night is like.

R replicates and the data, C cells
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.config import Config
from almmta_spark.evaluation import bootstrap, overlap, predictions, stage
from almmta_spark.evaluation.auuc import Row
from almmta_spark.evaluation.diagnostics import FAIL, NOT_IDENTIFIED, PASS, Check, first_sentence
from almmta_spark.evaluation.fixed_point import collect, fixed_sum

CHAMPION = "champion"
"""Method of the champion's rows in journey_scores."""
FITTED = ("placebo_proxies", "placebo_touch")
"""Refutation and planted truth: what was not fitted has not passed."""


@dataclass(frozen=True)
class Decision:
    """Whether the candidate may speak."""

    reasons: tuple[str, ...] = ()
    """Against the candidate, a sentence each."""

    @property
    def passed(self) -> bool:
        """Nothing speaks against it."""
        return not self.reasons


def decide(
    accounting: Mapping[str, Mapping[str, int]], checks: Sequence[Check], must_pass: Collection[str]
) -> Decision:
    """Every reason against the candidate. accounting: rows_in of each input table, and where they went."""
    missing = sorted(set(FITTED) - {check.name for check in checks})
    return Decision(
        (
            *_unaccounted(accounting),
            *(f"{name} was not fitted, so nothing was refuted: name it in training.placebos." for name in missing),
            *(told(check) for check in checks if refuses(check, must_pass)),
        )
    )


def refuses(check: Check, must_pass: Collection[str]) -> bool:
    """A leak of which anchors tell by how much does not: effects are free of it."""
    kind = check.name.partition("/")[0]
    harmless = kind == "outcome_leak" and not check.advice.startswith(NOT_IDENTIFIED)
    return check.verdict == FAIL or (check.verdict != PASS and kind in must_pass and not harmless)


def told(check: Check) -> str:
    """A check in one sentence, with its name and value."""
    value = "unknown" if math.isnan(check.value) else f"{check.value:.3g}, limit {check.threshold:.3g}"
    return f"{first_sentence(check.advice)} (`{check.name}` {value})"


def _unaccounted(accounting: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    if not accounting:
        yield "Nobody has noted where the input rows went: run the job build_journeys."
    for table, counts in accounting.items():
        parts = sum(n for name, n in counts.items() if name != "rows_in")
        if parts != counts["rows_in"]:
            yield f"Rows of {table} do not add up: {counts['rows_in']:,} in, {parts:,} accounted for."


# ---- what it is decided from ----------------------------------------------------------------------------------------


def candidate_checks(
    inputs: stage.Inputs,
    conf: Config,
    row_counts: Mapping[str, tuple[int, int]],
    claims: Mapping[str, float],
) -> list[Check]:
    """Checks of the candidate, and of what it was trained on; inputs: of a sample of the night's journeys, scored by
    the candidate and, as method CHAMPION, by the champion where there is one.

    Cost: two scans of journey_scores and those of stage.night_checks, all of the sample.
    """
    own = conf.training.variants[0]
    alone = replace(inputs, journey_scores=inputs.journey_scores.where(F.col("method") == own))
    fits = predictions.model_fits(predictions.predictions(alone.journey_scores))
    lying = overlap.overlap(inputs.propensities, conf.propensity)
    checks = stage.night_checks(alone, fits, lying, conf, row_counts, claims)
    compared = comparison(inputs.journey_scores, conf)
    return checks if compared is None else [*checks, compared]


def comparison(journey_scores: DataFrame, conf: Config) -> Check | None:
    """Candidate against champion on journeys that neither learned from; None without a champion.

    d = (LL candidate - LL champion) / |LL of the base rate|, a difference of McFadden's R2, resampled by user with both
    models in each replicate. The value is the upper end of its interval: below -gate.margin the candidate is worse, by
    more than chance and by more than anybody minds.
    Of an ensemble all journeys count, since each is scored by members that left its user out, else those held out.
    Cost: one scan; a row a cell and model is collected.
    """
    own, plan = conf.training.variants[0], conf.training.ensemble
    rows = journey_scores if own in plan.variants else journey_scores.where("is_validation = 1")
    log_p = predictions.log_likelihood(predictions.clipped(F.col("p_outcome")))
    found = collect(
        rows.groupBy("method", bootstrap.user_cell(F.col("user_id"), conf.seed).alias("cell")).agg(
            F.count(F.lit(1)).alias("journeys"),
            F.sum("outcome").alias("outcomes"),
            fixed_sum(log_p).alias("log_p"),
        )
    )
    if CHAMPION not in found["method"]:
        return None
    journeys_C, outcomes_C, own_C = (_by_cell(found, own, name) for name in ("journeys", "outcomes", "log_p"))
    champion_C = _by_cell(found, CHAMPION, "log_p")
    weight_RC = bootstrap.poisson_weights(conf.seed, conf.evaluation.bootstrap_replicates)
    behind_R = weight_RC @ (own_C - champion_C) / null_nats(weight_RC @ journeys_C, weight_RC @ outcomes_C)
    lower, upper = bootstrap.interval(behind_R, conf.evaluation.interval)
    return Check(
        f"champion_comparison/{own}",
        float(upper if len(behind_R) > 1 else behind_R[0]),
        -conf.gate.margin,
        f"The candidate's McFadden R2 on held-out journeys lies {behind_R[0]:+.4f} [{lower:+.4f}, {upper:+.4f}] from "
        "that of the champion, which the upper end may not miss by more than the limit: it predicts worse.",
        low=True,
    )


def null_nats(journeys: NDArray[np.float64], outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """|log likelihood| of predicting the base rate; NaN with one class only."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = outcomes / journeys
        return -(outcomes * np.log(rate) + (journeys - outcomes) * np.log(1 - rate))


def _by_cell(found: Mapping[str, NDArray], method: str, name: str) -> NDArray[np.float64]:
    """[C] a method's sums, 0 of a cell without journeys."""
    of = found["method"] == method
    sums_C = np.zeros(bootstrap.NUM_CELLS)
    sums_C[found["cell"][of]] = found[name][of]
    return sums_C


def gate_rows(checks: Sequence[Check], must_pass: Collection[str]) -> list[Row]:
    """The checks as rows of the table gate."""
    return [check.row() | {"refuses": refuses(check, must_pass)} for check in checks]
