"""The mediator: its mean given the touches, and the signals that are read as its measurement.

B journeys, L touchpoints, D covariates, J outcome proxies, A those of one kind, N nodes of the noises' grid.
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
        """No baseline; a link of unit scale and rho_init."""
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
    """log p(signals | m, w, Y) = sum_j Bernoulli or Poisson(a_j + l_j m + eta_j w + leak_j), kinds as the spec says."""

    def __init__(self, signals: tuple[Signal, ...]) -> None:
        super().__init__()
        self.signals = signals
        size = max(1, len(signals))  # a night without signals has one zero column, and it is never read
        self.intercept_J = nn.Parameter(torch.empty(size))
        self.loading_J = nn.Parameter(torch.empty(size))
        self.binary = [j for j, signal in enumerate(signals) if signal.kind != "count"]
        self.counts = [j for j, signal in enumerate(signals) if signal.kind == "count"]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Rare signals that follow the mediator a little."""
        initialise.fill(self.intercept_J, -2.0)
        initialise.fill(self.loading_J, 0.5)

    def forward(
        self,
        mediator_BN: Tensor,
        signals_BJ: Tensor,
        intent: tuple[Tensor, Tensor] | None = None,
        leak_BJ: Tensor | None = None,
    ) -> Tensor:
        """Log-likelihood of the signals at every node, [B, N]; intent: w_BN and eta_J; leak_BJ adds to the logits.

        Cost: the partition functions are most of training. Signals lie before nodes, so that memory is walked in rows,
        and what is linear in the latents is summed over the signals before it meets the nodes.
        """
        offset_BJ = self.intercept_J + (torch.zeros_like(signals_BJ) if leak_BJ is None else leak_BJ)

        def of(kind: list[int]) -> tuple[Tensor, ...]:
            eta = () if intent is None else (intent[1][kind],)
            return signals_BJ[:, kind], offset_BJ[:, kind], self.loading_J[kind], *eta

        def logits(offset_BA: Tensor, loading_A: Tensor, eta_A: Tensor | None = None) -> Tensor:
            logit_BAN = offset_BA[:, :, None] + loading_A[:, None] * mediator_BN[:, None, :]
            return logit_BAN if eta_A is None or intent is None else logit_BAN + eta_A[:, None] * intent[0][:, None, :]

        log_BN = torch.zeros_like(mediator_BN)
        if self.binary:
            value_BA, offset_BA, loading_A, *eta = of(self.binary)
            log_BN = (value_BA * offset_BA).sum(1)[:, None] + (value_BA @ loading_A)[:, None] * mediator_BN
            if intent is not None:
                log_BN = log_BN + (value_BA @ eta[0])[:, None] * intent[0]
            log_BN = log_BN - F.softplus(logits(offset_BA, loading_A, *eta)).sum(1)
        if self.counts:
            value_BA, *rest = of(self.counts)
            logit_BAN = logits(*rest).clamp(max=MAX_LOG_RATE)
            log_BN = log_BN + (value_BA[:, :, None] * logit_BAN - torch.exp(logit_BAN)).sum(1)
            log_BN = log_BN - torch.lgamma(value_BA + 1).sum(1)[:, None]
        return log_BN
