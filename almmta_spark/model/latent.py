"""Variant `latent`, the default: a stochastic mediator read from its proxies by exact marginal likelihood.

    m = mu(T, X) + x,  x ~ N(0, 1)                      w = nu(T, X) + z,  z ~ N(0, 1)      (w where there are Z)
    log p(Y' | m, w, Y) = sum_j Bernoulli or Poisson(a_j + l_j m + eta_j w + kappa_j Y)
    logit p(Y | m, w, T, X) = g0(T, X) + b(T, X) m + gamma w         b = softplus(c0 + c1 . X + c2 w_hat)
    loss = - mean log sum_n w_n p(Y' | m_n, w_n, Y) p(Z | w_n) p(Y | m_n, w_n, T, X)  -  mean log p(T | X)

METHOD section 3. kappa_j = 0 for anchor proxies. Signals are independent given the nodes, so a node pair costs one
term a signal, and Z's terms are shared by all nodes of x.
B journeys, L touchpoints, J outcome proxies, K clusters, N pairs of quadrature nodes, P nodes of z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses, measurement
from almmta_spark.model.adversary import HeadTeacher
from almmta_spark.model.batch import Batch
from almmta_spark.model.contrastive import UploadContent
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import Stimuli, StimulusEncoder, cluster_counts
from almmta_spark.model.exposure import ExposureFactor
from almmta_spark.model.intent import HiddenIntent
from almmta_spark.model.leak import OutcomeLeak
from almmta_spark.model.measurement import FactorEmission, HeadValues, SignalHeads
from almmta_spark.model.mediator import MediatorMean, SignalEmission
from almmta_spark.model.outcome import TYPICAL_INTENT, TYPICAL_MEDIATOR, DirectPart, Slope
from almmta_spark.model.quadrature import GaussHermite, GaussHermiteGrid, full_precision

SERVED_NODES = 5
"""Gauss-Hermite nodes over what a user might have been served."""


@dataclass(frozen=True)
class _Journey:
    """What the likelihood and the effects share: one encoding of a batch."""

    stimuli: Stimuli
    mu_B: Tensor
    nu_B: Tensor
    """Mean of the intent; 0 without intent proxies."""
    g0_B: Tensor
    """Everything of the outcome logit beside b m and gamma z: gamma nu is in it."""
    slope_B: Tensor
    factor_B: Tensor | None
    """w_hat of the exposure model."""
    exposure_log_B: Tensor | None


class LatentModel(nn.Module):
    """Variant `latent`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.num_clusters, self.num_rows, self.sparsity = len(spec.clusters), spec.num_training, conf.sparsity
        self.cluster_sd, self.factor_sd, self.modulation_sd = conf.cluster_sd, conf.factor_sd, conf.modulation_sd
        self.encoder = StimulusEncoder(spec, conf)
        self.mediator = MediatorMean(spec, conf)
        self.teacher = HeadTeacher(spec, conf)
        self.upload_content = UploadContent(spec, conf) if UploadContent.possible(spec, conf) else None
        self.heads = SignalHeads(spec, conf.signal_heads) if measurement.uses_heads(spec, conf) else None
        self.proxies: SignalEmission | FactorEmission = SignalEmission(spec.outcome_proxies)
        if self.heads is not None:
            self.proxies = FactorEmission(conf.signal_heads)
            spec = replace(spec, outcome_proxies=measurement.as_signals(spec, conf.signal_heads))
        self.direct = DirectPart(spec, conf.exposure_factor)
        self.slope = Slope(spec, conf.exposure_factor)
        self.exposure = ExposureFactor(spec, conf.quadrature_nodes) if conf.exposure_factor else None
        has_intent = conf.hidden_intent and bool(spec.intent_proxies)
        self.intent = HiddenIntent(spec, conf.exposure_factor) if has_intent else None
        self.leak = OutcomeLeak(spec) if conf.outcome_leak and spec.outcome_proxies else None
        self.grid = GaussHermiteGrid(conf.quadrature_nodes, conf.intent_nodes if has_intent else 1)
        self.quadrature = GaussHermite(conf.quadrature_nodes)
        self.served = GaussHermite(SERVED_NODES)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each part's own start."""
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """dense, sparse and leak parameters, for their learning rates."""
        tables = [*self.encoder.tables(), self.direct.omega_K]
        tables += [] if self.exposure is None else self.exposure.tables()
        tables += [] if self.intent is None else [self.intent.served_K]
        return initialise.split_groups(self, tables, [] if self.leak is None else list(self.leak.parameters()))

    def project(self) -> None:
        """After an optimiser step: parameters back into the set they may lie in. None of these has bounds."""

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms.

        progress, the share of training done, is used by item effects and by learned heads.
        """
        batch, heads = self._measured(batch)
        journey = self._encode(batch, progress)
        with full_precision(batch.age_BL):
            terms = {"nll": losses.mean(self._marginal_nll(journey, batch), weight_B)}
            terms["sparsity"] = losses.sparsity_cost(journey.stimuli.mean_K, self.sparsity, self.num_rows)
            for name, (values, sd) in self._priors().items():
                terms[f"ridge_{name}"] = losses.ridge_cost(values, sd, self.num_rows)
            if journey.stimuli.pooling_cost_B is not None:
                terms["pooling"] = losses.mean(journey.stimuli.pooling_cost_B, weight_B)
            if journey.exposure_log_B is not None:
                exposure_B = losses.exposure_nll(journey.exposure_log_B, batch.num_touches_B)
                terms["exposure_nll"] = losses.mean(exposure_B, weight_B)
            if self.upload_content is not None:
                given = (journey.stimuli.stimulus_BL.clamp_min(0), self.encoder.embedding(), weight_B)
                terms[self.upload_content.term] = self.upload_content(batch, *given)
            if heads is not None:
                beside = (journey.nu_B,) if journey.factor_B is None else (journey.nu_B, journey.factor_B)
                terms |= self.teacher.terms(heads, journey.mu_B, beside, batch, progress, weight_B)
        return losses.total(terms)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """tau_k = E sig(g0 + b (mu(T) + x) + gamma z) - E sig(g0 + b (mu(T without k) + x) + gamma z), from one
        encoding; x and z are independent N(0, 1), so their sum is one normal of variance b^2 + gamma^2."""
        batch, _ = self._measured(batch)
        journey = self._encode(batch)
        with full_precision(batch.age_BL):
            deleted_BL = self.mediator(batch.covariates_BD, journey.stimuli.without_each())
            p_outcome_B = self._p_outcome(journey.mu_B, journey.g0_B, journey.slope_B)
            p_deleted_BL = self._p_outcome(deleted_BL, journey.g0_B[:, None], journey.slope_B[:, None])
            p_do_B, p_do_deleted_BL = self._interventional(batch, journey.mu_B, deleted_BL)
            posterior_mean_B, _ = self.grid.posterior_means(self._proxies(journey, batch))
            leak_gain_B = self._leak_gain(journey, batch)
            moved_BL = (journey.mu_B[:, None] - deleted_BL) * batch.mask_BL
            _, intent_residual_B = self.grid.posterior_means(self._intents(journey, batch))
            inspires_BL = batch.mask_BL * (journey.stimuli.stimulus_BL != 0)  # what does not has no rounding either
        return from_probabilities(
            p_outcome_B,
            p_deleted_BL,
            inspires_BL,
            p_do_B,
            p_do_deleted_BL,
            mu_B=journey.mu_B,
            g0_B=journey.g0_B,
            slope_B=journey.slope_B,
            posterior_mean_B=posterior_mean_B,
            mediator_overlap_B=torch.exp(-moved_BL.square().amax(1)),
            leak_gain_B=leak_gain_B,
            intent_residual_B=None if self.intent is None else intent_residual_B,
        )

    def _measured(self, batch: Batch) -> tuple[Batch, HeadValues | None]:
        """The batch with heads, held still, in place of many outcome proxies; and the heads that can learn."""
        if self.heads is None:
            return batch, None
        with full_precision(batch.age_BL):
            heads: HeadValues = self.heads(batch.outcome_proxies_BJ)
        return replace(batch, outcome_proxies_BJ=heads.value_BG.detach()), heads

    def _encode(self, batch: Batch, progress: float = 1.0) -> _Journey:
        stimuli = self.encoder(batch, progress)
        with full_precision(batch.age_BL):
            counts_BK = cluster_counts(batch, self.num_clusters)
            factor_B, exposure_log_B = None, None
            if self.exposure is not None:
                factor_B, exposure_log_B = self.exposure(batch.covariates_BD, counts_BK)
            mu_B = self.mediator(batch.covariates_BD, stimuli.total())
            nu_B, g0_B, slope_B = self._outcome(batch.covariates_BD, counts_BK, factor_B)
            return _Journey(stimuli, mu_B, nu_B, g0_B, slope_B, factor_B, exposure_log_B)

    def _outcome(
        self, covariates_BD: Tensor, counts_BK: Tensor, factor_B: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """nu, g0 + gamma nu and b of journeys with these touches; the lines are hung up at a typical uploader."""
        slope_B = self.slope(covariates_BD, factor_B)
        g0_B = self.direct(covariates_BD, counts_BK, factor_B) - slope_B * TYPICAL_MEDIATOR
        if self.intent is None:
            return torch.zeros_like(g0_B), g0_B, slope_B
        nu_B = self.intent(covariates_BD, counts_BK, factor_B)
        return nu_B, g0_B + self.intent.gamma * (nu_B - TYPICAL_INTENT), slope_B

    def _priors(self) -> dict[str, tuple[Tensor, float]]:
        """What is pooled, and the standard deviation of its normal prior around nothing.

        How each cluster's own modulation moves with X. And what touches say beside the mediator: each cluster's own
        word is kept low, since few uploads speak for it and the exposure factor has said most; the exposure factor's
        own word, since the intent's proxies have.
        """
        priors: dict[str, tuple[Tensor, float]] = {
            "modulation": (self.encoder.own_slopes(), self.modulation_sd),
            "outcome": (self.direct.omega_K, self.cluster_sd),
        }
        if self.intent is not None:
            priors["intent"] = (self.intent.served_K, self.cluster_sd)
        if self.direct.factor is not None:
            factor = torch.cat([self.direct.factor.weight.flatten(), self.direct.factor.bias])
            priors["factor"] = (factor, self.factor_sd)
        return priors

    def _marginal_nll(self, journey: _Journey, batch: Batch, fitted_leak: bool = True) -> Tensor:
        """- log p(Y', Z, Y | T, X), [B]; fitted_leak = False: without what the data told of kappa."""
        m_BN = journey.mu_B[:, None] + self.grid.x_N
        logit_BN = journey.g0_B[:, None] + journey.slope_B[:, None] * m_BN + self._gamma() * self.grid.z_N
        leak_BJ = None
        if self.leak is not None:
            leak_BJ = self.leak(batch.outcome_B, self.proxies.loading_J, self.slope.typical(), fitted_leak)
        signals_BN = self._proxies(journey, batch, leak_BJ) + self._intents(journey, batch)
        return losses.marginal_nll(signals_BN, logit_BN, batch.outcome_B, self.grid)

    def _leak_gain(self, journey: _Journey, batch: Batch) -> Tensor | None:
        """Log likelihood that what was fitted of kappa gains on each journey, [B]. None without a leak term."""
        if self.leak is None:
            return None
        return self._marginal_nll(journey, batch, fitted_leak=False) - self._marginal_nll(journey, batch)

    def _proxies(self, journey: _Journey, batch: Batch, leak_BJ: Tensor | None = None) -> Tensor:
        """log p(Y' | m_n, w_n, Y), [B, N], with leak_BJ added to the logits for Y; None: of Y = 0."""
        intent = None
        if self.intent is not None:
            intent = journey.nu_B[:, None] + self.grid.z_N, self.intent.eta_J
        m_BN = journey.mu_B[:, None] + self.grid.x_N
        log_BN: Tensor = self.proxies(m_BN, batch.outcome_proxies_BJ, intent, leak_BJ)
        return log_BN

    def _intents(self, journey: _Journey, batch: Batch) -> Tensor:
        """log p(Z | w_n), [B, N]: computed once a node of z. 0 without intent proxies."""
        if self.intent is None:
            return torch.zeros_like(journey.mu_B)[:, None].expand(-1, len(self.grid.x_N))
        w_BP = journey.nu_B[:, None] + self.grid.z_P
        return self.grid.of_z(self.intent.signals(w_BP, batch.intent_proxies_BZ))

    def _gamma(self) -> Tensor:
        return torch.zeros_like(self.mediator.alpha) if self.intent is None else self.intent.gamma

    def _p_outcome(self, mu: Tensor, g0: Tensor, slope: Tensor, more_variance: Tensor | float = 0.0) -> Tensor:
        """E sig(g0 + slope (mu + x) + gamma z + a normal of more_variance)."""
        scale = (slope.square() + self._gamma().square() + more_variance).sqrt()
        return self.quadrature.expected_sigmoid(g0 + slope * mu, scale.expand_as(mu))

    def _interventional(self, batch: Batch, mu_B: Tensor, deleted_BL: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """P(Y | do(T), X) and the same without each touch: h(m, X) = E_{T' | X} p(Y | m, T', X) at both m.

        Pearl's front-door sum (1995) with T' from the exposure model. T' reaches the outcome through w_hat(T'), which
        given X is about N(0, v(X)), and through counts, a normal sum of the mean and variance that the exposure model
        gives at x = w_hat. None without an exposure model. Cost: SERVED_NODES times the deletions' own heads.
        """
        if self.exposure is None:
            return None, None
        intent_K = 0.0 if self.intent is None else self.intent.gamma * self.intent.served_K
        omega_K = self.direct.omega_K + intent_K
        sd_B = self.exposure.factor_variance(batch.covariates_BD).sqrt()
        p_do_B, p_do_deleted_BL = torch.zeros_like(mu_B), torch.zeros_like(deleted_BL)
        for node, weight in zip(self.served.x_Q, self.served.w_Q, strict=True):
            factor_B = sd_B * node
            counts_BK = self.exposure.expected_counts(batch.covariates_BD, factor_B)
            _, g0_B, slope_B = self._outcome(batch.covariates_BD, counts_BK, factor_B)
            noise_B = self.exposure.sum_variance(batch.covariates_BD, factor_B, omega_K)
            p_do_B = p_do_B + weight * self._p_outcome(mu_B, g0_B, slope_B, noise_B)
            columns = (value[:, None] for value in (g0_B, slope_B, noise_B))
            p_do_deleted_BL = p_do_deleted_BL + weight * self._p_outcome(deleted_BL, *columns)
        return p_do_B, p_do_deleted_BL
