"""What a score's ranking of randomised rows is worth: uplift and Qini curves, AUUC and Qini, with intervals.

    >>> found = evaluate({"mine": score, "other": other}, treated, outcome, user=user_id)
    >>> found["mine"]["auuc"], found["mine"]["auuc_lower"], found["mine"]["undefined_reason"]

Only the sums of each arm at each step of the score count, so equal scores are one step, and neither the order of rows
nor an increasing transformation of the score changes a figure. evaluation/ranking.py adds the same sums up in Spark.

Outcomes may be binary, counts or continuous. Treated and other rows must be comparable: randomised, or weighted so.

N rows, P steps (best first), C cells of users, A = 2 arms, G = P x C x A, R replicates and the data, S = 4 sums:
treated sum of w y and of w, then the same of the others; ... leading axes such as replicates
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from almmta_spark.causal import bootstrap
from almmta_spark.causal.ratio import ratio

Floats = NDArray[np.float64]
Units = NDArray[np.int64]
MAX_STEPS = 256
"""Steps of a curve: more distinct scores are cut into so many, of about equal size. Chords in place of a smooth curve
change its area by the order of 1 / MAX_STEPS^2."""
SAMPLE_ROWS = 100_000
"""Rows the cuts are taken from."""
SHARES = ("all", "treated")
"""What a curve's steps are weighed by: all rows, or the treated ones (Radcliffe's Qini curve)."""
FIGURES = ("auuc", "auuc_normalised", "qini", "uplift")
LARGEST = 2.0**22
"""A row's weight, and weight x outcome, must be smaller to be counted in parts of 2^-40."""
ARMS = (0, 1)
"""Others, treated."""
_SCALE, _LOW_BITS = 40, 20
HIGH_BITS = _SCALE - _LOW_BITS
"""1 is 2^HIGH_BITS of the upper halves' parts."""


# ---- curves and areas -----------------------------------------------------------------------------------------------


def curve(sums_PS: Floats, share: str = "all") -> tuple[Floats, Floats]:
    """Share of the population x_..P and cumulative uplift y_..P, from (0, 0), the step of highest score first.

        x_p = n_p / n,   y_p = s_p (Y1_p / n1_p - Y0_p / n0_p)          sums over the first p steps; n_p = n1_p + n0_p

    share "all":      s_p = n_p / n,    uplift curve (Gutierrez & Gerardy 2017; scikit-uplift's uplift_curve / n)
    share "treated":  s_p = n1_p / n1,  Qini curve (Radcliffe 2007; scikit-uplift's qini_curve / n1)

    y ends at the mean effect, in units of the outcome; the two agree where each step has the same share of treated
    rows. The mean of an arm without rows among the first p steps is taken as 0, as scikit-uplift does: that is a few
    rows' worth of the curve's beginning. An arm without any row leaves no curve: figures says so.
    """
    treated_value, treated, other_value, other = np.moveaxis(np.cumsum(sums_PS, axis=-2), -1, 0)
    population = treated + other
    share_p = {"all": ratio(population, population[..., -1:]), "treated": ratio(treated, treated[..., -1:])}[share]
    y = share_p * (np.nan_to_num(ratio(treated_value, treated)) - np.nan_to_num(ratio(other_value, other)))
    origin = np.zeros((*y.shape[:-1], 1))
    x = ratio(population, population[..., -1:])
    return np.concatenate((origin, x), axis=-1), np.concatenate((origin, y), axis=-1)


def area(x: Floats, y: Floats) -> Floats:
    """AUUC = area under the curve (trapezoids), in units of the outcome; any real number. A ranking that knows nothing
    has half the mean effect."""
    return np.asarray(np.sum(np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2, axis=-1))


def area_above_random(x: Floats, y: Floats) -> Floats:
    """Qini = area - y_end / 2: what lies above the straight line of a random ranking (Radcliffe 2007; UpliftML's
    coefficient). In units of the outcome; 0 where the score knows nothing, below 0 where it ranks the wrong way."""
    return area(x, y) - y[..., -1] / 2


