"""Inverse-propensity weights and what they cost. N rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def stabilized_weight(treatment_N: ArrayLike, propensity_N: ArrayLike) -> Array:
    """w = P(T=t) / P(T=t | X)   (Robins, Hernan & Brumback 2000); > 0, with mean near 1 where the model is right.

    treatment 0 or 1, propensity = P(T=1 | X) strictly between; P(T=1) is the mean treatment of the rows given.
    """
    treated, propensity = np.asarray(treatment_N, bool), np.asarray(propensity_N, float)
    if not ((propensity > 0) & (propensity < 1)).all():
        raise ValueError("propensity must lie strictly between 0 and 1: clip it (propensity.min_propensity)")
    marginal = treated.mean() if treated.size else 0.0
    return np.where(treated, marginal / propensity, (1 - marginal) / (1 - propensity))


def clip(weight_N: ArrayLike, maximum: float) -> Array:
    """min(w, maximum): changes values, drops no row. A little bias for a bounded variance."""
    return np.minimum(np.asarray(weight_N, float), maximum)


def effective_sample_size(weight_N: ArrayLike) -> float:
    """(sum w)^2 / sum w^2   (Kish 1965): the unweighted rows that would know as much; in (0, N], 0 without rows."""
    weight = np.asarray(weight_N, float)
    squares = float(np.sum(weight**2))
    return float(np.sum(weight)) ** 2 / squares if squares > 0 else 0.0
