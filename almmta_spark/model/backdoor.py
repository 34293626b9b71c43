"""Variant `backdoor`: what adjusting for X alone gives. Same encoder, no mediator, no proxies; a baseline.

    logit p(Y | T, X) = base rate + MLP(X) + b(X) mu(T, X),     removal_effect_k = sig(T) - sig(T without k)

Biased wherever a hidden intent drives both touches and uploads (METHOD section 1). B journeys, L touchpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.encoder import StimulusEncoder
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
        initialise.linear(self.hidden, generator)
        initialise.zero_linear(self.out, bias=self.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        value: Tensor = self.out(torch.relu(self.hidden(inputs))).squeeze(-1)
        return value.float()


class BackdoorModel(nn.Module):
    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.num_rows, self.sparsity = spec.num_training, conf.sparsity
        self.encoder = StimulusEncoder(spec, conf)
        self.mediator = MediatorMean(spec, conf)
        self.slope = Slope(spec)
        self.baseline = Head(spec.num_covariates, conf.hidden, bias=base_logit(spec))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return initialise.split_groups(self, self.encoder.tables(), [])

    def project(self) -> None:
        """After an optimiser step: parameters back into the set they may lie in."""
        self.encoder.project()

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms; progress is not used."""
        stimuli, baseline_B = self.encoder(batch), self.baseline(batch.covariates_BD)
        with full_precision(batch.age_BL):
            mu_B = self.mediator(batch.covariates_BD, *stimuli.total())
            logit_B = self._logit(batch, baseline_B, mu_B)
            terms = {
                "nll": losses.mean(losses.bernoulli_nll(logit_B, batch.outcome_B), weight_B),
                "sparsity": losses.sparsity_cost(stimuli.mean_K, self.sparsity, self.num_rows),
            }
        return losses.total(terms)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Deletion effects on p(Y | T, X), all from one encoding."""
        stimuli, baseline_B = self.encoder(batch), self.baseline(batch.covariates_BD)
        with full_precision(batch.age_BL):
            mu_B = self.mediator(batch.covariates_BD, *stimuli.total())
            deleted_BL = self.mediator(batch.covariates_BD, *stimuli.without_each())
            p_outcome_B = torch.sigmoid(self._logit(batch, baseline_B, mu_B))
            p_deleted_BL = torch.sigmoid(self._logit(batch, baseline_B, deleted_BL))
        return from_probabilities(p_outcome_B, p_deleted_BL, batch.mask_BL, p_outcome_B, p_deleted_BL)

    def _logit(self, batch: Batch, baseline_B: Tensor, mu: Tensor) -> Tensor:
        slope_B = self.slope(batch.covariates_BD)
        if mu.ndim == 1:
            return baseline_B + slope_B * mu
        return baseline_B[:, None] + slope_B[:, None] * mu