def perfect_sums(total_S: Floats, share: str = "all", order: Floats | None = None) -> Floats:
    """[..., P, S] sums of the ranking that is best in hindsight, of a binary outcome, from the totals of both arms.

    share "all": treated with the outcome, others without, then the rarer error last: others with the outcome before
    treated without where there are more of them (scikit-uplift's perfect_uplift_curve). share "treated": treated with
    the outcome, all without, others with it (its perfect_qini_curve). order: totals that decide which is rarer, by
    default total_S itself; replicates keep the data's.
    """
    treated_value, treated, other_value, other = np.moveaxis(np.asarray(total_S, float), -1, 0)
    none = np.zeros_like(treated)
    hit, saved = (treated_value, treated_value, none, none), (none, none, none, other - other_value)
    lost, harmed = (none, treated - treated_value, none, none), (none, none, other_value, other_value)
    if share == "treated":
        steps = [hit, tuple(np.add(saved, lost)), harmed]
    else:
        decides = np.asarray(total_S if order is None else order, float)
        more_harmed = decides[..., 2] > decides[..., 1] - decides[..., 0]
        steps = [hit, saved, *((harmed, lost) if np.all(more_harmed) else (lost, harmed))]
    return np.stack([np.stack(step, axis=-1) for step in steps], axis=-2)


# ---- rows added up --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """All that the figures of one score need: its rows, added up."""

    sums_CPS: Floats
    rows: int
    treated_rows: int
    lowest: float
    highest: float
    """Outcomes."""
    binary: bool
    """Every outcome is 0 or 1."""

    def undefined(self) -> str | None:
        """Why no figure can be given."""
        if self.rows == 0:
            return "no rows"
        if self.treated_rows in (0, self.rows):
            return f"no {'control' if self.treated_rows else 'treated'} rows: there is nothing to compare"
        if self.lowest == self.highest:
            return f"every outcome is {self.lowest:g}: there is nothing to rank by"
        return None


def cuts(sample_N: ArrayLike, max_steps: int = MAX_STEPS) -> Floats:
    """Rising scores that end a step from below: every distinct one of the sample where there are fewer than max_steps,
    else those at equal ranks. An increasing transformation of the scores transforms the cuts alike."""
    ordered = np.sort(np.asarray(sample_N, float))
    distinct = np.unique(ordered)
    if len(distinct) < max_steps:
        return distinct
    ranks = np.arange(1, max_steps) * len(ordered) // max_steps
    return np.unique(ordered[ranks])


def step_of(score_N: NDArray[Any], cut_K: Floats) -> NDArray[np.int64]:
    """Step of each row, 0 the best: 0 above all cuts, K at the lowest one or below."""
    return len(cut_K) - np.searchsorted(cut_K, score_N, side="left")


def no_units(num_steps: int) -> Units:
    """[4, P x C x A] zeros: 2^-40 parts of w y and of w, in halves, by step, cell and arm (others, treated).

    Integers add up to the same sum in any order, so order and partitioning leave the last bit alone
    (evaluation/fixed_point.py says more).
    """
    return np.zeros((4, num_steps * bootstrap.NUM_CELLS * 2), dtype=np.int64)


def place(step_N: NDArray[Any], cell_N: NDArray[Any], treated_N: NDArray[Any]) -> NDArray[np.int64]:
    """Where no_units has a row's sums."""
    return np.asarray((step_N * bootstrap.NUM_CELLS + cell_N) * 2 + treated_N, dtype=np.int64)


def add_rows(units_4G: Units, place_N: NDArray[np.int64], value_N: Floats, weight_N: Floats | None = None) -> None:
    """Adds rows' w y and w (None: all 1) in place; both below LARGEST."""
    _add(units_4G[:2], place_N, value_N)
    if weight_N is None:
        units_4G[2] += np.bincount(place_N, minlength=units_4G.shape[1]) << HIGH_BITS
    else:
        _add(units_4G[2:], place_N, weight_N)


