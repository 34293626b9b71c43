"""Variant `shapley_model`: the Shapley value of each touch in the back-door model's p(Y | T, X).

    v(S) = p(Y | the touches S of the journey, X)
    effect_k = sum over S without k of |S|! (L - |S| - 1)! / L! (v(S + k) - v(S))

(Shapley 1953; of a fitted model Strumbelj & Kononenko 2014; the baseline `shapley` plays a game on counted journeys.)
Effects of a journey add up to v(all) - v(none): it hands a total out, and is not the deletion of one touch. Exact for
journeys of up to EXACT_TOUCHES, otherwise the mean over PAIRS pairs of a pseudo-random order and its reverse (Castro,
Gomez & Tejada 2009; Mitchell et al. 2022), with its standard error. Cost: 2^EXACT_TOUCHES small heads a journey, or
2 PAIRS L; the touches are encoded once.

B journeys, L touchpoints, S subsets of E <= EXACT_TOUCHES touches, C kinds of stimulus, P pairs of orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from almmta_spark.model.backdoor import BackdoorModel
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects
from almmta_spark.model.frontdoor import pseudo_random
from almmta_spark.model.quadrature import full_precision

EXACT_TOUCHES = 8
PAIRS = 32

Value = Callable[[Tensor], Tensor]
"""v of n parts of each journey from their stimulus sums: [B, n, C] -> [B, n]."""


class ShapleyModel(BackdoorModel):
    """Variant `shapley_model`: the back-door model, its effects shared out."""

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """Shapley values in the place of deletion effects; p_deleted is what they leave of p_outcome."""
        p_outcome_B = batch.age_BL.new_zeros(batch.size)
        effect_BL, error_BL = torch.zeros_like(batch.age_BL), torch.zeros_like(batch.age_BL)
        exact_B = batch.num_touches_B <= EXACT_TOUCHES  # by the journey alone, whatever else is in its batch
        for index, compute in ((exact_B.nonzero()[:, 0], exact), ((~exact_B).nonzero()[:, 0], sampled)):
            if len(index):
                rows = batch.rows(index)
                parts_BLC, value = self._game(rows)
                p_outcome_B[index] = value(parts_BLC.sum(1, keepdim=True))[:, 0]
                found_BL, error_BL[index] = compute(parts_BLC, rows, value)
                # A touch that adds nothing is worth exactly nothing: equal sums may differ in v's last bit.
                effect_BL[index] = found_BL * (parts_BLC != 0).any(-1)
        p_deleted_BL = p_outcome_B[:, None] - effect_BL
        return Effects(effect_BL, p_outcome_B, p_deleted_BL, p_outcome_B, effect_BL, standard_error_BL=error_BL)

    def _game(self, batch: Batch) -> tuple[Tensor, Value]:
        """Each touch's stimuli, [B, L, C], C = 1, and v."""
        stimuli, logit = self._encode(batch)

        def value(sums_BnC: Tensor) -> Tensor:
            with full_precision(batch.age_BL):
                return torch.sigmoid(logit(sums_BnC[..., 0]))

        return stimuli.stimulus_BL[..., None], value


def exact(parts_BLC: Tensor, batch: Batch, value: Value) -> tuple[Tensor, Tensor]:
    """Shapley values over all subsets of the first EXACT_TOUCHES touches, error 0; padding changes no other's value."""
    parts_BEC = parts_BLC[:, :EXACT_TOUCHES]
    players = parts_BEC.shape[1]
    subset_S = torch.arange(2**players, device=parts_BLC.device)
    member_SE = ((subset_S[:, None] >> torch.arange(players, device=parts_BLC.device)) & 1).to(parts_BLC.dtype)
    v_BS = value(torch.einsum("se,bec->bsc", member_SE, parts_BEC))
    effect_BL = torch.zeros_like(batch.age_BL)
    weights = [math.factorial(n) * math.factorial(players - n - 1) / math.factorial(players) for n in range(players)]
    for k in range(players):
        without_S = subset_S[member_SE[:, k] == 0]
        weight_S = torch.tensor(weights, device=parts_BLC.device)[member_SE[without_S].sum(1).long()]
        effect_BL[:, k] = (v_BS[:, without_S + 2**k] - v_BS[:, without_S]) @ weight_S
    return effect_BL, torch.zeros_like(effect_BL)


def sampled(parts_BLC: Tensor, batch: Batch, value: Value) -> tuple[Tensor, Tensor]:
    """Mean of a touch's marginal values over PAIRS orders and their reverses, and its standard error.

    Orders are drawn by a hash of the journey's id: equal journeys get equal values in every batch.
    """
    position_L = torch.arange(batch.age_BL.shape[1], device=batch.age_BL.device)
    found = []
    for pair in range(1, PAIRS + 1):
        draw_BL = pseudo_random(batch.journey_id_B[:, None], position_L + (pair << 32))
        order_BL = draw_BL.argsort(dim=1, stable=True)
        ordered_BLC = parts_BLC.gather(1, order_BL[..., None].expand_as(parts_BLC))
        after_BnC = torch.cat([torch.zeros_like(ordered_BLC[:, :1]), ordered_BLC.cumsum(1)], 1)
        forward_BL = value(after_BnC).diff(dim=1)
        backward_BL = -value(after_BnC[:, -1:] - after_BnC).diff(dim=1)
        marginal_BL = (forward_BL + backward_BL) / 2
        found.append(torch.zeros_like(marginal_BL).scatter(1, order_BL, marginal_BL))
    each_PBL = torch.stack(found)
    return each_PBL.mean(0), each_PBL.std(0) / math.sqrt(PAIRS)
