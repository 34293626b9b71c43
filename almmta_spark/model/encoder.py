"""Touches as stimuli that add up (METHOD section 3), so that deleting one is a subtraction.

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
from almmta_spark.model.pooling import PooledEffects, hashed_normal
from almmta_spark.model.quadrature import full_precision

AGE_UNIT_HOURS = 12.0
"""Ages enter the decay in this unit, so that rates of a day's and of an hour's memory are of similar size."""
FIRST_RATES = (0.25, 4.0)
"""Slowest and fastest decay at the start, per AGE_UNIT_HOURS: memories of two days and of three hours."""
SHARPNESS = 2.0
"""Of the two bends of the ramp, where it leaves 0 and where it reaches its ceiling."""
FIRST_CEILING = 5.0
"""The ramp's ceiling at the start: far above where most touches lie, so that it comes down where the data say so."""
STRENGTH_FLOOR = 0.05
"""Share of the clusters' mean strength below which a fitted one is silent: averaging the weights leaves a residue on
what inspires nobody, and it would rank above a true 0."""
GRADIENT_SHARPNESS = 8.0
"""Of the softplus whose gradient a strength has: 1/50 of the full one is left at -.5."""


@dataclass(frozen=True)
class Stimuli:
    """One number a touch; 0 in padding. A journey without touch k has the sums without entry k."""

    stimulus_BL: Tensor
    """g_k, summed into S under the concave link; >= 0 unless conf says signed."""
    mean_K: Tensor
    """Mean over the batch's journeys of what a fresh touch of each cluster would be."""
    pooling_cost_B: Tensor | None = None
    """Each journey's share of what item and author effects cost; None where conf has no such effects."""

    def total(self) -> Tensor:
        """S, [B]."""
        return self.stimulus_BL.sum(1)

    def without_each(self) -> Tensor:
        """S with each touch deleted in turn: [B, L], for the price of a subtraction."""
        return self.total()[:, None] - self.stimulus_BL


