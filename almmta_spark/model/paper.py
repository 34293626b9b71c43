"""Variant `paper`: ALM-MTA as published (arXiv 2605.08881): a deterministic mediator learned on its proxies.

    m = mu(T, X)                                        log p(Y' | m): the mediator's own target
    logit p(Y | m, T, X) = g0(T, X) + b(X) m            trained on what was observed
    discriminator of Y from m behind gradient reversal, strength lambda ramp(progress)
    InfoNCE on matched (touch, upload) pairs
    removal_effect_k = h(mu(T), X) - h(mu(T without k), X),   h(m, X) = mean over T' of p(Y | m, T', X)

It ranks well and its size is off (METHOD section 2, fact 1): m is only ever seen together with its own T.
B journeys, L touchpoints, K clusters, N neighbours, R embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.backdoor import Head
from almmta_spark.model.batch import Batch
from almmta_spark.model.contrastive import ContrastivePairs
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import StimulusEncoder, cluster_counts
from almmta_spark.model.frontdoor import JourneyBank, frontdoor_sum
from almmta_spark.model.grad_reversal import ramp, reverse_gradient
from almmta_spark.model.mediator import MediatorMean, SignalEmission
from almmta_spark.model.outcome import Slope, base_logit
from almmta_spark.model.quadrature import full_precision


class PaperModel(nn.Module):
    """Variants `paper`, `paper_lambda_0`, `_1` and `_5`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.conf, self.num_clusters, self.num_rows = conf, len(spec.clusters), spec.num_training
        self.encoder = StimulusEncoder(spec, conf)
        self.mediator = MediatorMean(spec, conf)
        self.proxies = SignalEmission(spec.outcome_proxies)
        self.treatment = TreatmentTable(spec, conf)
        self.direct = Head(spec.num_covariates + conf.embedding_dim, conf.hidden, bias=base_logit(spec))
        self.slope = Slope(spec)
        self.discriminator = Head(1, conf.hidden, bias=base_logit(spec))
        self.pairs = ContrastivePairs(spec, conf) if spec.embedding_length else None
        self.bank = JourneyBank(spec, conf)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each part's own start."""
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """dense, sparse and leak parameters, for their learning rates."""
        tables = [*self.encoder.tables(), self.treatment.value_KR]
        return initialise.split_groups(self, tables, [])

    def project(self) -> None:
        """After an optimiser step: parameters back into the set they may lie in. None of these has bounds."""

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over rows, weighed by weight_B (None: all 1), and its terms; progress drives the adversary's ramp.

        progress: share of training done. The inverse-propensity weights of conf.use_ipw multiply weight_B.
        """
        counts_BK = cluster_counts(batch, self.num_clusters)
        if self.training:
            self.bank.remember(batch, counts_BK)
        stimuli, g0_B = self.encoder(batch, progress), self._g0(batch.covariates_BD, counts_BK)
        with full_precision(batch.age_BL):
            mu_B = self.mediator(batch.covariates_BD, stimuli.total())
            logit_B = g0_B + self.slope(batch.covariates_BD) * mu_B
            ipw_B = losses.touch_weight(batch) if self.conf.use_ipw else torch.ones_like(mu_B)
            proxies_B = self.proxies(mu_B[:, None], batch.outcome_proxies_BJ).squeeze(1)
            hidden_B1 = reverse_gradient(mu_B, self.conf.adversary_weight * ramp(progress))[:, None]
            terms = {
                "nll": losses.mean(ipw_B * losses.bernoulli_nll(logit_B, batch.outcome_B), weight_B),
                "proxy_nll": -losses.mean(ipw_B * proxies_B, weight_B),
                "adversary_nll": losses.mean(
                    losses.adversary_nll(self.discriminator(hidden_B1), batch.outcome_B), weight_B
                ),
                "sparsity": losses.sparsity_cost(stimuli.mean_K, self.conf.sparsity, self.num_rows),
            }
            if stimuli.pooling_cost_B is not None:
                terms["pooling"] = losses.mean(stimuli.pooling_cost_B, weight_B)
            if self.pairs is not None:
                contrast = self.pairs(batch, self.encoder.embedding(), weight_B)
                terms["contrastive"] = self.conf.contrastive_weight * contrast
        return losses.total(terms) | {"effective_sample_share": losses.effective_sample_share(ipw_B)}

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Front-door deletion effects: the bank's T' are chosen once a journey, a deletion moves m alone."""
        with full_precision(batch.age_BL):
            counts_BK = cluster_counts(batch, self.num_clusters)
            stimuli = self.encoder(batch)
            mu_B = self.mediator(batch.covariates_BD, stimuli.total())
            deleted_BL = self.mediator(batch.covariates_BD, stimuli.without_each())
            slope_B = self.slope(batch.covariates_BD)
            embedding_KR = self.encoder.embedding()
            content_KR = embedding_KR if self.pairs is None else self.pairs.touch(embedding_KR)
            chosen_BN = self.bank.neighbours(batch, counts_BK, content_KR)
            others_BNR = self.treatment(self.bank.counts_MK)[chosen_BN]
            covariates_BND = batch.covariates_BD[:, None].expand(-1, chosen_BN.shape[1], -1)
            g0_BN = self.direct(torch.cat([covariates_BND, others_BNR], dim=-1))
            p_outcome_B = frontdoor_sum(g0_BN, slope_B * mu_B)
            p_deleted_BL = frontdoor_sum(g0_BN, slope_B[:, None] * deleted_BL)
            g0_B = self._g0(batch.covariates_BD, counts_BK)
        pieces = {"mu_B": mu_B, "g0_B": g0_B, "slope_B": slope_B}
        return from_probabilities(p_outcome_B, p_deleted_BL, batch.mask_BL, p_outcome_B, p_deleted_BL, **pieces)

    def _g0(self, covariates: Tensor, counts: Tensor) -> Tensor:
        return self.direct(torch.cat([covariates, self.treatment(counts)], dim=-1))


class TreatmentTable(nn.Module):
    """A journey's treatment as the sum of a vector per touch: what g0 sees of T."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.value_KR = nn.Parameter(torch.empty(len(spec.clusters), conf.embedding_dim))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Random, small."""
        initialise.normal(self.value_KR, 0.1, generator)

    def forward(self, counts: Tensor) -> Tensor:
        """Counts by cluster [..., K] -> [..., R]."""
        return counts @ self.value_KR
