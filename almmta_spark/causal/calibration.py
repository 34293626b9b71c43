"""What a randomised experiment adds to a model's effects: a correction of each treatment cluster, partially pooled.

The model is right up to what touches do to the outcome's logit beside the mediator, d_c fade(age) for a touch of
cluster c, so that p_deleted, the chance without the touch, is too high by d_c scale, and its effect too small by that:

    scale = p_deleted (1 - p_deleted) fade(age)
    d_c   = (kept - withheld - predicted)_c / mean of scale in c        the experiment's word, of variance v_c
    d_c   ~ N(true_c, v_c);   true_c ~ N(mu, tau^2);   mu ~ N(0, m^2)

A biased effect from many logs plus its error learned from a small experiment is Kallus, Puli & Shalit's experimental
grounding (2018); tau^2 is DerSimonian & Laird's (1986), true_c is estimated as by Morris (1983). m, the model's own
mean effect on the same scale, says how much is likely to be missing: about as much as there is.

C clusters, M members, N cells of users, R replicates and the data
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from almmta_spark.causal import jackknife
from almmta_spark.causal.ratio import ratio

Floats = NDArray[np.float64]
SUFFIX = "_calibrated"
"""A corrected method is written beside the uncorrected as <method>_calibrated."""


@dataclass(frozen=True)
class Pooled:
    """Posterior of the clusters' shortfalls: own_C and the centre are independent."""

    mean_C: Floats
    own_sd_C: Floats
    """Of what each cluster's decisions leave open."""
    centre: float
    """mu: of a cluster without decisions."""
    centre_sd: float
    own_weight_C: Floats
    """How much of a cluster's estimate is its own, the rest the centre's; in [0, 1]."""
    between_sd: float
    """tau."""

    @property
    def sd_C(self) -> Floats:
        return np.hypot(self.own_sd_C, (1 - self.own_weight_C) * self.centre_sd)


def pool(shortfall_C: ArrayLike, variance_C: ArrayLike, prior_sd: float) -> Pooled:
    """Partial pooling of the clusters' shortfalls; variance inf: a cluster of which the experiment says nothing.

    prior_sd = 0 leaves only what clusters differ by. Clusters that differ by no more than chance share one value.
    """
    variance = np.asarray(variance_C, float)
    known = np.isfinite(variance)
    found = np.where(known, np.asarray(shortfall_C, float), 0.0)
    between = _between_variance(found[known], variance[known])
    precision = np.where(known, 1 / np.where(known, variance + between, 1.0), 0.0)
    centre_variance = prior_sd**2 / (1 + prior_sd**2 * precision.sum())
    centre = float(centre_variance * np.sum(precision * found))
    weight = between * precision
    own_sd = np.sqrt(np.where(known, weight * np.where(known, variance, 0.0), between))
    mean = weight * found + (1 - weight) * centre
    return Pooled(mean, own_sd, centre, float(np.sqrt(centre_variance)), weight, float(np.sqrt(between)))


def _between_variance(found_C: Floats, variance_C: Floats) -> float:
    """tau^2 = max(0, (Q - (C - 1)) / (sum w - sum w^2 / sum w)),  w = 1 / v,  Q = sum w (d - mean)^2."""
    if len(found_C) < 2:
        return 0.0
    w = 1 / variance_C
    q = np.sum(w * (found_C - np.sum(w * found_C) / w.sum()) ** 2)
    return float(max(0.0, (q - (len(w) - 1)) / (w.sum() - np.sum(w**2) / w.sum())))


