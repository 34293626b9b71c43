"""From signed effects to credit and shares. Flat arrays: one entry N per (journey, touch)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def credit(removal_effect_N: ArrayLike) -> NDArray[np.float64]:
    """credit = max(removal_effect, 0): a touch that discourages earns nothing, and takes nothing from the others."""
    return np.maximum(np.asarray(removal_effect_N, float), 0.0)


def attribution_share(credit_N: ArrayLike, journey_N: ArrayLike) -> NDArray[np.float64]:
    """credit / sum of the journey's credit, in [0, 1]; 0 throughout a journey in which all credits are 0."""
    values = np.asarray(credit_N, float)
    if (values < 0).any() or not np.isfinite(values).all():
        raise ValueError(
            f"credit must be finite and >= 0, got a minimum of {values.min()}: pass credit(removal_effect)"
        )
    _, journey = np.unique(np.asarray(journey_N), return_inverse=True)
    total = np.bincount(journey, weights=values)[journey] if values.size else values
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)