def _add(units_2G: Units, place_N: NDArray[np.int64], value_N: Floats) -> None:
    counts_N = np.flatnonzero(value_N)  # most outcomes are 0
    place_N, parts_N = place_N[counts_N], np.rint(value_N[counts_N] * 2.0**_SCALE).astype(np.int64)
    for units_G, half_N in zip(units_2G, (parts_N >> _LOW_BITS, parts_N & (2**_LOW_BITS - 1)), strict=True):
        if np.abs(half_N).max(initial=0) * len(half_N) < 2**53:  # floats add such integers exactly, and faster
            units_G += np.bincount(place_N, half_N, len(units_G)).astype(np.int64)
        else:
            np.add.at(units_G, place_N, half_N)


def sums(units_4G: Units) -> Floats:
    """[C, P, S] in the outcome's units."""
    high, low = units_4G[0::2], units_4G[1::2]
    value_2PCA = (high * 2.0**-HIGH_BITS + low * 2.0**-_SCALE).reshape(2, -1, bootstrap.NUM_CELLS, 2)
    return np.concatenate([np.moveaxis(value_2PCA[:, :, :, arm], 0, -1) for arm in (1, 0)], axis=-1).swapaxes(0, 1)


def ranked(
    score: ArrayLike,
    treated: ArrayLike,
    outcome: ArrayLike,
    weight: ArrayLike | None = None,
    user: ArrayLike | None = None,
    seed: int = 0,
    max_steps: int = MAX_STEPS,
) -> Ranked:
    """One score's rows added up. ValueError names the column, the rule and what to do.

    treated 0/1 or bool · weight > 0, by default 1: a row of weight 3 counts as three · user: integer ids of what is
    resampled, by default each row, in the order given. Memory: C x max_steps x 8 numbers beside the columns.
    """
    score_N, outcome_N = np.asarray(score, float), np.asarray(outcome, float)
    treated_N = np.asarray(treated)
    weight_N = np.ones(len(score_N)) if weight is None else np.asarray(weight, float)
    user_N = np.arange(len(score_N)) if user is None else np.asarray(user)
    for name, values in (("treated", treated_N), ("outcome", outcome_N), ("weight", weight_N), ("user", user_N)):
        if values.shape != score_N.shape or score_N.ndim != 1:
            raise ValueError(f"{name} must have one entry per score {score_N.shape}, got {values.shape}")
    refuse("score", *SCORE, int((~np.isfinite(score_N)).sum()))
    refuse("treated", *TREATED, int((~np.isin(treated_N, (0, 1))).sum()))
    refuse("weight", *WEIGHT, int((~((weight_N > 0) & (weight_N < LARGEST))).sum()))
    refuse("outcome", *OUTCOME, int((~(np.abs(weight_N * outcome_N) < LARGEST)).sum()))
    cut_K = cuts(score_N[bootstrap.sampled(user_N, seed, len(score_N), SAMPLE_ROWS)], max_steps)
    units = no_units(len(cut_K) + 1)
    place_N = place(step_of(score_N, cut_K), bootstrap.user_cell(user_N, seed), treated_N)
    add_rows(units, place_N, weight_N * outcome_N, weight_N)
    return Ranked(
        sums(units),
        len(score_N),
        int(np.sum(treated_N != 0)),
        *((float(outcome_N.min()), float(outcome_N.max())) if len(outcome_N) else (math.nan, math.nan)),
        bool(np.isin(outcome_N, (0, 1)).all()),
    )


TREATED = ("0 or 1", "leave those rows out")
WEIGHT = (f"> 0 and below {LARGEST:g}", "leave rows that do not count out, or rescale the weights")
OUTCOME = (f"finite, and times its weight below {LARGEST:g}", "leave rows without one out, or change its unit")
SCORE = ("finite", "leave rows without a score out")


