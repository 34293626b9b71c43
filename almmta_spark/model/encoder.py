"""Touches as non-negative stimuli (METHOD section 3), so that deleting one is a subtraction.

B journeys, L touchpoints, D covariates, R embedding width, K clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.batch import Batch
from almmta_spark.model.quadrature import full_precision

AGE_UNIT_HOURS = 12.0
"""Ages enter the decay in this unit, so that rates of a day's and of an hour's memory are of similar size."""
FIRST_RATES = (0.25, 4.0)
"""Slowest and fastest decay at the start, per AGE_UNIT_HOURS: memories of two days and of three hours."""
SHARPNESS = 2.0
"""Of the modulation softplus(SHARPNESS u) / SHARPNESS: nearer to a ramp, a weak touch is not floored at softplus(0)."""
STRENGTH_FLOOR = 0.05
"""Share of the mean strength below which a fitted strength counts as 0: averaging the weights leaves a residue on
clusters that inspire nobody, and it would rank above a true 0."""


@dataclass(frozen=True)
class Stimuli:
    """One number a touch; 0 in padding. A journey without touch k has the sums without entry k."""

    positive_BL: Tensor
    """g_k >= 0, summed into S under the concave link."""
    signed_BL: Tensor | None
    """Linear contribution to the mediator, of either sign; None where conf has no signed term."""
    mean_K: Tensor
    """Mean over the batch's journeys of what a fresh touch of each cluster would be."""

    def total(self) -> tuple[Tensor, Tensor | None]:
        """Sums over the journey: [B]."""
        return self.positive_BL.sum(1), None if self.signed_BL is None else self.signed_BL.sum(1)

    def without_each(self) -> tuple[Tensor, Tensor | None]:
        """The sums with each touch deleted in turn: [B, L], for the price of a subtraction."""
        positive_B, signed_B = self.total()
        left_BL = (positive_B[:, None] - self.positive_BL).clamp_min(0)  # rounding alone can make it negative
        if self.signed_BL is None or signed_B is None:
            return left_BL, None
        return left_BL, signed_B[:, None] - self.signed_BL


