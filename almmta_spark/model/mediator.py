"""The mediator: its mean given the touches, and the signals that are read as its measurement.

B journeys, L touchpoints, D covariates, J outcome proxies, Q quadrature nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.model import initialise
from almmta_spark.model.encoder import concave_link

MAX_LOG_RATE = 15.0
"""Poisson rates are held below exp(15): one overflow would make the whole batch infinite."""


class MediatorMean(nn.Module):
    """mu = r(X) + softplus(alpha) sign(S) ((1 + |S|)^rho - 1) / rho, rho <= 1: what discourages saturates alike."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.rho_init = conf.rho_init
        self.baseline = nn.Linear(spec.num_covariates, 1)
        self.alpha = nn.Parameter(torch.empty(()))
        self.one_minus_rho = nn.Parameter(torch.empty(()))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.zero_linear(self.baseline)
        initialise.fill(self.alpha, initialise.softplus_inverse(1.0))
        initialise.fill(self.one_minus_rho, initialise.softplus_inverse(max(1 - self.rho_init, 1e-3)))

    @property
    def rho(self) -> Tensor:
        return 1 - F.softplus(self.one_minus_rho)

    def forward(self, covariates_BD: Tensor, total: Tensor) -> Tensor:
        """Mean of the mediator for stimulus sums of shape [B] or, with each touch deleted, [B, L]."""
        baseline_B = self.baseline(covariates_BD).squeeze(1)
        baseline = baseline_B if total.ndim == 1 else baseline_B[:, None]
        return baseline + F.softplus(self.alpha) * total.sign() * concave_link(total.abs(), self.rho)


class SignalEmission(nn.Module):
    """log p(signals | m) = sum_j Bernoulli or Poisson(a_j + l_j m + shift_j), kinds as the spec says."""

    count_J: Tensor
    used_J: Tensor

    def __init__(self, signals: tuple[Signal, ...]) -> None:
        super().__init__()
        self.signals = signals
        size = max(1, len(signals))  # a night without signals has one zero column, and it is never read
        self.intercept_J = nn.Parameter(torch.empty(size))
        self.loading_J = nn.Parameter(torch.empty(size))
        self.register_buffer("count_J", torch.empty(size), persistent=False)
        self.register_buffer("used_J", torch.empty(size), persistent=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.fill(self.intercept_J, -2.0)
        initialise.fill(self.loading_J, 0.5)
        with torch.no_grad():
            self.count_J.copy_(torch.tensor([float(s.kind == "count") for s in self.signals] or [0.0]))
            self.used_J.fill_(1.0 if self.signals else 0.0)

    def forward(self, mediator_BQ: Tensor, signals_BJ: Tensor, shift_BQJ: Tensor | None = None) -> Tensor:
        """Log-likelihood of the signals at every node, [B, Q]; shift adds to the logits (leaks), and broadcasts."""
        logit_BQJ = self.intercept_J + mediator_BQ[..., None] * self.loading_J
        if shift_BQJ is not None:
            logit_BQJ = logit_BQJ + shift_BQJ
        return signal_log_likelihood(logit_BQJ, signals_BJ[:, None, :], self.count_J, self.used_J)


def signal_log_likelihood(logit: Tensor, value: Tensor, count_J: Tensor, used_J: Tensor) -> Tensor:
    """sum_j used_j [v logit - A(logit) - log v! (counts)], A = softplus (Bernoulli) or exp (Poisson)."""
    bounded = torch.where(count_J > 0, logit.clamp(max=MAX_LOG_RATE), logit)
    log_partition = torch.where(count_J > 0, torch.exp(logit.clamp(max=MAX_LOG_RATE)), F.softplus(bounded))
    constant = torch.lgamma(value + 1) * count_J
    return ((value * bounded - log_partition - constant) * used_J).sum(-1)
