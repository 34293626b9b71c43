"""Intervals from fits that each left out one fold of the users: a delete-a-group jackknife, repeated.

Users are split into F folds, R times anew; member (r, f), the r F + f-th, is fitted without fold f of split r.

    V  = mean over r of (F - 1)/F sum_f (theta_rf - mean_f theta_rf)^2
    theta +- t sqrt(V (1 + 1/(R (F - 1))) + (rho theta)^2 + u^2)
                                                             t Student's quantile with R (F - 1) degrees of freedom

V is the variance of a fit on all users (delete-a-group jackknife: Kott 2001; balanced half-samples where F = 2:
McCarthy 1969), whatever a user's touches have in common. The second term is the centre's own noise: it averages, for
each journey, the R fits that did not see its user, each with variance V/(F - 1) about the fit on all. What all fits get
wrong in the same way, the model's form and its shrinkage, no resampling can show: the third term allows for it a
relative error rho, the plan's shared_error. Nor does it show effects that are too small to be found in any fit, which
shrinkage holds at 0 in all of them: for these u, the plan's unseen_effect times the chance that the touches speak of.

M = R F members, X any further dimensions
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit


def variance(member_MX: ArrayLike, num_folds: int) -> NDArray[np.float64]:
    """V, over the first axis."""
    members = np.asarray(member_MX, float)
    by_split = members.reshape(len(members) // num_folds, num_folds, *members.shape[1:])
    return np.asarray((num_folds - 1) * by_split.var(axis=1).mean(axis=0), float)


def multiplier(num_members: int, num_folds: int, level: float) -> float:
    """t."""
    return float(stdtrit(_freedom(num_members, num_folds), (1 + level) / 2))


def inflation(num_members: int, num_folds: int) -> float:
    """1 + 1/(R (F - 1)): the centre's variance over V."""
    return 1 + 1 / _freedom(num_members, num_folds)


def half_width(
    member_MX: ArrayLike,
    centre_X: ArrayLike,
    num_folds: int,
    level: float,
    shared_error: float = 0.0,
    unseen_X: ArrayLike = 0.0,
) -> NDArray[np.float64]:
    """By how much the interval reaches to either side of the centre; unseen_X: u, in units of the effect."""
    members = np.asarray(member_MX)
    own_X = variance(members, num_folds) * inflation(len(members), num_folds)
    shared_X = (shared_error * np.asarray(centre_X, float)) ** 2
    unseen_X = np.square(np.asarray(unseen_X, float))
    return np.asarray(multiplier(len(members), num_folds, level) * np.sqrt(own_X + shared_X + unseen_X))


def _freedom(num_members: int, num_folds: int) -> int:
    return num_members // num_folds * (num_folds - 1)
