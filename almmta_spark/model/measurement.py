"""The mediator read from many entangled signals: learned heads, and a factor model of what they say.

Session features are no list of proxies with a line each: intent, device and mood are in all of them. So each of G heads
reads a group of its own signals, h_g = head_g(signals of group g), learned to correlate with mu(T, X) once X is taken
out (half of canonical correlation analysis; mu is the other half), and, where an adversary says so, to tell nothing of
what it must not carry (adversary.py). The heads are then measurements as signals are:

    h = a + l m + eta w + U f + e,      f ~ N(0, I_R) common nuisances,  e ~ N(0, diag)

Groups share no signal, so what heads have in common beyond m and w is the nuisances' part: more heads tell m's noise
from nuisances better, and on that rests the size of the effects. The likelihood does not move the heads: it would
make them easy to predict.

B journeys, J outcome proxies, A signals that heads read, G heads, H hidden units, R nuisance factors, N nodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.model import initialise

HIDDEN = 16
"""Hidden units of a head."""
FACTORS = 3
"""R: common nuisance factors."""
SIGNAL_UNIT = 0.5
"""About the standard deviation of a signal (log(1 + count), or 0 and 1): what heads divide it by."""


def read_by_heads(spec: ExampleSpec) -> list[int]:
    """Outcome proxies that heads may read: the anchors where some are declared, for heads cannot take kappa out."""
    anchors = [j for j, signal in enumerate(spec.outcome_proxies) if signal.anchor]
    return anchors or list(range(len(spec.outcome_proxies)))


def uses_heads(spec: ExampleSpec, conf: ModelConfig) -> bool:
    """Where every head has at least two signals."""
    return conf.signal_heads > 0 and len(read_by_heads(spec)) >= 2 * conf.signal_heads


def as_signals(spec: ExampleSpec, num_heads: int) -> tuple[Signal, ...]:
    """The heads in place of the outcome proxies."""
    anchor = any(signal.anchor for signal in spec.outcome_proxies)
    return tuple(Signal(f"head_{g}", "real", anchor) for g in range(num_heads))


@dataclass(frozen=True)
class HeadValues:
    """What the heads say of a batch."""

    value_BG: Tensor
    tracking_B: Tensor
    """Cost of keeping track of the heads' location and scale."""


