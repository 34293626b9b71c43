"""The grouped uplift curve and the areas under it.

G groups, P points of the curve (one per distinct score, and the origin), ... leading axes such as bootstrap replicates
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def uplift_curve(score_G: ArrayLike, uplift_G: ArrayLike, population_G: ArrayLike) -> tuple[Array, Array]:
    """Cumulative population share x_P and cumulative uplift y_..P, groups in falling order of score.

    x_p = sum of share_g,  y_p = sum of share_g * uplift_g  over the groups with score >= the p-th distinct score.
    Groups of equal score are one step: nothing ranks them, so the curve is straight across them. Both begin at 0;
    x ends at 1, y at the population's mean uplift. uplift_G may have leading axes (replicates): uplift_...G.
    (Radcliffe 2007, "Using control groups to target on predicted lift", for groups in place of single rows.)
    """
    score, share = np.asarray(score_G, float), _share(population_G)
    uplift = np.asarray(uplift_G, float)
    if score.ndim != 1 or score.shape != share.shape or uplift.shape[-1:] != score.shape:
        raise ValueError(f"score, uplift and population disagree: {score.shape}, {uplift.shape}, {share.shape}")
    if not np.isfinite(score).all():
        raise ValueError("score must be finite: leave groups without a score out of the curve")
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    last_of_tie = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    x = np.cumsum(share[order])[last_of_tie]
    y = np.cumsum((uplift * share)[..., order], axis=-1)[..., last_of_tie]
    origin = np.zeros((*y.shape[:-1], 1))
    return np.concatenate(([0.0], x)), np.concatenate((origin, y), axis=-1)


def auuc(score_G: ArrayLike, uplift_G: ArrayLike, population_G: ArrayLike) -> Array:
    """A = area under the uplift curve (trapezoids), in units of uplift; any real number.

    Largest when the score ranks as the uplift does, half of the mean uplift when it ranks at random.
    """
    x, y = uplift_curve(score_G, uplift_G, population_G)
    return np.asarray(np.sum(np.diff(x) * (y[..., 1:] + y[..., :-1]) / 2, axis=-1))


def auuc_random(uplift_G: ArrayLike, population_G: ArrayLike) -> Array:
    """A_random = total / 2: the area under the straight line to the total, the expectation of a random ranking."""
    return np.asarray(np.sum(np.asarray(uplift_G, float) * _share(population_G), axis=-1) / 2)


def qini(score_G: ArrayLike, uplift_G: ArrayLike, population_G: ArrayLike) -> Array:
    """Q = A - A_random, in units of uplift: 0 for a ranking that knows nothing, below 0 for a reversed one."""
    return auuc(score_G, uplift_G, population_G) - auuc_random(uplift_G, population_G)


def auuc_normalised(
    score_G: ArrayLike, uplift_G: ArrayLike, population_G: ArrayLike, oracle_G: ArrayLike | None = None
) -> Array:
    """(A - A_random) / (A_oracle - A_random): 1 for the oracle's ranking, 0 at random, -1 for the reversed oracle.

    oracle_G is the score that ranks best, by default the uplift itself; replicates of the uplift need it given, as
    the ranking is held fixed there (a replicate may then pass 1). NaN where all uplifts are equal: nothing to rank.
    """
    if oracle_G is None:
        oracle_G = uplift_G
    gain = qini(oracle_G, uplift_G, population_G)
    scale = np.max(np.abs(np.asarray(uplift_G, float)), axis=-1, initial=0.0)
    ranked = np.abs(gain) > 1e-12 * scale  # exactly equal uplifts leave rounding only
    return np.asarray(np.where(ranked, qini(score_G, uplift_G, population_G) / np.where(ranked, gain, 1.0), np.nan))


def _share(population_G: ArrayLike) -> Array:
    population = np.asarray(population_G, float)
    if population.size == 0 or not (np.isfinite(population).all() and (population > 0).all()):
        raise ValueError(f"a group's population must be > 0 and finite, got {population}: leave empty groups out")
    return population / population.sum()
