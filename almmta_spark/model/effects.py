"""What a model says about a batch of journeys."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Effects:
    """Deletion effects and the pieces diagnostics need; None where a variant has no such piece."""

    removal_effect_BL: Tensor
    """tau_k = p_outcome - p_deleted_k, signed; 0 in padding."""
    p_outcome_B: Tensor
    """P(Y = 1 | T, X); of `paper`: the front-door sum P(Y = 1 | do(T), X)."""
    p_deleted_BL: Tensor
    """The same with touch k masked; p_outcome in padding."""
    p_do_B: Tensor | None = None
    """P(Y = 1 | do(T), X): what holds for a sequence that nobody chose for this user."""
    removal_effect_ate_BL: Tensor | None = None
    """p_do - p_do without touch k, signed; 0 in padding (ATE-X)."""
    mu_B: Tensor | None = None
    """Mean of the mediator given T, X."""
    g0_B: Tensor | None = None
    """The outcome logit's part beside the mediator."""
    slope_B: Tensor | None = None
    """b: the outcome logit's slope in the mediator."""
    posterior_mean_B: Tensor | None = None
    """E[eps | Y', T, X], of the mediator's noise."""
    mediator_overlap_B: Tensor | None = None
    """exp(-(mu - mu without the touch)^2) of the touch where it is least: 0 where a deletion leaves what is seen."""
    leak_gain_B: Tensor | None = None
    """Log likelihood that letting Y leak into the proxies gains on a journey (needs its outcome)."""
    intent_residual_B: Tensor | None = None
    """E[z | Z, T, X]: the intent that its proxies show beyond what touches and covariates tell."""
    standard_error_BL: Tensor | None = None
    """Of the sampling by which removal_effect was computed, 0 where it is exact; not of what was learned."""
    member_MBL: Tensor | None = None
    """removal_effect by each member of an ensemble; None of a single model."""


def from_probabilities(
    p_outcome_B: Tensor,
    p_deleted_BL: Tensor,
    mask_BL: Tensor,
    p_do_B: Tensor | None = None,
    p_do_deleted_BL: Tensor | None = None,
    **pieces: Tensor | None,
) -> Effects:
    """Effects with padding cleared."""
    removal_effect_BL = (p_outcome_B[:, None] - p_deleted_BL) * mask_BL
    ate_BL = None if p_do_B is None or p_do_deleted_BL is None else (p_do_B[:, None] - p_do_deleted_BL) * mask_BL
    deleted_BL = p_outcome_B[:, None] - removal_effect_BL
    return Effects(removal_effect_BL, p_outcome_B, deleted_BL, p_do_B, ate_BL, **pieces)