def refuse(column: str, rule: str, remedy: str, wrong: int) -> None:
    """ValueError where a column has rows that break its rule."""
    if wrong:
        raise ValueError(f"{column} must be {rule}, got {wrong} rows that are not: {remedy}")


# ---- figures --------------------------------------------------------------------------------------------------------


def figures(
    found: Ranked, replicates: int = 200, seed: int = 0, level: float = 0.95, share: str = "all"
) -> dict[str, Any]:
    """Every figure of one score, each with _lower and _upper; None, and the reason, where undefined.

    uplift            y_end, the mean effect
    auuc              area (under the uplift curve; share "treated": under the Qini curve)
    qini              area_above_random
    auuc_normalised   qini / the same of perfect_sums: 1 for that ranking, 0 at random; binary outcomes only
                      (scikit-uplift's uplift_auc_score and, for share "treated", qini_auc_score)
    n, num_steps      rows, and distinct scores or cuts behind the curve

    Intervals: Poisson bootstrap over users (causal/bootstrap.py), the ranking held fixed.
    """
    found_row: dict[str, Any] = {f"{name}{side}": None for name in FIGURES for side in ("", "_lower", "_upper")}
    steps = int((found.sums_CPS[..., 1::2].sum(axis=(0, 2)) > 0).sum())
    found_row |= {"n": found.rows, "num_steps": steps, "undefined_reason": found.undefined()}
    if found_row["undefined_reason"] is not None:
        return found_row
    for name, value_R in _replicates(found, bootstrap.poisson_weights(seed, replicates), share).items():
        for side, number in zip(
            ("", "_lower", "_upper"), (value_R[0], *bootstrap.interval(value_R, level)), strict=True
        ):
            found_row[f"{name}{side}"] = None if math.isnan(number) else float(number)
    if found_row["auuc_normalised"] is None:
        why = (
            "even the best ranking gains nothing"
            if found.binary
            else "outcomes are not 0 or 1, no ranking is known to be best"
        )
        found_row["undefined_reason"] = f"auuc_normalised: {why}"
    return found_row


def _replicates(found: Ranked, weights_RC: NDArray[np.int64], share: str) -> dict[str, Floats]:
    """[R] each figure of the data (first) and of every replicate; NaN where a replicate drew no row of an arm."""
    sums_RPS = np.einsum("rc,cps->rps", weights_RC.astype(float), found.sums_CPS)
    has_both_R = (sums_RPS[..., 1::2].sum(axis=1) > 0).all(axis=-1)
    sums_RPS = np.where(has_both_R[:, None, None], sums_RPS, np.nan)
    x_RP, y_RP = curve(sums_RPS, share)
    values = {"uplift": y_RP[:, -1], "auuc": area(x_RP, y_RP), "qini": area_above_random(x_RP, y_RP)}
    if found.binary:
        total_RS = sums_RPS.sum(axis=1)
        best_R = area_above_random(*curve(perfect_sums(total_RS, share, total_RS[0]), share))
        values["auuc_normalised"] = ratio(values["qini"], best_R)
    return values


def evaluate(
    scores: Mapping[str, ArrayLike],
    treated: ArrayLike,
    outcome: ArrayLike,
    weight: ArrayLike | None = None,
    user: ArrayLike | None = None,
    *,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
    share: str = "all",
    max_steps: int = MAX_STEPS,
) -> dict[str, dict[str, Any]]:
    """figures of each score on the same rows; no score touches another's."""
    if share not in SHARES:
        raise ValueError(f"share must be one of {SHARES}, got {share!r}")
    rows = {name: ranked(score, treated, outcome, weight, user, seed, max_steps) for name, score in scores.items()}
    return {name: figures(of, replicates, seed, level, share) for name, of in rows.items()}
