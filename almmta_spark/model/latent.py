"""Variant `latent`, the default: a stochastic mediator read from its proxies by exact marginal likelihood.

    m = mu(T, X) + eps,  eps ~ N(0, 1)
    log p(Y' | m, Y)   = sum_j Bernoulli or Poisson(a_j + l_j m + kappa_j Y)      kappa_j = 0 for anchor proxies
    logit p(Y | m, T, X) = g0(T, X) + b(T, X) m         b = softplus(c0 + c1 . X + c2 w_hat)
    loss = - mean log sum_q w_q p(Y' | m_q, Y) p(Y | m_q, T, X)  -  mean log p(T | X)      (METHOD section 3)

B journeys, L touchpoints, J outcome proxies, Q quadrature nodes, K clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import Stimuli, StimulusEncoder, cluster_counts
from almmta_spark.model.exposure import ExposureFactor
from almmta_spark.model.mediator import MediatorMean, SignalEmission
from almmta_spark.model.outcome import DirectPart, Slope
from almmta_spark.model.quadrature import GaussHermite, full_precision


@dataclass(frozen=True)
class _Journey:
    """What the likelihood and the effects share: one encoding of a batch."""

    stimuli: Stimuli
    mu_B: Tensor
    g0_B: Tensor
    slope_B: Tensor
    exposure_log_B: Tensor | None


class LatentModel(nn.Module):
    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.num_clusters, self.num_rows, self.sparsity = len(spec.clusters), spec.num_training, conf.sparsity
        self.encoder = StimulusEncoder(spec, conf)
        self.mediator = MediatorMean(spec, conf)
        self.proxies = SignalEmission(spec.outcome_proxies)
        self.direct = DirectPart(spec, conf.exposure_factor)
        self.slope = Slope(spec, conf.exposure_factor)
        self.exposure = ExposureFactor(spec, conf.quadrature_nodes) if conf.exposure_factor else None
        self.leak = OutcomeLeak(spec) if conf.outcome_leak else None
        self.quadrature = GaussHermite(conf.quadrature_nodes)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        tables = [*self.encoder.tables(), self.direct.omega_K]
        tables += [] if self.exposure is None else self.exposure.tables()
        return initialise.split_groups(self, tables, [] if self.leak is None else list(self.leak.parameters()))

    def project(self) -> None:
        """After an optimiser step: parameters back into the set they may lie in."""
        self.encoder.project()

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms.

        progress (share of training done) is not used here.
        """
        journey = self._encode(batch)
        with full_precision(batch.age_BL):
            m_BQ = journey.mu_B[:, None] + self.quadrature.x_Q
            proxies_BQ = self._proxies(m_BQ, batch, with_outcome=True)
            logit_BQ = journey.g0_B[:, None] + journey.slope_B[:, None] * m_BQ
            marginal_B = losses.marginal_nll(proxies_BQ, logit_BQ, batch.outcome_B, self.quadrature)
            terms = {"nll": losses.mean(marginal_B, weight_B)}
            terms["sparsity"] = losses.sparsity_cost(journey.stimuli.mean_K, self.sparsity, self.num_rows)
            if journey.exposure_log_B is not None:
                exposure_B = losses.exposure_nll(journey.exposure_log_B, batch.num_touches_B)
                terms["exposure_nll"] = losses.mean(exposure_B, weight_B)
        return losses.total(terms)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """tau_k = sum_q w_q {sig(g0 + b (mu(T) + x_q)) - sig(g0 + b (mu(T without k) + x_q))}, from one encoding."""
        journey = self._encode(batch)
        with full_precision(batch.age_BL):
            deleted_BL = self.mediator(batch.covariates_BD, *journey.stimuli.without_each())
            p_outcome_B = self._p_outcome(journey.mu_B, journey.g0_B, journey.slope_B)
            p_deleted_BL = self._p_outcome(deleted_BL, journey.g0_B[:, None], journey.slope_B[:, None])
            proxies_BQ = self._proxies(journey.mu_B[:, None] + self.quadrature.x_Q, batch, with_outcome=False)
            posterior_mean_B = self.quadrature.posterior_mean(proxies_BQ)
        return from_probabilities(
            p_outcome_B,
            p_deleted_BL,
            batch.mask_BL,
            mu_B=journey.mu_B,
            g0_B=journey.g0_B,
            slope_B=journey.slope_B,
            posterior_mean_B=posterior_mean_B,
        )

    def _encode(self, batch: Batch) -> _Journey:
        stimuli = self.encoder(batch)
        with full_precision(batch.age_BL):
            counts_BK = cluster_counts(batch, self.num_clusters)
            factor_B, exposure_log_B = None, None
            if self.exposure is not None:
                factor_B, exposure_log_B = self.exposure(batch.covariates_BD, counts_BK)
            mu_B = self.mediator(batch.covariates_BD, *stimuli.total())
            g0_B = self.direct(batch.covariates_BD, counts_BK, factor_B)
            slope_B = self.slope(batch.covariates_BD, factor_B)
            return _Journey(stimuli, mu_B, g0_B, slope_B, exposure_log_B)

    def _proxies(self, m_BQ: Tensor, batch: Batch, with_outcome: bool) -> Tensor:
        shift = None
        if self.leak is not None and with_outcome:
            shift = self.leak(batch.outcome_B)[:, None, :]
        log_BQ: Tensor = self.proxies(m_BQ, batch.outcome_proxies_BJ, shift)
        return log_BQ

    def _p_outcome(self, mu: Tensor, g0: Tensor, slope: Tensor) -> Tensor:
        return self.quadrature.expected_sigmoid(g0 + slope * mu, slope.expand_as(mu))


class OutcomeLeak(nn.Module):
    """kappa_j Y in the proxies' logits: the decision to upload shows in the proxy itself. Anchors have none."""

    free_J: Tensor

    def __init__(self, spec: ExampleSpec) -> None:
        super().__init__()
        self.signals = spec.outcome_proxies
        size = max(1, len(self.signals))
        self.kappa_J = nn.Parameter(torch.empty(size))
        self.register_buffer("free_J", torch.empty(size), persistent=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.fill(self.kappa_J, 1.0)
        with torch.no_grad():
            self.free_J.copy_(torch.tensor([float(not s.anchor) for s in self.signals] or [0.0]))

    def forward(self, outcome_B: Tensor) -> Tensor:
        return outcome_B[:, None] * (self.kappa_J * self.free_J)
