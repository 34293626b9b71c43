"""Correlation of two variables with others held constant, from sums of products alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


def partial_correlation_t(gram_VV: ArrayLike) -> tuple[float, float]:
    """(r, t) of the last two of V variables given the others: r in [-1, 1], t = r sqrt((n - V) / (1 - r^2))

    gram_VV: sums over n rows of the products of all pairs; the first variable is the constant 1, so entry [0, 0] is n.
    The residual products are the Schur complement of the controls (Anderson 2003, section 2.5); controls that are
    collinear count once. t is about N(0, 1) where the two are independent given the controls and these act linearly.
    NaN where one of the two does not vary beyond the controls, or rows are fewer than variables.
    """
    gram = np.asarray(gram_VV, float)
    size = len(gram)
    controls, pair, cross = gram[:-2, :-2], gram[-2:, -2:], gram[:-2, -2:]
    scale = np.sqrt(np.maximum(np.diag(controls), 1e-300))
    standard = controls / np.outer(scale, scale)
    left = pair - (cross / scale[:, None]).T @ np.linalg.pinv(standard, rcond=1e-10) @ (cross / scale[:, None])
    freedom = gram[0, 0] - size
    if freedom <= 0 or (np.diag(left) <= 1e-9 * np.diag(pair)).any():
        return float("nan"), float("nan")
    r = float(np.clip(left[0, 1] / math.sqrt(left[0, 0] * left[1, 1]), -1, 1))
    return r, r * math.sqrt(freedom / max(1 - r * r, 1e-300))
