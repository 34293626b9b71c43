"""Deletion effects of a batch of feature rows, from columns to columns. Imported where torch is, on the executors.

B journeys, L touchpoints (padded length of the batch's lists), M members of an ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from almmta_spark.causal import jackknife
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import Batch, Effects
from almmta_spark.model.ensemble import Ensemble

PIECES = ("p_do", "mu", "g0", "slope", "posterior_mean", "intent_residual", "mediator_overlap", "leak_gain")
"""What evaluation needs beside the effects; NaN where a variant has no such piece."""


def deletion_effects(
    model: nn.Module, spec: ExampleSpec, columns: Mapping[str, NDArray], level: float = 0.95, seen: bool = False
) -> dict[str, NDArray[np.float64]]:
    """p_outcome and PIECES [B]; removal_effect, removal_effect_lower and _upper, removal_effect_ate (NaN where a
    variant has none) and p_outcome_deleted [B, L]; removal_effect_members [B, L, M] (M = 0 of a single model).
    L is the batch's longest journey.

    columns are named as in training_examples, lists stacked to [B, length]. All deletions of a journey come from one
    encoding of it. seen: the model may have learned from these users (by user_id), so an ensemble's members speak only
    of those they left out; else all speak. level: of the interval. A score that is not finite is a ValueError: such a
    model must not speak.
    """
    batch = Batch.from_columns(columns, spec)
    with torch.inference_mode():
        effects: Effects = model.effects(batch, seen) if isinstance(model, Ensemble) else model.effects(batch)  # type: ignore[operator]
    scores = {
        "p_outcome": _doubles(effects.p_outcome_B),
        "removal_effect": _doubles(effects.removal_effect_BL),
        "p_outcome_deleted": _doubles(effects.p_deleted_BL),
    }
    _refuse_non_finite(scores)
    optional = {name: (getattr(effects, f"{name}_B"), effects.p_outcome_B) for name in PIECES}
    optional["removal_effect_ate"] = (effects.removal_effect_ate_BL, effects.removal_effect_BL)
    known = {name: _doubles(value) for name, (value, _) in optional.items() if value is not None}
    _refuse_non_finite(known)
    unknown = {name: np.full(like.shape, np.nan) for name, (value, like) in optional.items() if value is None}
    return scores | known | unknown | _intervals(effects, model, level)


def _intervals(effects: Effects, model: nn.Module, level: float) -> dict[str, NDArray[np.float64]]:
    """What the members' differences say; their effects themselves as float32, as they were computed."""
    effect_BL = _doubles(effects.removal_effect_BL)
    if effects.member_MBL is None or not isinstance(model, Ensemble):
        unknown = dict.fromkeys(("removal_effect_lower", "removal_effect_upper"), np.full(effect_BL.shape, np.nan))
        return unknown | {"removal_effect_members": np.empty((*effect_BL.shape, 0))}
    plan, members_MBL = model.plan, _doubles(effects.member_MBL)
    unseen_B1 = plan.unseen_effect * _doubles(effects.p_outcome_B)[:, None]
    half_BL = jackknife.half_width(members_MBL, effect_BL, plan.folds, level, plan.shared_error, unseen_B1)
    scores = {"removal_effect_lower": effect_BL - half_BL, "removal_effect_upper": effect_BL + half_BL}
    _refuse_non_finite(scores)
    return scores | {"removal_effect_members": np.moveaxis(effects.member_MBL.cpu().numpy(), 0, -1)}


def _doubles(values: Tensor) -> NDArray[np.float64]:
    return values.detach().cpu().to(torch.float64).numpy()


def _refuse_non_finite(scores: Mapping[str, NDArray[np.float64]]) -> None:
    for name, values in scores.items():
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(
                f"attribution.{name} must be finite, {bad} of {values.size} scores in a batch are not: the model has "
                "diverged; look at its training curve, lower training.dense_lr and train again"
            )
