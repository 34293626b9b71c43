"""E[Y | exposed to a cluster or not, X] for every cluster: the outcome half of a doubly robust contrast.

    psi = E[mu_1(X) - mu_0(X)] + E[w (Y - mu_1) | A = 1] - E[w (Y - mu_0) | A = 0]     w: normalised within the arm

is the ATE of A where either the weights or mu are right (Robins, Rotnitzky & Zhao 1994; normalised as in Lunceford &
Davidian 2004), of users who are alike in X: what X does not hold, neither half knows.

N journeys, D covariates, P = 1 + D, K clusters, F flat (journey, cluster) pairs
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from almmta_spark.causal import regression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_DECIMALS = 9  # of a coefficient: how a solver sums its last bits is then no part of the result


@dataclass(frozen=True)
class OutcomeRegression:
    """A fit: a line in standardised covariates for each cluster and arm."""

    mean_D: Floats
    scale_D: Floats
    cluster_K: Ints
    """Ascending."""
    beta_K2P: Floats
    """By arm: unexposed, exposed."""

    def predict(self, covariates_ND: Floats, row_F: Ints, cluster_F: Ints) -> Floats:
        """[F, 2] mu_0 and mu_1 of each pair. A cluster that the fit never saw has the mean of all clusters' lines."""
        filled_ND = np.where(np.isnan(covariates_ND), self.mean_D, covariates_ND)
        x_NP = regression.design(filled_ND, self.mean_D, self.scale_D)
        with_mean = np.concatenate((self.beta_K2P, self.beta_K2P.mean(axis=0, keepdims=True)))
        mu_NK2 = np.einsum("np,kap->nka", x_NP, with_mean)  # not BLAS: a row's bits do not depend on its batch
        k_F = np.minimum(np.searchsorted(self.cluster_K, cluster_F), len(self.cluster_K) - 1)
        return mu_NK2[row_F, np.where(self.cluster_K[k_F] == cluster_F, k_F, -1)]


def fit(
    covariates_ND: Floats, outcome_N: Floats, row_F: Ints, cluster_F: Ints, exposed_F: NDArray[np.bool_]
) -> OutcomeRegression:
    """Least squares by cluster and arm on standardised covariates, missing ones at their mean; an arm without rows
    takes the mean outcome of all. Cost: F P^2 operations."""
    known_ND = ~np.isnan(covariates_ND)
    mean_D = np.where(known_ND, covariates_ND, 0.0).sum(axis=0) / np.maximum(known_ND.sum(axis=0), 1)
    filled_ND = np.where(known_ND, covariates_ND, mean_D)
    _, scale_D = regression.statistics(filled_ND, np.ones(len(filled_ND)))
    x_NP = regression.design(filled_ND, mean_D, scale_D)
    cluster_K = np.unique(cluster_F)
    beta_K2P = np.zeros((len(cluster_K), 2, x_NP.shape[1]))
    beta_K2P[:, :, 0] = outcome_N.mean()
    for k, cluster in enumerate(cluster_K):
        for arm in (0, 1):
            rows = row_F[(cluster_F == cluster) & (exposed_F == bool(arm))]
            if len(rows):
                beta_K2P[k, arm] = regression.fit_least_squares(x_NP[rows], outcome_N[rows], np.ones(len(rows)))
    return OutcomeRegression(mean_D, scale_D, cluster_K, np.round(beta_K2P, _DECIMALS))
