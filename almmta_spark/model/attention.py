"""Variant `attention`: a recurrent network over the touches with attention, and what masking a touch does to it.

    h_t = GRU(h_{t-1}; e_c(t), age_t, X)                     oldest touch first (Cho et al. 2014)
    a_t = softmax_t( v . tanh(W h_t) )                       additive attention (Bahdanau, Cho & Bengio 2015)
    logit p(Y | T, X) = MLP( sum_t a_t h_t, X )

After DNAMTA (Li et al. 2018, arXiv 1809.02230) and ARNN (Ren et al. 2018), which read credit off the attention itself;
here a touch's effect is what its deletion does, as for every other model. No mediator and no proxies: as biased by a
hidden intent as the back door.

Deletions: a journey without touch k has the same states up to k, so step t is taken for t + 1 states at once, the whole
journey's and one for each touch deleted before. Cost: (L + 2) / 2 passes over the journey for all L deletions, not L;
attention is summed up as the states come, so memory is [B, L, H].

B journeys, L touchpoints, R embedding width, H hidden width, G = 3 H gates, V journeys with a touch deleted or none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise, losses
from almmta_spark.model.backdoor import Head
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects, from_probabilities
from almmta_spark.model.outcome import base_logit
from almmta_spark.model.quadrature import full_precision

AGE_SCALES_HOURS = (2.0, 8.0, 32.0)
"""A touch's age enters as exp(-age / scale) for each: from what just happened to what was yesterday."""


PACE = 0.2
"""Of the rates at which the encoder of stimuli is best trained; at those a recurrent network fits the noise."""


class AttentionModel(nn.Module):
    """Variant `attention`."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.touches = TouchInputs(spec, conf)
        self.states = AttendedStates(conf.hidden)
        self.head = Head(conf.hidden + spec.num_covariates, conf.hidden, bias=base_logit(spec))
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each part's own start."""
        initialise.children(self, generator)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """dense, sparse and leak parameters, for their learning rates."""
        return initialise.split_groups(self, [self.touches.embedding_KR], [])

    def project(self) -> None:
        """After an optimiser step: nothing here is bounded."""

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss over the batch's rows, weighed by weight_B (None: all 1), and its terms; progress is not used."""
        logit_B1 = self._logit(batch, deletions=False)
        return losses.total({"nll": losses.mean(losses.bernoulli_nll(logit_B1[:, 0], batch.outcome_B), weight_B)})

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Deletion effects on p(Y | T, X) by masking; (L + 2) / 2 times the forward pass."""
        p_BV = torch.sigmoid(self._logit(batch, deletions=True))
        return from_probabilities(p_BV[:, 0], p_BV[:, 1:], batch.mask_BL, p_BV[:, 0], p_BV[:, 1:])

    def _logit(self, batch: Batch, deletions: bool) -> Tensor:
        gates_BLG = self.touches(batch)
        with full_precision(batch.age_BL):
            context_BVH = self.states(gates_BLG.float(), batch.mask_BL, deletions)
        covariates_BVD = batch.covariates_BD[:, None].expand(-1, context_BVH.shape[1], -1)
        logit_BV: Tensor = self.head(torch.cat([context_BVH, covariates_BVD], dim=-1))
        return logit_BV


class SlowLinear(nn.Linear):
    """A linear layer whose parameters are held as value / PACE, so that Adam moves the values at PACE times its rate
    (equalised learning rate, Karras et al. 2018)."""

    def initialise(self, generator: torch.Generator | None) -> None:
        """As any linear layer, in these units."""
        initialise.linear(self, generator)
        with torch.no_grad():
            self.weight.div_(PACE)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        return F.linear(inputs, self.weight * PACE, self.bias * PACE)


class TouchInputs(nn.Module):
    """What a touch contributes to the gates of its step: one product for all touches, deleted or not."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.embedding_KR = nn.Parameter(torch.empty(len(spec.clusters), conf.embedding_dim))
        inputs = conf.embedding_dim + len(AGE_SCALES_HOURS) + spec.num_covariates
        self.linear = SlowLinear(inputs, 3 * conf.hidden)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Random clusters, random gates."""
        initialise.normal(self.embedding_KR, 0.5, generator)
        self.linear.initialise(generator)

    def forward(self, batch: Batch) -> Tensor:
        """What the gates of each touch get, [B, L, G]."""
        ages_BLA = torch.stack([torch.exp(-batch.age_BL / scale) for scale in AGE_SCALES_HOURS], dim=-1)
        covariates_BLD = batch.covariates_BD[:, None].expand(-1, batch.age_BL.shape[1], -1)
        gates_BLG: Tensor = self.linear(torch.cat([self.embedding_KR[batch.cluster_BL], ages_BLA, covariates_BLD], -1))
        return gates_BLG


class AttendedStates(nn.Module):
    """Gated recurrent steps and the attention-weighted mean of their states."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.recurrent = SlowLinear(hidden, 3 * hidden)
        self.attention = SlowLinear(hidden, hidden)
        self.score_H = nn.Parameter(torch.empty(hidden))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Random, the attention nearly even."""
        self.recurrent.initialise(generator)
        self.attention.initialise(generator)
        initialise.normal(self.score_H, 0.1, generator)

    def forward(self, gates_BLG: Tensor, mask_BL: Tensor, deletions: bool) -> Tensor:
        """[B, V, H]: of the whole journey and, where deletions, of the journey without each touch in turn."""
        hidden_BVH = gates_BLG.new_zeros(gates_BLG.shape[0], 1, self.score_H.shape[0])
        weighted_BVH, total_BV = hidden_BVH, hidden_BVH[..., 0]
        for t in range(gates_BLG.shape[1]):
            real_B11 = mask_BL[:, t, None, None] > 0
            next_BVH = torch.where(real_B11, self._step(gates_BLG[:, t, None], hidden_BVH), hidden_BVH)
            # |score| <= |v|_1, so that exp needs no maximum taken off.
            weight_BV = torch.exp(torch.tanh(self.attention(next_BVH)) @ self.score_H) * mask_BL[:, t, None]
            without_t = hidden_BVH[:, :1], weighted_BVH[:, :1], total_BV[:, :1]
            hidden_BVH, total_BV = next_BVH, total_BV + weight_BV
            weighted_BVH = weighted_BVH + weight_BV[..., None] * next_BVH
            if deletions:
                hidden_BVH = torch.cat([hidden_BVH, without_t[0]], 1)
                weighted_BVH = torch.cat([weighted_BVH, without_t[1]], 1)
                total_BV = torch.cat([total_BV, without_t[2]], 1)
        return weighted_BVH / total_BV.clamp_min(1e-30)[..., None]

    def _step(self, input_B1G: Tensor, hidden_BVH: Tensor) -> Tensor:
        """r, z = sig(.), n = tanh(W x + r (U h)), h = (1 - z) n + z h."""
        reset, update, new = input_B1G.chunk(3, -1)
        reset_h, update_h, new_h = self.recurrent(hidden_BVH).chunk(3, -1)
        candidate = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
        return candidate + torch.sigmoid(update + update_h) * (hidden_BVH - candidate)
