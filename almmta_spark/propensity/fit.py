"""One multinomial model of touches and one model of their number give the propensities of all clusters.

    p_c(X)  = softmax(A X)_c                              which cluster a touch is of
    P(journey holds c | X) = 1 - sum_n h(n | X) (1 - p_c(X))^n      h: distribution of the number of touches, n >= 1

h(n | X) is the histogram of n among journeys with a similar index exp(X gamma) (a Poisson regression's), so no shape is
imposed on it. Pure NumPy; N journeys, K clusters, D covariates, B bins of the index, M largest number of touches.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
NUM_BINS = 12
_BLOCK = 8192  # journeys whose cluster probabilities are in memory at a time


@dataclass(frozen=True)
class PropensityModel:
    """A fit on one fold of users."""

    mean_D: Floats
    scale_D: Floats
    touch_DK: Floats
    """Coefficients of the touches' clusters, the intercept first: [D + 1, K]."""
    number_D: Floats
    """Coefficients of the number of touches, the intercept first: [D + 1]."""
    edge_B: Floats
    """Inner edges of the index's bins: [B - 1]."""
    histogram_BM: Floats
    """h(n | bin), n = 0 .. M."""

    def propensity(self, covariates_ND: NDArray[np.floating]) -> Floats:
        """[N, K]. Row by row the same bits whatever rows come along: no matrix product over rows."""
        x_ND = standardise(covariates_ND, self.mean_D, self.scale_D)
        p_NK = softmax(linear(x_ND, self.touch_DK))
        bin_N = np.searchsorted(self.edge_B, linear(x_ND, self.number_D[:, None])[:, 0], side="right")
        miss_NK, power_NK = np.zeros_like(p_NK), np.ones_like(p_NK)
        for n in range(self.histogram_BM.shape[1]):
            miss_NK += self.histogram_BM[bin_N, n][:, None] * power_NK
            power_NK *= 1.0 - p_NK
        return 1.0 - miss_NK

    def to_json(self) -> str:
        """Every number in full."""
        return json.dumps({name: value.tolist() for name, value in self.__dict__.items()})

    @classmethod
    def from_json(cls, text: str) -> PropensityModel:
        """The model that to_json wrote."""
        return cls(**{name: np.array(value, dtype=np.float64) for name, value in json.loads(text).items()})


def fit(covariates_ND: NDArray[np.floating], counts_NK: NDArray[np.integer], l2: float) -> PropensityModel:
    """Fits both models on journeys with at least one touch. counts_NK: touches of each cluster."""
    mean_D, scale_D = statistics(covariates_ND)
    x_ND = standardise(covariates_ND, mean_D, scale_D)
    number_N = counts_NK.sum(axis=1)
    number_D = fit_number(x_ND, number_N, l2)
    index_N = linear(x_ND, number_D[:, None])[:, 0]
    edge_B = np.unique(np.quantile(index_N, np.arange(1, NUM_BINS) / NUM_BINS))
    histogram_BM = number_histogram(np.searchsorted(edge_B, index_N, side="right"), number_N, len(edge_B) + 1)
    return PropensityModel(mean_D, scale_D, fit_touches(x_ND, counts_NK, l2), number_D, edge_B, histogram_BM)


