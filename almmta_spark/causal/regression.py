"""Two regressions of a few columns: multinomial logistic by Newton, least squares. Slopes shrunk by one row's worth.

N rows, P features with the intercept first, K classes
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RIDGE = 1.0  # penalty on slopes of standardised features: fades as 1/N, and keeps separable classes finite
_MAX_STEPS = 100
_TOLERANCE = 1e-12  # of the Newton decrement, per unit of weight


def design(covariates_ND: Floats, mean_D: Floats, scale_D: Floats) -> Floats:
    """[N, 1 + D]: the intercept and standardised covariates."""
    return np.column_stack((np.ones(len(covariates_ND)), (covariates_ND - mean_D) / scale_D))


def statistics(covariates_ND: Floats, weight_N: Floats) -> tuple[Floats, Floats]:
    """Weighted mean and standard deviation by column; 1 in place of the deviation of a constant."""
    share_N = weight_N / weight_N.sum()
    mean_D = share_N @ covariates_ND
    scale_D = np.sqrt(share_N @ (covariates_ND - mean_D) ** 2)
    return mean_D, np.where(scale_D > 1e-9 * np.maximum(np.abs(mean_D), 1.0), scale_D, 1.0)


def fit_multinomial(x_NP: Floats, class_N: NDArray[np.int64], num_classes: int, weight_N: Floats) -> Floats:
    """[P, K] coefficients of  P(class k | x) = softmax(x beta)_k,  beta_0 = 0, every class with rows.

    Newton's method with halved steps on  sum w log P(class | x) - RIDGE/2 |slopes|^2,  which is concave.
    """
    one_hot_NK = np.eye(num_classes)[class_N]
    features = x_NP.shape[1]
    penalty_PK = np.full((features, num_classes - 1), RIDGE)
    penalty_PK[0] = 0.0
    beta_PK = np.zeros((features, num_classes))
    value = _objective(x_NP, one_hot_NK, weight_N, beta_PK, penalty_PK)
    for _ in range(_MAX_STEPS):
        p_NK = probabilities(x_NP, beta_PK)
        gradient = x_NP.T @ (weight_N[:, None] * (one_hot_NK - p_NK)[:, 1:]) - penalty_PK * beta_PK[:, 1:]
        information = _information(x_NP, p_NK[:, 1:], weight_N) + np.diag(penalty_PK.T.ravel())
        step = np.linalg.solve(information, gradient.T.ravel())
        if step @ gradient.T.ravel() < _TOLERANCE * weight_N.sum():
            return beta_PK
        step_PK = np.column_stack((np.zeros(features), step.reshape(num_classes - 1, features).T))
        size = 1.0
        while (moved := _objective(x_NP, one_hot_NK, weight_N, beta_PK + size * step_PK, penalty_PK)) < value:
            size /= 2
        beta_PK, value = beta_PK + size * step_PK, moved
    raise RuntimeError(f"logistic regression of {num_classes} classes did not converge in {_MAX_STEPS} steps")


def probabilities(x_NP: Floats, beta_PK: Floats) -> Floats:
    """[N, K] softmax(x beta)."""
    score_NK = x_NP @ beta_PK
    score_NK = np.exp(score_NK - score_NK.max(axis=1, keepdims=True))
    return score_NK / score_NK.sum(axis=1, keepdims=True)


def fit_least_squares(x_NP: Floats, outcome_N: Floats, weight_N: Floats) -> Floats:
    """[P]: argmin  sum w (y - x beta)^2 + RIDGE |slopes|^2."""
    penalty_P = np.full(x_NP.shape[1], RIDGE)
    penalty_P[0] = 0.0
    weighted_NP = weight_N[:, None] * x_NP
    return np.linalg.solve(weighted_NP.T @ x_NP + np.diag(penalty_P), weighted_NP.T @ outcome_N)


def _objective(x_NP: Floats, one_hot_NK: Floats, weight_N: Floats, beta_PK: Floats, penalty_PK: Floats) -> float:
    score_NK = x_NP @ beta_PK
    top_N = score_NK.max(axis=1)
    log_total_N = top_N + np.log(np.exp(score_NK - top_N[:, None]).sum(axis=1))
    log_likelihood = weight_N @ ((one_hot_NK * score_NK).sum(axis=1) - log_total_N)
    return float(log_likelihood - 0.5 * np.sum(penalty_PK * beta_PK[:, 1:] ** 2))


def _information(x_NP: Floats, p_NK: Floats, weight_N: Floats) -> Floats:
    """Blocks  X' diag(w p_k (1{k=l} - p_l)) X,  class after class."""
    classes = p_NK.shape[1]
    blocks = [
        [x_NP.T @ ((weight_N * p_NK[:, k] * ((k == j) - p_NK[:, j]))[:, None] * x_NP) for j in range(classes)]
        for k in range(classes)
    ]
    return np.block(blocks)
