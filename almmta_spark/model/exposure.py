"""The one factor behind what a journey was shown: p(T | X) = E_x prod_k p(c_k | X, x) p(count | X, x).

B journeys, D covariates, K clusters, Q quadrature nodes. Cost: one exponential per (journey, cluster) and one
[B, K] x [K, Q] product, not one per (journey, cluster, node).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.quadrature import GaussHermite


class ExposureFactor(nn.Module):
    """softmax_c(A X + pop + z x) for each touch, Normal(sqrt count; c0 + c . X + d x, sigma) for their number."""

    def __init__(self, spec: ExampleSpec, num_nodes: int) -> None:
        super().__init__()
        clusters, inputs = len(spec.clusters), spec.num_covariates
        self.taste_KD = nn.Parameter(torch.empty(clusters, inputs))
        self.popularity_K = nn.Parameter(torch.empty(clusters))
        self.served_K = nn.Parameter(torch.empty(clusters))
        self.count_mean = nn.Linear(inputs, 1)
        self.count_slope = nn.Parameter(torch.empty(()))
        self.count_log_sd = nn.Parameter(torch.empty(()))
        self.quadrature = GaussHermite(num_nodes)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Clusters equally likely, two touches or so a journey, a weak factor."""
        for table in (self.taste_KD, self.popularity_K):
            initialise.fill(table, 0.0)
        initialise.normal(self.served_K, 0.1, generator)  # off 0: there the factor's gradient vanishes
        initialise.zero_linear(self.count_mean, bias=2.0)
        initialise.fill(self.count_slope, 0.1)
        initialise.fill(self.count_log_sd, 0.0)
        self.quadrature.reset_parameters()

    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row a cluster."""
        return [self.taste_KD, self.popularity_K, self.served_K]

    def log_likelihood_at_nodes(self, covariates_BD: Tensor, counts_BK: Tensor) -> Tensor:
        """log p(T | X, x_q), [B, Q]."""
        logit_BK = self._logit(covariates_BD)
        x_Q = self.quadrature.x_Q
        touches_B = counts_BK.sum(1)
        chosen_BQ = (counts_BK * logit_BK).sum(1)[:, None] + (counts_BK @ self.served_K)[:, None] * x_Q
        normaliser_BQ = _log_normaliser(logit_BK, self.served_K[:, None] * x_Q)
        mean_BQ = self.count_mean(covariates_BD) + self.count_slope * x_Q
        standard_BQ = (touches_B.sqrt()[:, None] - mean_BQ) * torch.exp(-self.count_log_sd)
        number_BQ = -0.5 * standard_BQ.square() - self.count_log_sd - 0.5 * math.log(2 * math.pi)
        return chosen_BQ - touches_B[:, None] * normaliser_BQ + number_BQ

    def forward(self, covariates_BD: Tensor, counts_BK: Tensor) -> tuple[Tensor, Tensor]:
        """(w_hat, log p(T | X)), each [B]. w_hat is detached: the outcome must not bend what explains exposure."""
        log_BQ = self.log_likelihood_at_nodes(covariates_BD, counts_BK)
        return self.quadrature.posterior_mean(log_BQ.detach()), self.quadrature.log_expectation(log_BQ)

    def factor_variance(self, covariates_BD: Tensor) -> Tensor:
        """v(X) = Var(w_hat | X), [B]: by how much what is served to such a user gives the factor away.

        I / (1 + I) with the information I = E[n | X] Var_softmax(z) + (d / sigma)^2 that n touches and their number
        hold about a N(0, 1) factor, taken at its mean.
        """
        share_BK = torch.softmax(self._logit(covariates_BD), dim=1)
        mean_B = share_BK @ self.served_K
        spread_B = share_BK @ self.served_K.square() - mean_B.square()
        number_B = self.expected_number(covariates_BD, torch.zeros_like(mean_B))
        information_B = number_B * spread_B + (self.count_slope * torch.exp(-self.count_log_sd)).square()
        return information_B / (1 + information_B)

    def expected_number(self, covariates_BD: Tensor, factor_B: Tensor) -> Tensor:
        """E[number of touches | X, x], [B]: mean^2 + sigma^2 of its square root."""
        root_B = self.count_mean(covariates_BD).squeeze(1) + self.count_slope * factor_B
        return root_B.square() + torch.exp(2 * self.count_log_sd)

    def expected_counts(self, covariates_BD: Tensor, factor_B: Tensor) -> Tensor:
        """E[touches of each cluster | X, x], [B, K]."""
        share_BK = torch.softmax(self._logit(covariates_BD) + factor_B[:, None] * self.served_K, dim=1)
        return self.expected_number(covariates_BD, factor_B)[:, None] * share_BK

    def sum_variance(self, covariates_BD: Tensor, factor_B: Tensor, value_K: Tensor) -> Tensor:
        """Var(sum over touches of value_c | X, x), [B] = E[n] Var_softmax(value) + Var(n) (E_softmax value)^2,

        Var(n) = 4 mean^2 sigma^2 + 2 sigma^4 of the square of a normal.
        """
        counts_BK = self.expected_counts(covariates_BD, factor_B)
        number_B = counts_BK.sum(1)
        mean_B = counts_BK @ value_K / number_B
        variance = torch.exp(2 * self.count_log_sd)
        number_variance_B = 4 * (number_B - variance) * variance + 2 * variance.square()
        return counts_BK @ value_K.square() + (number_variance_B - number_B) * mean_B.square()

    def _logit(self, covariates_BD: Tensor) -> Tensor:
        return torch.addmm(self.popularity_K, covariates_BD, self.taste_KD.T)


def _log_normaliser(logit_BK: Tensor, served_KQ: Tensor) -> Tensor:
    """log sum_c exp(logit_bc + served_cq) as a product of two stabilised exponentials, [B, Q]."""
    top_B1 = logit_BK.detach().amax(1, keepdim=True)
    top_Q = served_KQ.detach().amax(0)
    product_BQ = torch.exp(logit_BK - top_B1) @ torch.exp(served_KQ - top_Q)
    return product_BQ.clamp_min(1e-30).log() + top_B1 + top_Q