class SignalHeads(nn.Module):
    """h_g = s . x_g + v . tanh(W x_g + b), standardised; x_g the signals j of the group with j mod G = g."""

    index_A: Tensor
    count_A: Tensor
    group_GA: Tensor

    def __init__(self, spec: ExampleSpec, num_heads: int) -> None:
        super().__init__()
        self.index = read_by_heads(spec)
        self.signals, size = spec.outcome_proxies, len(self.index)
        self.skip_GA = nn.Parameter(torch.empty(num_heads, size))
        self.first_GAH = nn.Parameter(torch.empty(num_heads, size, HIDDEN))
        self.bias_GH = nn.Parameter(torch.empty(num_heads, HIDDEN))
        self.second_GH = nn.Parameter(torch.empty(num_heads, HIDDEN))
        self.centre_G = nn.Parameter(torch.empty(num_heads))
        self.log_scale_G = nn.Parameter(torch.empty(num_heads))
        self.register_buffer("index_A", torch.empty(size, dtype=torch.int64), persistent=False)
        self.register_buffer("count_A", torch.empty(size), persistent=False)
        self.register_buffer("group_GA", torch.empty(num_heads, size), persistent=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """A head starts near the plain sum of its signals, as what follows inspiration mostly rises with it."""
        heads, size = self.group_GA.shape
        initialise.fill(self.skip_GA, 0.3)
        initialise.normal(self.first_GAH, 1 / math.sqrt(max(1, size // heads)), generator)
        initialise.normal(self.bias_GH, 0.3, generator)
        initialise.normal(self.second_GH, 0.05, generator)
        initialise.fill(self.centre_G, 0.0)
        initialise.fill(self.log_scale_G, 0.0)
        with torch.no_grad():
            self.index_A.copy_(torch.tensor(self.index))
            self.count_A.copy_(torch.tensor([float(self.signals[j].kind == "count") for j in self.index]))
            self.group_GA.copy_(torch.eye(heads).repeat(1, -(-size // heads))[:, :size])

    def forward(self, signals_BJ: Tensor) -> HeadValues:
        """In training a batch is standardised by its own moments; a fitted head by those that its parameters have
        tracked, so that a journey's heads do not depend on who shares its batch.
        """
        plain_BA = signals_BJ[:, self.index_A]
        value_BA = torch.where(self.count_A > 0, torch.log1p(plain_BA), plain_BA) / SIGNAL_UNIT
        value_BGA = value_BA[:, None, :] * self.group_GA
        hidden_BGH = torch.tanh(torch.einsum("bga,gah->bgh", value_BGA, self.first_GAH) + self.bias_GH)
        raw_BG = (value_BGA * self.skip_GA).sum(-1) + (hidden_BGH * self.second_GH).sum(-1)
        tracked_BG = (raw_BG.detach() - self.centre_G) * torch.exp(-self.log_scale_G)
        cost_B = (0.5 * tracked_BG.square() + self.log_scale_G).sum(1)
        if not self.training:
            return HeadValues(tracked_BG, cost_B)
        centred_BG = raw_BG - raw_BG.mean(0)
        return HeadValues(centred_BG / (centred_BG.square().mean(0) + 1e-6).sqrt(), cost_B)


class FactorEmission(nn.Module):
    """log N(h; a + l m + eta w + leak, U U' + diag(sd^2)) at every node, by the matrix inversion lemma: cost R^2."""

    def __init__(self, num_heads: int, num_factors: int = FACTORS) -> None:
        super().__init__()
        self.intercept_J = nn.Parameter(torch.empty(num_heads))
        self.loading_J = nn.Parameter(torch.empty(num_heads))
        self.log_sd_J = nn.Parameter(torch.empty(num_heads))
        self.factor_JR = nn.Parameter(torch.empty(num_heads, num_factors))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Nuisances start large and loadings small: else m may settle on a nuisance, which no touch moves."""
        initialise.fill(self.intercept_J, 0.0)
        initialise.fill(self.loading_J, 0.1)
        initialise.fill(self.log_sd_J, -0.1)
        initialise.normal(self.factor_JR, 0.4, generator)

    def forward(
        self,
        mediator_BN: Tensor,
        heads_BJ: Tensor,
        intent: tuple[Tensor, Tensor] | None = None,
        leak_BJ: Tensor | None = None,
    ) -> Tensor:
        """Log-likelihood of the heads at every node, [B, N]; intent: w_BN and eta_J; leak_BJ adds to the means."""
        mean_BNJ = self.intercept_J + mediator_BN[..., None] * self.loading_J
        if intent is not None:
            mean_BNJ = mean_BNJ + intent[0][..., None] * intent[1]
        if leak_BJ is not None:
            mean_BNJ = mean_BNJ + leak_BJ[:, None, :]
        rest_BNJ = heads_BJ[:, None, :] - mean_BNJ
        precision_J = torch.exp(-2 * self.log_sd_J)
        weighed_JR = self.factor_JR * precision_J[:, None]
        inner_RR = torch.eye(weighed_JR.shape[1], device=heads_BJ.device) + self.factor_JR.T @ weighed_JR
        lower_RR = torch.linalg.cholesky(inner_RR)
        one_RR = torch.eye(lower_RR.shape[0], device=heads_BJ.device)
        inverse_RR = torch.linalg.solve_triangular(lower_RR, one_RR, upper=False)
        explained_BNR = (rest_BNJ @ weighed_JR) @ inverse_RR.T
        squared_BN = (rest_BNJ.square() * precision_J).sum(-1) - explained_BNR.square().sum(-1)
        log_det = 2 * self.log_sd_J.sum() + 2 * lower_RR.diagonal().log().sum()
        return -0.5 * (squared_BN + log_det + math.log(2 * math.pi) * len(self.loading_J))