class StimulusEncoder(nn.Module):
    """g_k = s_k ramp(u0 + (Phi X) . e_k) * sum_r pi_r exp(-softplus(lambda_r) age_k): real time, no rank positions.

        s_k = max(0, s_c + f(content_k) + delta_item + delta_author)        e_k = delta_c + B content_k

    content_k is that of the touch's item; its cluster's mean where the item has none, or the night does not carry
    contents. What many touches share is fitted freely, what few share is pooled (model/pooling). s_k is cut at 0, not
    squeezed by a softplus: what inspires nobody then reaches exactly 0, where a softplus would leave it a residue that
    ranks above the weak but real stimuli of its journey. With conf.signed it is not cut: a touch may discourage.
    """

    content_KE: Tensor
    mean_E: Tensor

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.signed = conf.signed
        clusters, width, inputs = len(spec.clusters), conf.embedding_dim, spec.num_covariates
        self.strength_K = nn.Parameter(torch.empty(clusters))
        self.embedding_KR = nn.Parameter(torch.empty(clusters, width))
        self.level = nn.Parameter(torch.empty(()))
        self.ceiling = nn.Parameter(torch.empty(()))
        self.contents = spec.cluster_contents if conf.content_modulation else ()
        self.content_mean, self.content_scale = spec.content_mean, spec.content_scale
        self.content = self.strength_content = None
        if self.contents:
            length = len(self.contents[0])
            self.content = nn.Linear(length, width, bias=False)
            self.strength_content = ContentStrength(length, conf.content_hidden)
            self.register_buffer("content_KE", torch.empty(clusters, length), persistent=False)
            self.register_buffer("mean_E", torch.empty(length), persistent=False)
        self.items = PooledEffects(conf.item_rows, salt=1) if conf.item_rows else None
        self.authors = PooledEffects(conf.author_rows, salt=2) if conf.author_rows else None
        self.hidden = nn.Linear(inputs, conf.modulation_hidden) if conf.modulation_hidden else None
        self.modulation = nn.Linear(conf.modulation_hidden or inputs, width, bias=False)
        self.decay_rate = nn.Parameter(torch.empty(conf.num_decays))
        self.decay_mix = nn.Parameter(torch.empty(conf.num_decays))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """s ramp(u0) = .2, delta and B ~ N(0, .1), f = 0, rates spread geometrically over FIRST_RATES."""
        initialise.fill(self.level, 0.0)
        initialise.fill(self.ceiling, initialise.softplus_inverse(FIRST_CEILING))
        initialise.fill(self.strength_K, 0.2 * SHARPNESS / math.log(2))
        initialise.normal(self.embedding_KR, 0.1, generator)
        if self.content is not None and self.strength_content is not None:
            initialise.normal(self.content.weight, 0.1, generator)
            with torch.no_grad():
                self.content_KE.copy_(torch.tensor(self.contents))
                self.mean_E.copy_(torch.tensor(self.content_mean or (0.0,) * self.mean_E.numel()))
        if self.hidden is not None:
            initialise.linear(self.hidden, generator)
        initialise.linear(self.modulation, generator)
        initialise.fill(self.decay_mix, 0.0)
        slow, fast = FIRST_RATES
        steps = max(1, self.decay_rate.numel() - 1)
        with torch.no_grad():
            for r in range(self.decay_rate.numel()):
                self.decay_rate[r] = initialise.softplus_inverse(slow * (fast / slow) ** (r / steps))
        initialise.children(self, generator)

    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row per cluster, item or author."""
        effects = [effect.mean_N for effect in (self.items, self.authors) if effect is not None]
        return [self.strength_K, self.embedding_KR, *effects]

    def decay(self, age: Tensor) -> Tensor:
        """sum_r pi_r exp(-softplus(lambda_r) age), 1 at age 0, elementwise."""
        rates = F.softplus(self.decay_rate) / AGE_UNIT_HOURS
        return torch.exp(-age[..., None] * rates) @ torch.softmax(self.decay_mix, 0)

    def embedding(self) -> Tensor:
        """e_c, [K, R]: of a touch with its cluster's mean content."""
        return self.embedding_KR if self.content is None else self.embedding_KR + self.content(self.content_KE)

    def own_slopes(self) -> Tensor:
        """Phi' delta_c, [K, D] (or of the hidden units): how a cluster's own part of the modulation moves with X."""
        return self.embedding_KR @ self.modulation.weight

    def strength(self) -> Tensor:
        """s_c, [K]: of a touch with its cluster's mean content, of an item and author nobody has met."""
        return self._bounded(self._cluster_strength())

    def stimulus_at_once(self, covariates_BD: Tensor) -> Tensor:
        """What such a touch of each cluster just now would be to each journey, [B, K] (K is small beside L * R)."""
        modulation_BK = (self._modulation(covariates_BD) @ self.embedding().T).float()
        with full_precision(covariates_BD):
            return self._ramp(modulation_BK) * self.strength()

    def forward(self, batch: Batch, progress: float = 1.0) -> Stimuli:
        """progress: the share of training done. In training mode item and author effects are drawn, else their mean."""
        phi_BR = self._modulation(batch.covariates_BD)
        modulation_BK = (phi_BR @ self.embedding().T).float()
        ramp_BL, strength_BL = modulation_BK.gather(1, batch.cluster_BL), self._cluster_strength()[batch.cluster_BL]
        with full_precision(batch.age_BL):
            fresh_BK = self._ramp(modulation_BK) * self.strength()
            if batch.touch_embedding_BLE is not None and self.content and self.strength_content:
                own_BLE = self._own_content(batch.touch_embedding_BLE, batch.cluster_BL)
                content_BLE = self.content_KE[batch.cluster_BL] + own_BLE
                ramp_BL = ramp_BL + torch.einsum("be,ble->bl", phi_BR.float() @ self.content.weight, own_BLE)
                strength_BL = self.strength_K[batch.cluster_BL] + self.strength_content(content_BLE)
            pooled_BL, cost_B = self._pooled(batch, progress)
            kept_BL = self.decay(batch.age_BL) * batch.mask_BL
            stimulus_BL = self._bounded(strength_BL + pooled_BL) * self._ramp(ramp_BL) * kept_BL
        return Stimuli(stimulus_BL, fresh_BK.mean(0), cost_B)

    def _modulation(self, covariates_BD: Tensor) -> Tensor:
        phi: Tensor = self.modulation(covariates_BD if self.hidden is None else torch.tanh(self.hidden(covariates_BD)))
        return phi

    def _ramp(self, modulation: Tensor) -> Tensor:
        bend = SHARPNESS * (self.level + modulation)
        return (F.softplus(bend) - F.softplus(bend - SHARPNESS * F.softplus(self.ceiling))) / SHARPNESS

    def _cluster_strength(self) -> Tensor:
        if self.strength_content is None:
            return self.strength_K
        told_K: Tensor = self.strength_content(self.content_KE)
        return self.strength_K + told_K

    def _own_content(self, raw_BLE: Tensor, cluster_BL: Tensor) -> Tensor:
        """[B, L, E] an item's content less its cluster's mean, in the units of the means; 0 for an item without one."""
        own_BLE = (raw_BLE - self.mean_E) / self.content_scale - self.content_KE[cluster_BL]
        return own_BLE * (raw_BLE != 0).any(-1, keepdim=True)

    def _pooled(self, batch: Batch, progress: float) -> tuple[Tensor, Tensor | None]:
        """Sum of item and author effects of each touch, and each journey's share of their cost (0 once fitted)."""
        drawn = []
        for effects, id_BL, touches_BL in (
            (self.items, batch.item_BL, batch.item_touches_BL),
            (self.authors, batch.author_BL, batch.author_touches_BL),
        ):
            if effects is not None and self.training:
                noise_BL = hashed_normal(batch, progress, effects.salt)
                drawn.append(effects.draw(id_BL, touches_BL, noise_BL, progress))
            elif effects is not None:
                drawn.append(effects(id_BL))
        if not drawn:
            return torch.zeros_like(batch.age_BL), None
        delta_BL, cost_BL = (torch.stack(each).sum(0) for each in zip(*drawn, strict=True))
        return delta_BL, (cost_BL * batch.mask_BL).sum(1)

    def _bounded(self, strength: Tensor) -> Tensor:
        """Signed: s. Else max(0, s); in training with the gradient of a softplus, so that what fell below 0 can come
        back. Once fitted exactly 0 where |s| is below the floor."""
        if not self.training:
            floor = STRENGTH_FLOOR * self._in_bounds(self._cluster_strength()).abs().mean()
            bounded = self._in_bounds(strength)
            return torch.where(bounded.abs() < floor, torch.zeros_like(strength), bounded)
        if self.signed:
            return strength
        soft = F.softplus(GRADIENT_SHARPNESS * strength) / GRADIENT_SHARPNESS
        return soft + (F.relu(strength) - soft).detach()

    def _in_bounds(self, strength: Tensor) -> Tensor:
        return strength if self.signed else F.relu(strength)


class ContentStrength(nn.Module):
    """f(content) = w . content + v . tanh(A content + a), 0 at the start: what a content says of a touch's strength."""

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(length, 1, bias=False)
        self.hidden = nn.Linear(length, hidden) if hidden else None
        self.out = nn.Linear(hidden, 1, bias=False) if hidden else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Nothing added, whatever the content."""
        initialise.zero_linear(self.linear)
        if self.hidden is not None and self.out is not None:
            initialise.linear(self.hidden, generator)
            with torch.no_grad():  # bends spread over contents, which have unit mean square
                self.hidden.bias.uniform_(-1, 1, generator=generator)
            initialise.zero_linear(self.out)

    def forward(self, content: Tensor) -> Tensor:
        """[...] for contents [..., E]."""
        told: Tensor = self.linear(content)
        if self.hidden is not None and self.out is not None:
            told = told + self.out(torch.tanh(self.hidden(content)))
        return told.squeeze(-1)


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
