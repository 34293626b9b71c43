"""The outcome given mediator, touches and covariates: logit p(Y | m, T, X) = g0(T, X) + b(X) m, b > 0.

B journeys, D covariates, K clusters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise

TYPICAL_MEDIATOR = 1.5
"""Mediator of a typical uploader. The outcome's line is hung up there, not at 0: a slope that turns around 0 must drag
its intercept along, and after 14 epochs it was still a tenth too flat."""
TYPICAL_INTENT = 0.8
"""The same of the intent."""


def base_logit(spec: ExampleSpec) -> float:
    """logit of the training rows' base rate, kept finite for one-class nights (those are refused before training)."""
    rate = min(max(spec.base_rate, 1e-6), 1 - 1e-6)
    return math.log(rate / (1 - rate))


class Slope(nn.Module):
    """b = softplus(c0 + c1 . X + c2 w_hat): inspiration helps some more than others, intenders among them, never less.

    The term in w_hat is allowed because removal_effect holds E[Y | m, T, X] at the journey's own T.
    signed: without softplus, of either sign (placebo.py says what for). Both begin at log 2 for everybody.
    """

    def __init__(self, spec: ExampleSpec, exposure_factor: bool = False, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed
        self.linear = nn.Linear(spec.num_covariates, 1)
        self.factor = nn.Parameter(torch.empty(())) if exposure_factor else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """log 2 = softplus(0) for everybody."""
        initialise.zero_linear(self.linear, bias=math.log(2) if self.signed else 0.0)
        if self.factor is not None:
            initialise.fill(self.factor, 0.0)

    def typical(self) -> Tensor:
        """b of a journey with average covariates."""
        return self._linked(self.linear.bias.squeeze())

    def forward(self, covariates_BD: Tensor, factor_B: Tensor | None = None) -> Tensor:
        """b of each journey, [B]."""
        need_B = self.linear(covariates_BD).squeeze(1)
        if self.factor is not None and factor_B is not None:
            need_B = need_B + self.factor * factor_B
        return self._linked(need_B)

    def _linked(self, need: Tensor) -> Tensor:
        return need if self.signed else F.softplus(need)


class DirectPart(nn.Module):
    """g0(T, X) = rho0(X) + sum_k omega_c(k) + w_hat (beta0 + beta1 . X): everything beside the mediator.

    It is what the back-door path through the hidden intent looks like from outside; a deletion leaves it as it is,
    because removal_effect compares p(m | T, X) with p(m | T without k, X) at the same E[Y | m, T, X].
    """

    def __init__(self, spec: ExampleSpec, exposure_factor: bool) -> None:
        super().__init__()
        self.bias_init = base_logit(spec)
        self.linear = nn.Linear(spec.num_covariates, 1)
        self.omega_K = nn.Parameter(torch.empty(len(spec.clusters)))
        self.factor = nn.Linear(spec.num_covariates, 1) if exposure_factor else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """The base rate, whoever and whatever."""
        initialise.zero_linear(self.linear, bias=self.bias_init)
        initialise.fill(self.omega_K, 0.0)
        if self.factor is not None:
            initialise.zero_linear(self.factor)

    def forward(self, covariates_BD: Tensor, counts_BK: Tensor, factor_B: Tensor | None) -> Tensor:
        """g0 of each journey, [B], from its covariates and touches by cluster."""
        direct_B = self.linear(covariates_BD).squeeze(1) + counts_BK @ self.omega_K
        if self.factor is None or factor_B is None:
            return direct_B
        return direct_B + factor_B * self.factor(covariates_BD).squeeze(1)
