"""Two fits' effects of the same touches: how alike they rank them, and how far the clusters' means move.

N touches, K clusters
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from almmta_spark.causal import truth, uplift
from almmta_spark.causal.ratio import ratio

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def by_group(effect_N: Floats, group_N: Ints) -> Floats:
    """Mean effect of each group's touches, groups ascending."""
    _, group = np.unique(group_N, return_inverse=True)
    return ratio(np.bincount(group, weights=effect_N), np.bincount(group))


def seed_stability(fits: Sequence[Floats], cluster_N: Ints) -> dict[str, float]:
    """Spearman correlation between fits, over touches and over the clusters' means: the mean over pairs of fits."""
    pairs = list(itertools.combinations(fits, 2))
    over_touches = [truth.overall_spearman(a, b) for a, b in pairs]
    over_clusters = [truth.overall_spearman(by_group(a, cluster_N), by_group(b, cluster_N)) for a, b in pairs]
    return {
        "seed_stability": statistics.fmean(over_touches),
        "seed_stability_cluster": statistics.fmean(over_clusters),
    }


def movement(first_N: Floats, second_N: Floats, cluster_N: Ints) -> float:
    """RMS over clusters of the change of the mean effect / RMS of the first's mean effects; >= 0, 0: nothing moves."""
    first, second = by_group(first_N, cluster_N), by_group(second_N, cluster_N)
    return float(np.sqrt(np.sum((second - first) ** 2) / np.sum(first**2)))


def against_truth(effect_N: Floats, ett_N: Floats, journey_N: Ints, group_N: Ints) -> Mapping[str, float]:
    """The errors of METHOD.md section 6, and the normalised AUUC over groups (exact protocol)."""
    size = np.bincount(np.unique(group_N, return_inverse=True)[1])
    area = uplift.auuc_normalised(by_group(effect_N, group_N), by_group(ett_N, group_N), size)
    return {**truth.against_truth(effect_N, ett_N, journey_N), "auuc_normalised_exact": float(area)}
