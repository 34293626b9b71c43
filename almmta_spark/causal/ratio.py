"""Quotients that may be undefined."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """numerator / denominator of two arrays of one shape; NaN where the denominator is 0, without a warning."""
    top, bottom = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