def statistics(covariates_ND: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean and standard deviation over finite values; scale 1 where a column is constant."""
    values_ND = np.asarray(covariates_ND, dtype=np.float64)
    finite_ND = np.isfinite(values_ND)
    count_D = np.maximum(finite_ND.sum(axis=0), 1)
    mean_D = np.where(finite_ND, values_ND, 0.0).sum(axis=0) / count_D
    scale_D = np.sqrt((np.where(finite_ND, values_ND - mean_D, 0.0) ** 2).sum(axis=0) / count_D)
    return mean_D, np.where(scale_D > 1e-9 * np.maximum(np.abs(mean_D), 1.0), scale_D, 1.0)


def standardise(covariates_ND: NDArray[np.floating], mean_D: Floats, scale_D: Floats) -> Floats:
    """(x - mean) / scale; unknown values become the mean, 0."""
    values_ND = np.asarray(covariates_ND, dtype=np.float64)
    return np.where(np.isfinite(values_ND), (values_ND - mean_D) / scale_D, 0.0)


def linear(x_ND: Floats, beta_DK: Floats) -> Floats:
    """beta_0 + sum_d x_d beta_d, added feature by feature: unlike a matrix product, a row's bits depend on it alone."""
    out_NK = np.repeat(beta_DK[:1], len(x_ND), axis=0)
    for d in range(x_ND.shape[1]):
        out_NK += x_ND[:, d : d + 1] * beta_DK[d + 1]
    return out_NK


def softmax(logit_NK: Floats) -> Floats:
    """Rows that add up to 1, [N, K]."""
    weight_NK = np.exp(logit_NK - logit_NK.max(axis=1, keepdims=True))
    return weight_NK / weight_NK.sum(axis=1, keepdims=True)


def fit_touches(x_ND: Floats, counts_NK: NDArray[np.integer], l2: float) -> Floats:
    """Multinomial logistic regression of touches: -1/N sum_i sum_k n_ik log p_k(x_i) + l2/2 |slopes|^2, by L-BFGS."""
    design_ND = np.column_stack([np.ones(len(x_ND)), x_ND])
    shape = (design_ND.shape[1], counts_NK.shape[1])
    start_DK = np.zeros(shape)
    start_DK[0] = np.log(counts_NK.sum(axis=0) + 0.5)
    start_DK[0] -= start_DK[0].mean()

    def objective(flat: Floats) -> tuple[float, Floats]:
        beta_DK = flat.reshape(shape)
        loss, gradient_DK = 0.0, np.zeros(shape)
        for start in range(0, len(design_ND), _BLOCK):
            x, n = design_ND[start : start + _BLOCK], counts_NK[start : start + _BLOCK]
            logit = x @ beta_DK
            logit -= logit.max(axis=1, keepdims=True)
            log_total = np.log(np.exp(logit).sum(axis=1, keepdims=True))
            loss -= float((n * (logit - log_total)).sum())
            gradient_DK += x.T @ (n.sum(axis=1, keepdims=True) * np.exp(logit - log_total) - n)
        return penalised(loss / len(design_ND), gradient_DK / len(design_ND), beta_DK, l2)

    found = minimize(objective, start_DK.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(shape)


def fit_number(x_ND: Floats, number_N: NDArray[np.integer], l2: float) -> Floats:
    """Poisson regression of the number of touches: 1/N sum_i (exp(eta_i) - n_i eta_i) + l2/2 |slopes|^2."""
    design_ND = np.column_stack([np.ones(len(x_ND)), x_ND])
    start_D = np.zeros(design_ND.shape[1])
    start_D[0] = np.log(max(float(number_N.mean()), 1e-9))

    def objective(gamma_D: Floats) -> tuple[float, Floats]:
        eta_N = np.clip(design_ND @ gamma_D, -30.0, 30.0)
        mean_N = np.exp(eta_N)
        loss = float((mean_N - number_N * eta_N).mean())
        return penalised(loss, design_ND.T @ (mean_N - number_N) / len(design_ND), gamma_D, l2)

    found = minimize(objective, start_D, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x)


def penalised(loss: float, gradient: Floats, beta: Floats, l2: float) -> tuple[float, Floats]:
    """Adds l2/2 |slopes|^2; the intercepts (row 0) go free."""
    slopes = beta.copy()
    slopes[0] = 0.0
    return loss + 0.5 * l2 * float((slopes**2).sum()), (gradient + l2 * slopes).ravel()


def number_histogram(bin_N: NDArray[np.integer], number_N: NDArray[np.integer], num_bins: int) -> Floats:
    """h(n | bin) [B, M + 1]; an empty bin takes the histogram of all."""
    counts_BM = np.zeros((num_bins, int(number_N.max(initial=1)) + 1))
    np.add.at(counts_BM, (bin_N, number_N), 1.0)
    total_M = counts_BM.sum(axis=0)
    counts_BM[counts_BM.sum(axis=1) == 0] = total_M
    return counts_BM / counts_BM.sum(axis=1, keepdims=True)
