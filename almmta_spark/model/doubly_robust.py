"""Variant `doubly_robust`: the back-door outcome model, corrected by what its residuals say about each cluster.

What is sought of cluster c is the sum of its touches' deletion effects, with N_c touches of it in a journey:

    theta_c = E[ N_c (Y - Y(N_c - 1)) ] = E[ N_c Y ] - E[ N_c q(N_c - 1, X) ],     q(T, X) = E[Y | T, X]

Touches of a cluster come about as a Poisson number of rate lambda_c(X), and then E[N f(N - 1)] = lambda E f(N) (Chen
1975). So theta_c = E[ (N_c - lambda_c(X)) Y ]: the Riesz representer of deleting a touch is the exposure residual
N_c - lambda_c(X), the place of a weight 1/propensity is taken by a rate, and nothing explodes. The doubly robust moment

    theta_c = E[ N_c (q(T, X) - q(T without one of c, X)) ] + E[ (N_c - lambda_c(X)) (Y - q(T, X)) ]

is right where q or lambda is (Robins, Rotnitzky & Zhao 1994; with learned representers Chernozhukov, Newey & Singh
2022). Its second part is made 0 inside the model, by targeted regularisation (van der Laan & Rubin 2006; Shi, Blei &
Veitch 2019), one epsilon a cluster, so that plain deletions of the corrected model carry the correction:

    logit q*(T, X) = logit q(T, X) + sum_c epsilon_c (N_c - lambda_c(X))
    d loss / d epsilon_c = 0   <=>   E[ (N_c - lambda_c(X)) (Y - q*(T, X)) ] = 0

A deletion takes epsilon_c from the logit, for the price of a look-up. Doubly robust against a wrong model of what X
explains; not against a hidden intent, which is in neither q nor lambda.  B journeys, L touchpoints, K clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.backdoor import BackdoorModel
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import cluster_counts
from almmta_spark.model.quadrature import full_precision
from almmta_spark.model.rates import TouchRates, rates_nll


class DoublyRobustModel(BackdoorModel):
    """Variant `doubly_robust`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__(spec, conf)
        self.rates = TouchRates(spec.num_covariates, len(spec.clusters))
        self.correction = Correction(len(spec.clusters))
        self.reset_parameters()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the back-door model, the rates' and the correction's."""
        tables = [*self.encoder.tables(), *self.rates.tables(), self.correction.epsilon_K]
        return initialise.split_groups(self, tables, [])

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms."""
        stimuli, logit = self._encode(batch, progress)
        with full_precision(batch.age_BL):
            counts_BK = cluster_counts(batch, len(self.correction.epsilon_K))
            log_rate_BK = self.rates(batch.covariates_BD)
            logit_B = logit(stimuli.total()) + self.correction(counts_BK, log_rate_BK)
            exposure_nll = losses.mean(rates_nll(log_rate_BK, counts_BK), weight_B)
            return self._losses(batch, stimuli, logit_B, weight_B, exposure_nll=exposure_nll)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Deletion effects on q*, all from one encoding."""
        stimuli, logit = self._encode(batch)
        with full_precision(batch.age_BL):
            counts_BK = cluster_counts(batch, len(self.correction.epsilon_K))
            corrected_B = self.correction(counts_BK, self.rates(batch.covariates_BD))
            left_BL = corrected_B[:, None] - self.correction.epsilon_K[batch.cluster_BL]
            p_outcome_B = torch.sigmoid(logit(stimuli.total()) + corrected_B)
            p_deleted_BL = torch.sigmoid(logit(stimuli.without_each()) + left_BL)
        return from_probabilities(p_outcome_B, p_deleted_BL, batch.mask_BL, p_outcome_B, p_deleted_BL)


class Correction(nn.Module):
    """sum_c epsilon_c (N_c - lambda_c(X)); the outcome does not bend the rates, they are detached here."""

    def __init__(self, num_clusters: int) -> None:
        super().__init__()
        self.epsilon_K = nn.Parameter(torch.empty(num_clusters))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """None at all."""
        initialise.fill(self.epsilon_K, 0.0)

    def forward(self, counts_BK: Tensor, log_rate_BK: Tensor) -> Tensor:
        """Sum over clusters of epsilon times the exposure residual, [B]; the rates learn nothing from it."""
        return (counts_BK - log_rate_BK.detach().exp()) @ self.epsilon_K