def from_cells(measured_NC4: ArrayLike, predicted_NC3: ArrayLike, weights_RN: ArrayLike) -> Pooled:
    """The clusters' shortfalls from sums over cells of users, whose replicates (row 0: the data) say how sure they are.

    measured: weight x outcome and weight of the kept decisions, then of the withheld; predicted: weight, weight x
    effect and weight x scale of the kept ones. A cluster's variance is that of all decisions together, by its share of
    what they tell, the sum of scales: one of its own would rest on few uploads, and be small where there happened to
    be few.
    """
    measured, predicted = np.asarray(measured_NC4, float), np.asarray(predicted_NC3, float)
    weights = np.asarray(weights_RN, float)
    total_R = _shortfall(*(np.einsum("rn,nk->rk", weights, sums.sum(axis=1)) for sums in (measured, predicted)))
    predicted_C3 = predicted.sum(axis=0)
    shortfall_C = _shortfall(measured.sum(axis=0), predicted_C3)
    known = ~np.isnan(shortfall_C) & (predicted_C3[:, 2] > 0)
    share_C = np.where(known, predicted_C3[:, 2], 0.0) / predicted_C3[known, 2].sum()
    variance_C = np.where(known, np.nanvar(total_R[1:]) / np.where(known, share_C, 1.0), np.inf)
    _, effect, scale = predicted_C3.sum(axis=0)
    return pool(shortfall_C, variance_C, prior_sd=abs(effect / scale))


def _shortfall(measured_X4: Floats, predicted_X3: Floats) -> Floats:
    """(kept - withheld - predicted) / scale; NaN where an arm has no weight."""
    kept, withheld = (ratio(measured_X4[..., i], measured_X4[..., i + 1]) for i in (0, 2))
    effect, scale = (ratio(predicted_X3[..., i], predicted_X3[..., 0]) for i in (1, 2))
    return ratio(kept - withheld - effect, scale)


def fade_per_hour(effect_A: ArrayLike, scale_A: ArrayLike, age_hours_A: ArrayLike) -> float:
    """Rate r >= 0 of fade(age) = exp(-r age) at which the model's own effects fade.

    Least squares of log(sum of |effect| / sum of p (1 - p)) on age, over bins of age, weighed by the latter. What acts
    beside the mediator is taken to fade as what acts through it: an experiment is too small to tell.
    """
    effect, weight, age = (np.asarray(a, float) for a in (effect_A, scale_A, age_hours_A))
    kept = (effect > 0) & (weight > 0)
    effect, weight, age = effect[kept], weight[kept], age[kept]
    if len(age) < 2:
        return 0.0
    centred = age - np.average(age, weights=weight)
    slope = np.sum(weight * centred * np.log(effect / weight)) / np.sum(weight * centred**2)
    return float(max(0.0, -slope))


@dataclass(frozen=True)
class Correction:
    """What is added to a touch's effect: its cluster's shift x p_deleted (1 - p_deleted) exp(-fade_per_hour age), as
    far as that leaves p_deleted a probability."""

    cluster_C: NDArray[np.int64]
    shift_C: Floats
    shift_sd_C: Floats
    member_MC: Floats
    """Shifts that carry the correction's uncertainty into an ensemble's members."""
    fade_per_hour: float


def correction(
    clusters: ArrayLike, pooled: Pooled, fade_per_hour: float, num_folds: int, repeats: int, seed: int
) -> Correction:
    """Members' shifts lie apart so that the jackknife finds in them the posterior variance of each cluster's shift."""
    own_MC = deviates(num_folds, repeats, len(pooled.mean_C), seed)
    centre_M1 = deviates(num_folds, repeats, 1, seed + 1)
    apart_MC = pooled.own_sd_C * own_MC + (1 - pooled.own_weight_C) * pooled.centre_sd * centre_M1
    return Correction(
        np.asarray(clusters, np.int64), pooled.mean_C, pooled.sd_C, pooled.mean_C + apart_MC, fade_per_hour
    )


def deviates(num_folds: int, repeats: int, size: int, seed: int) -> Floats:
    """(M, size) seeded normal numbers, each column with mean 0 and jackknife variance 1 in every split."""
    z_RFX = np.random.default_rng(seed).standard_normal((repeats, num_folds, size))
    z_RFX -= z_RFX.mean(axis=1, keepdims=True)
    for z_FX in z_RFX:
        z_FX /= np.sqrt(jackknife.variance(z_FX, num_folds))
    return z_RFX.reshape(-1, size)
