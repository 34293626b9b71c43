"""Weights and buckets of (journey, cluster) pairs. N journeys, K clusters; NumPy only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS_PER_LOGIT = 200
"""Resolution at which propensities are counted for their quantiles."""


def stabilized_weight(exposed_NK: NDArray[np.bool_], propensity_NK: Floats, marginal_K: Floats) -> Floats:
    """w = P(T = t) / P(T = t | X), t the observed exposure   (Robins, Hernan & Brumback 2000). Not clipped."""
    return np.where(exposed_NK, marginal_K / propensity_NK, (1.0 - marginal_K) / (1.0 - propensity_NK))


def logit_bin(propensity: Floats) -> NDArray[np.int64]:
    """Integer bin of a propensity on the logit scale, ascending."""
    return np.floor(np.log(propensity / (1.0 - propensity)) * BINS_PER_LOGIT).astype(np.int64)


def bucket_cuts(count_of_bin: Mapping[int, int], num_buckets: int) -> list[int]:
    """The num_buckets - 1 bins at which a new bucket begins: quantiles of the counted pairs."""
    bins = sorted(count_of_bin)
    below = np.concatenate([[0], np.cumsum([count_of_bin[b] for b in bins])])
    wanted = [below[-1] * q / num_buckets for q in range(1, num_buckets)]
    return [bins[min(int(np.searchsorted(below[1:], w, side="left")), len(bins) - 1)] for w in wanted]


def bucket(propensity: Floats, cuts: list[int]) -> NDArray[np.int32]:
    """0-based bucket: how many cuts the propensity has reached."""
    return np.searchsorted(np.array(cuts, dtype=np.int64), logit_bin(propensity), side="right").astype(np.int32)
