"""Variants `backdoor` and `backdoor_ipw`: what adjusting for X alone gives. Same encoder, no mediator, no proxies.

    logit p(Y | T, X) = base rate + MLP(X) + b(X) mu(T, X),     removal_effect_k = sig(T) - sig(T without k)

`backdoor` is the outcome regression (the g-formula, Robins 1986). `backdoor_ipw` weighs its rows by the mean of their
touches' clipped, stabilised weights (Robins, Hernan & Brumback 2000): inverse propensity for what X explains of
exposure. Both are biased wherever a hidden intent drives touches and uploads (METHOD section 1).

B journeys, L touchpoints.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import Stimuli, StimulusEncoder
from almmta_spark.model.mediator import MediatorMean
from almmta_spark.model.outcome import Slope, base_logit
from almmta_spark.model.quadrature import full_precision


class Head(nn.Module):
    """One hidden layer, zero at the start except for its bias."""

    def __init__(self, inputs: int, hidden: int, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = bias
        self.hidden, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, 1)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """A constant: `bias` whatever the inputs."""
        initialise.linear(self.hidden, generator)
        initialise.zero_linear(self.out, bias=self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., inputs] -> [...]"""
        value: Tensor = self.out(torch.relu(self.hidden(inputs))).squeeze(-1)
        return value.float()


LogitOfSums = Callable[[Tensor], Tensor]
"""The outcome's logit as a function of the stimulus sums of a journey, [B], or of parts of it, [B, n]."""


class BackdoorModel(nn.Module):
    """Variants `backdoor` and, with use_ipw, `backdoor_ipw`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.num_rows, self.sparsity, self.use_ipw = spec.num_training, conf.sparsity, conf.use_ipw
        self.encoder = StimulusEncoder(spec, conf)
        self.mediator = MediatorMean(spec, conf)
        self.slope = Slope(spec)
        self.baseline = Head(spec.num_covariates, conf.hidden, bias=base_logit(spec))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each part's own start."""
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """dense, sparse and leak parameters, for their learning rates."""
        return initialise.split_groups(self, self.encoder.tables(), [])

    def project(self) -> None:
        """After an optimiser step: parameters back into the set they may lie in. None of these has bounds."""

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms."""
        stimuli, logit = self._encode(batch, progress)
        with full_precision(batch.age_BL):
            return self._losses(batch, stimuli, logit(stimuli.total()), weight_B)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Deletion effects on p(Y | T, X), all from one encoding."""
        stimuli, logit = self._encode(batch)
        with full_precision(batch.age_BL):
            p_outcome_B = torch.sigmoid(logit(stimuli.total()))
            p_deleted_BL = torch.sigmoid(logit(stimuli.without_each()))
        return from_probabilities(p_outcome_B, p_deleted_BL, batch.mask_BL, p_outcome_B, p_deleted_BL)

    def _encode(self, batch: Batch, progress: float = 1.0) -> tuple[Stimuli, LogitOfSums]:
        stimuli, baseline_B = self.encoder(batch, progress), self.baseline(batch.covariates_BD)

        def logit(total: Tensor) -> Tensor:
            mu, slope_B = self.mediator(batch.covariates_BD, total), self.slope(batch.covariates_BD)
            lifted: Tensor = baseline_B + slope_B * mu if mu.ndim == 1 else baseline_B[:, None] + slope_B[:, None] * mu
            return lifted

        return stimuli, logit

    def _losses(
        self, batch: Batch, stimuli: Stimuli, logit_B: Tensor, weight_B: Tensor | None, **more: Tensor
    ) -> dict[str, Tensor]:
        ipw_B = losses.touch_weight(batch) if self.use_ipw else torch.ones_like(logit_B)
        terms = {
            "nll": losses.mean(ipw_B * losses.bernoulli_nll(logit_B, batch.outcome_B), weight_B),
            "sparsity": losses.sparsity_cost(stimuli.mean_K, self.sparsity, self.num_rows),
            **more,
        }
        if stimuli.pooling_cost_B is not None:
            terms["pooling"] = losses.mean(stimuli.pooling_cost_B, weight_B)
        share = {"effective_sample_share": losses.effective_sample_share(ipw_B)} if self.use_ipw else {}
        return losses.total(terms) | share
