"""The hidden intent as a second latent, read from what users did before the touches (METHOD section 3).

    w = nu(T, X) + z,  z ~ N(0, 1)
    log p(Z | w)            = sum_z Bernoulli or Poisson(a_z + l_z w)
    log p(Y' | m, w, Y)     = sum_j Bernoulli or Poisson(a_j + l_j m + eta_j w + kappa_j Y)
    logit p(Y | m, w, T, X) = g0(T, X) + b m + gamma w

Z is from before the touches, so no touch caused it. What Z and Y' share given T and X tells eta: intent that shows in
the proxies, or moves the mediator itself, is then not taken for inspiration. nu(T, X) = E[w | T, X] is what serving
gave away of the intent; every journey's Z teaches it, where the outcome's own g0 lives from the few uploads.

B journeys, D covariates, J outcome proxies, K clusters, Z intent proxies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.mediator import SignalEmission


class HiddenIntent(nn.Module):
    """nu(T, X) = nu0 . X + nu1 w_hat + sum_k nu_c(k), the emission of Z, and what w does to proxies and outcome."""

    def __init__(self, spec: ExampleSpec, exposure_factor: bool) -> None:
        super().__init__()
        self.signals = SignalEmission(spec.intent_proxies)
        self.linear = nn.Linear(spec.num_covariates, 1, bias=False)  # a constant is the signals' own intercept
        self.served_K = nn.Parameter(torch.empty(len(spec.clusters)))
        self.factor = nn.Parameter(torch.empty(())) if exposure_factor else None
        self.eta_J = nn.Parameter(torch.empty(max(1, len(spec.outcome_proxies))))
        self.gamma = nn.Parameter(torch.empty(()))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """An intent that nothing tells and that moves the outcome a little."""
        self.signals.reset_parameters(generator)
        initialise.zero_linear(self.linear)
        for parameter in (
            (self.served_K, self.eta_J) if self.factor is None else (self.served_K, self.eta_J, self.factor)
        ):
            initialise.fill(parameter, 0.0)
        initialise.fill(self.gamma, 0.1)

    def forward(self, covariates_BD: Tensor, counts_BK: Tensor, factor_B: Tensor | None) -> Tensor:
        """nu(T, X), [B]."""
        nu_B = self.linear(covariates_BD).squeeze(1) + counts_BK @ self.served_K
        return nu_B if self.factor is None or factor_B is None else nu_B + self.factor * factor_B