class StimulusEncoder(nn.Module):
    """g_k = s_c ramp(u0 + (Phi X) . e_c) * sum_r pi_r exp(-softplus(lambda_r) age_k): real time, no rank positions.

    s_c >= 0 by projection, not by a softplus: a cluster that inspires nobody then reaches exactly 0, where a softplus
    would leave it a residue that ranks above the weak but real stimuli of its journey. Where items have contents,
    e_c = B content_c + delta_c: what a cluster does to whom is partly told by what it is about, which helps where
    few users of a kind were shown it.
    """

    content_KE: Tensor

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.signed = conf.signed
        clusters, width, inputs = len(spec.clusters), conf.embedding_dim, spec.num_covariates
        self.strength_K = nn.Parameter(torch.empty(clusters))
        self.embedding_KR = nn.Parameter(torch.empty(clusters, width))
        self.level = nn.Parameter(torch.empty(()))
        if conf.signed:
            self.signed_K = nn.Parameter(torch.empty(clusters))
        self.contents = spec.cluster_contents if conf.content_modulation else ()
        self.content = nn.Linear(len(self.contents[0]), width, bias=False) if self.contents else None
        if self.contents:
            self.register_buffer("content_KE", torch.empty(clusters, len(self.contents[0])), persistent=False)
        self.hidden = nn.Linear(inputs, conf.modulation_hidden) if conf.modulation_hidden else None
        self.modulation = nn.Linear(conf.modulation_hidden or inputs, width, bias=False)
        self.decay_rate = nn.Parameter(torch.empty(conf.num_decays))
        self.decay_mix = nn.Parameter(torch.empty(conf.num_decays))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """s ramp(u0) = .2, delta and B ~ N(0, .1), rates spread geometrically over FIRST_RATES."""
        initialise.fill(self.level, 0.0)
        initialise.fill(self.strength_K, 0.2 * SHARPNESS / math.log(2))
        initialise.normal(self.embedding_KR, 0.1, generator)
        if self.signed:
            initialise.fill(self.signed_K, 0.0)
        if self.content is not None:
            initialise.normal(self.content.weight, 0.1, generator)
            with torch.no_grad():
                self.content_KE.copy_(torch.tensor(self.contents))
        if self.hidden is not None:
            initialise.linear(self.hidden, generator)
        initialise.linear(self.modulation, generator)
        initialise.fill(self.decay_mix, 0.0)
        slow, fast = FIRST_RATES
        steps = max(1, self.decay_rate.numel() - 1)
        with torch.no_grad():
            for r in range(self.decay_rate.numel()):
                self.decay_rate[r] = initialise.softplus_inverse(slow * (fast / slow) ** (r / steps))

    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row per cluster."""
        return [self.strength_K, self.embedding_KR] + ([self.signed_K] if self.signed else [])

    def decay(self, age: Tensor) -> Tensor:
        """sum_r pi_r exp(-softplus(lambda_r) age), 1 at age 0, elementwise."""
        rates = F.softplus(self.decay_rate) / AGE_UNIT_HOURS
        return torch.exp(-age[..., None] * rates) @ torch.softmax(self.decay_mix, 0)

    def project(self) -> None:
        """Moves strengths that an optimiser step made negative back to 0, where their gradient is alive."""
        with torch.no_grad():
            self.strength_K.clamp_(min=0)

    def strength(self) -> Tensor:
        """s_c, [K]; once fitted (in eval mode) exactly 0 below the floor."""
        strength_K = self.strength_K.clamp(min=0)
        if self.training:
            return strength_K
        return torch.where(strength_K < STRENGTH_FLOOR * strength_K.mean(), torch.zeros_like(strength_K), strength_K)

    def embedding(self) -> Tensor:
        """e_c, [K, R]."""
        return self.embedding_KR if self.content is None else self.embedding_KR + self.content(self.content_KE)

    def stimulus_at_once(self, covariates_BD: Tensor) -> Tensor:
        """What a touch of each cluster just now would be to each journey, [B, K] (K is small beside L * R)."""
        inputs = covariates_BD if self.hidden is None else torch.tanh(self.hidden(covariates_BD))
        modulation_BK = (self.modulation(inputs) @ self.embedding().T).float()
        with full_precision(covariates_BD):
            return F.softplus(SHARPNESS * (self.level + modulation_BK)) / SHARPNESS * self.strength()

    def forward(self, batch: Batch) -> Stimuli:
        fresh_BK = self.stimulus_at_once(batch.covariates_BD)
        with full_precision(batch.age_BL):
            kept_BL = self.decay(batch.age_BL) * batch.mask_BL
        signed_BL = self.signed_K[batch.cluster_BL] * kept_BL if self.signed else None
        return Stimuli(fresh_BK.gather(1, batch.cluster_BL) * kept_BL, signed_BL, fresh_BK.mean(0))


def concave_link(total: Tensor, rho: Tensor) -> Tensor:
    """((1 + S)^rho - 1) / rho as expm1(rho log1p S) / rho, with its limit log1p S at rho = 0 (Box & Cox 1964).

    Near 0 the second-order series is used: the quotient would lose the gradient in rho.
    """
    z = torch.log1p(total)
    small = rho.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(rho), rho)
    return torch.where(small, z * (1 + rho * z / 2), torch.expm1(safe * z) / safe)


def cluster_counts(batch: Batch, num_clusters: int) -> Tensor:
    """Touches of each cluster in each journey, [B, K], padding not counted."""
    counts_BK = batch.age_BL.new_zeros(batch.size, num_clusters)
    return counts_BK.scatter_add_(1, batch.cluster_BL, batch.mask_BL)
