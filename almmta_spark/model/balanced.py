"""Variant `balanced`: the back-door model on a representation of the user that does not tell what was shown.

    r = tanh(A X + MLP(X))                                   in place of X, in all of the back-door model
    log lambda_c = pop_c + taste_c . r                       the adversary: touches of every cluster from r
    loss = nll(Y | T, r) + nll(T | reversed r)               strength balance_weight ramp(progress)

In the manner of CausalMTA (Yao, Gong, Zhang, Chen & Bi 2022), which takes its treatment-invariant representation from
counterfactual recurrent networks (Bica, Alaa, Jordon & van der Schaar 2020): with gradient reversal (Ganin & Lempitsky
2015) no linear reader of r can tell the clusters of the journey's touches. Balance removes what X says about exposure,
what X says about the effect with it, and no hidden intent, of which X says little.  B journeys, K clusters.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.backdoor import BackdoorModel, LogitOfSums
from almmta_spark.model.batch import Batch
from almmta_spark.model.encoder import Stimuli, cluster_counts
from almmta_spark.model.grad_reversal import ramp, reverse_gradient
from almmta_spark.model.quadrature import full_precision
from almmta_spark.model.rates import TouchRates, rates_nll


class BalancedModel(BackdoorModel):
    """Variant `balanced`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__(spec, conf)
        self.balance_weight = conf.balance_weight
        self.representation = Representation(spec.num_covariates, conf.hidden)
        self.adversary = TouchRates(spec.num_covariates, len(spec.clusters))
        self.reset_parameters()

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the back-door model, and the adversary's."""
        return initialise.split_groups(self, [*self.encoder.tables(), *self.adversary.tables()], [])

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms; progress (share of
        training done) drives the adversary's ramp and the encoder."""
        seen = self._balanced(batch)
        stimuli, logit = super()._encode(seen, progress)
        with full_precision(batch.age_BL):
            hidden_BD = reverse_gradient(seen.covariates_BD, self.balance_weight * ramp(progress))
            counts_BK = cluster_counts(batch, len(self.adversary.popularity_K))
            adversary_nll = losses.mean(rates_nll(self.adversary(hidden_BD), counts_BK), weight_B)
            return self._losses(batch, stimuli, logit(stimuli.total()), weight_B, adversary_nll=adversary_nll)

    def _encode(self, batch: Batch, progress: float = 1.0) -> tuple[Stimuli, LogitOfSums]:
        return super()._encode(self._balanced(batch), progress)

    def _balanced(self, batch: Batch) -> Batch:
        return replace(batch, covariates_BD=self.representation(batch.covariates_BD))


class Representation(nn.Module):
    """tanh(A X + MLP(X)), as wide as X; A is the identity and the MLP 0 at the start. Bounded, so that growing is no
    way to defeat the adversary."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, inputs)
        self.hidden, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, inputs, bias=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """The covariates themselves, under tanh."""
        initialise.zero_linear(self.linear)
        with torch.no_grad():
            self.linear.weight.fill_diagonal_(1.0)
        initialise.linear(self.hidden, generator)
        initialise.zero_linear(self.out)

    def forward(self, covariates_BD: Tensor) -> Tensor:
        """[B, D] -> [B, D], within (-1, 1)."""
        sum_BD: Tensor = self.linear(covariates_BD) + self.out(torch.relu(self.hidden(covariates_BD)))
        return torch.tanh(sum_BD.float())
