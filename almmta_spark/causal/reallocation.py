"""Further exposures given to the groups that a ranking puts first: what they cause beyond the present policy.

    U(s, x)     = effects of the exposures of the groups that come first by score s and hold a share x of all exposures
    extra(s, x) = U(s, x) - x U(s, 1)

A further exposure of a group is taken to be worth what its present ones are on average, so no group is given more of
them than it has. A group across the edge is given its part, groups of equal score are taken together, and the present
policy, which gives every group in proportion, has extra 0.

The winner's curse: estimates put first what they overestimate, so they must not judge their own ranking. Member (r, f)
of an ensemble (jackknife.py) ranks without the users of fold f, and is judged by that fold's pseudo-value,

    theta_rf' = theta - (F - 1) (theta_rf - mean_f theta_rf)                           (Quenouille 1949; Tukey 1958)

which to first order is what the users of fold f alone say (where F = 2 it is the other half's fit). The mean over
members is then the worth of a ranking by (F - 1)/F of the users; the spread of the pseudo-values gives its variance,
too small a one where noise is as large as what is ranked, since each fold ranks for the others (no cross-validation has
an unbiased estimate of its variance: Bengio & Grandvalet 2004).

G groups, S shares, M = R F members, V kinds of sums
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from almmta_spark.causal import jackknife
from almmta_spark.causal.uplift import uplift_curve

Array = NDArray[np.float64]


def given_to_top(score_G: ArrayLike, exposures_G: ArrayLike, sums_VG: ArrayLike, share_S: ArrayLike) -> Array:
    """(V, S) the groups' sums over the exposures of those that come first by score, up to each share of all."""
    exposures = np.asarray(exposures_G, float)
    x, y_VP = uplift_curve(score_G, np.asarray(sums_VG, float) / exposures, exposures)
    return exposures.sum() * np.stack([np.interp(np.asarray(share_S, float), x, y) for y in y_VP])


def extra(score_G: ArrayLike, exposures_G: ArrayLike, sums_VG: ArrayLike, share_S: ArrayLike) -> Array:
    """(V, S) what is given to the top beyond what the present policy gives of each sum."""
    total_V = np.asarray(sums_VG, float).sum(axis=-1)
    return given_to_top(score_G, exposures_G, sums_VG, share_S) - total_V[:, None] * np.asarray(share_S, float)


def pseudo_values(centre_S: ArrayLike, member_MS: ArrayLike, num_folds: int) -> Array:
    """theta_rf' of a figure, (M, S): what the users that each member left out say of it. Their mean is the centre."""
    members = np.asarray(member_MS, float)
    by_split = members.reshape(len(members) // num_folds, num_folds, *members.shape[1:])
    away = (by_split - by_split.mean(axis=1, keepdims=True)).reshape(members.shape)
    return np.asarray(np.asarray(centre_S, float) - (num_folds - 1) * away)


def half_width(pseudo_MS: Array, num_folds: int, level: float, shared_error: float) -> Array:
    """Of the interval about the mean of pseudo-values: jackknife.half_width of the fits that they came from."""
    centre_S = pseudo_MS.mean(axis=0)
    fits_MS = centre_S - (pseudo_MS - centre_S) / (num_folds - 1)
    return jackknife.half_width(fits_MS, centre_S, num_folds, level, shared_error)
