"""Errors of estimated effects against exact ones (METHOD.md section 6).

Flat arrays, one entry N per (journey, touch). A figure that is undefined (nothing varies, no rows) is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def average_ranks(value_N: ArrayLike, group_N: ArrayLike) -> Array:
    """Ranks 1.. within each group, ties sharing their mean rank. One sort, no loop over groups."""
    value, group = np.asarray(value_N, float), np.asarray(group_N)
    order = np.lexsort((value, group))
    value, group = value[order], group[order]
    position = np.arange(len(value))
    new_group = np.append(True, group[1:] != group[:-1])[: len(value)]
    new_value = new_group | np.append(True, value[1:] != value[:-1])[: len(value)]
    tie = np.cumsum(new_value) - 1
    start = position[new_value]
    end = np.append(start[1:], len(value))
    group_start = np.maximum.accumulate(np.where(new_group, position, 0))
    ranks = np.empty(len(value))
    ranks[order] = (start + end - 1)[tie] / 2 - group_start + 1
    return ranks


def spearman_by_journey(estimate_N: ArrayLike, truth_N: ArrayLike, journey_N: ArrayLike) -> Array:
    """Spearman correlation in each journey (ascending ids), in [-1, 1]; ties share ranks (Spearman 1904).

    NaN where the truth does not vary (a single touch, or equal effects): there is nothing to rank. 0 where it varies
    and the estimate does not: a method that does not rank earns nothing.
    """
    _, journey = np.unique(np.asarray(journey_N), return_inverse=True)
    size = np.bincount(journey)
    middle = (size + 1) / 2
    x = average_ranks(estimate_N, journey) - middle[journey]
    y = average_ranks(truth_N, journey) - middle[journey]
    xy, xx, yy = (np.bincount(journey, weights=w) for w in (x * y, x * x, y * y))
    scale = np.sqrt(xx * yy)
    correlation = np.divide(xy, scale, out=np.zeros_like(xy), where=scale > 0)
    return np.where(yy > 0, correlation, np.nan)


def within_journey_spearman(estimate_N: ArrayLike, truth_N: ArrayLike, journey_N: ArrayLike) -> float:
    """Mean over the journeys in which the truth varies of the Spearman correlation there; in [-1, 1]."""
    by_journey = spearman_by_journey(estimate_N, truth_N, journey_N)
    defined = by_journey[~np.isnan(by_journey)]
    return float(defined.mean()) if defined.size else float("nan")


def overall_spearman(estimate_N: ArrayLike, truth_N: ArrayLike) -> float:
    """Spearman correlation over all touches, in [-1, 1]; 0 where the estimate does not vary."""
    everything = np.zeros(len(np.asarray(truth_N)), dtype=np.int64)
    return within_journey_spearman(estimate_N, truth_N, everything)


def magnitude_ratio(estimate_N: ArrayLike, truth_N: ArrayLike) -> float:
    """sum of estimates / sum of effects: 1 where the method claims as many outcomes as the touches caused."""
    return _ratio(np.sum(np.asarray(estimate_N, float)), np.sum(np.asarray(truth_N, float)))


def calibration_slope(estimate_N: ArrayLike, truth_N: ArrayLike) -> float:
    """Least-squares slope of truth on estimate: cov / var(estimate); 1 calibrated, < 1 estimates too spread."""
    estimate, truth = np.asarray(estimate_N, float), np.asarray(truth_N, float)
    if estimate.size == 0:
        return float("nan")
    centred = estimate - estimate.mean()
    return _ratio(np.sum(centred * truth), np.sum(centred**2))


def relative_rmse(estimate_N: ArrayLike, truth_N: ArrayLike) -> float:
    """RMSE / RMS(truth), >= 0: 1 is what estimating 0 everywhere gets."""
    estimate, truth = np.asarray(estimate_N, float), np.asarray(truth_N, float)
    return float(np.sqrt(_ratio(np.sum((estimate - truth) ** 2), np.sum(truth**2))))


def null_share(estimate_N: ArrayLike, active_N: ArrayLike) -> float:
    """mean |estimate| on touches that cause nothing / mean |estimate| on the others, >= 0: 0 is perfect."""
    size, active = np.abs(np.asarray(estimate_N, float)), np.asarray(active_N, bool)
    if active.all() or not active.any():
        return float("nan")
    return _ratio(size[~active].mean(), size[active].mean())


def interval_metrics(
    estimate_N: ArrayLike, half_width_N: ArrayLike, truth_N: ArrayLike, level: float, suffix: str = ""
) -> dict[str, float]:
    """Of intervals estimate +- half_width, by name + suffix ("_cluster", "_item" for groups' means):

    interval_coverage: share that holds the truth; interval_width: mean half-width / RMS(truth); interval_width_oracle:
    the half-width / RMS(truth) that one width for all, chosen with the truth at hand, would need for `level` coverage.
    """
    estimate, half = np.asarray(estimate_N, float), np.asarray(half_width_N, float)
    truth = np.asarray(truth_N, float)
    error, size = np.abs(estimate - truth), np.sqrt(np.mean(truth**2)) if truth.size else 0.0
    found = {
        "interval_coverage": float(np.mean(error <= half)) if truth.size else float("nan"),
        "interval_width": _ratio(np.mean(half), size) if truth.size else float("nan"),
        "interval_width_oracle": _ratio(np.quantile(error, level), size) if truth.size else float("nan"),
    }
    return {name + suffix: value for name, value in found.items()}


def against_truth(
    estimate_N: ArrayLike, truth_N: ArrayLike, journey_N: ArrayLike, suffix: str = ""
) -> dict[str, float]:
    """The metrics that compare an estimate with the exact effects, by name + suffix ("_ate" for the ATE-X)."""
    metrics: Mapping[str, float] = {
        "within_journey_spearman": within_journey_spearman(estimate_N, truth_N, journey_N),
        "overall_spearman": overall_spearman(estimate_N, truth_N),
        "magnitude_ratio": magnitude_ratio(estimate_N, truth_N),
        "calibration_slope": calibration_slope(estimate_N, truth_N),
        "relative_rmse": relative_rmse(estimate_N, truth_N),
    }
    return {name + suffix: value for name, value in metrics.items()}


def _ratio(numerator: float | np.floating, denominator: float | np.floating) -> float:
    return float(numerator / denominator) if denominator != 0 else float("nan")
