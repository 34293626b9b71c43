"""An adversary of the learned mediator, solved rather than trained.

A discriminator reads a target from the heads, and the heads are made to defeat it (Ganin & Lempitsky 2015). What it may
not read is what heads carry *beyond touches and covariates*: a true mediator is driven by T and drives Y, so reading Y
off it, as ALM-MTA has it, takes the effect itself away. The intent's proxies Z are from before the touches; given T
and X, whatever heads say of Z leaked from the intent into the signals.

The discriminator is a ridge regression of the target on the heads and their squares, both less what the held-fixed
variables explain, so its optimum is known in closed form for any batch (Sadeghi, Yu & Boddeti 2019) and there is no
game whose second player lags behind. Its gain in nats is that of Gaussian variables, 1/2 sum R^2, from the products of
two half-batches' covariances: each half's errors are independent of the other's, so that no target costs nothing.

B journeys, F features of the heads, T targets, D what is held fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.batch import Batch
from almmta_spark.model.losses import mean
from almmta_spark.model.measurement import HeadValues

RIDGE = 1e-3
"""Share of a batch's rows added to the squares of what is regressed on."""
MEDIATOR_FOLLOWS = 0.3
"""Share of training up to which mu is moved by the correlation too: the likelihood alone could let m settle on a
nuisance, which no touch moves."""
WARM_UP = (0.15, 0.35)
"""Share of training at which the adversary begins, and at which it has its full weight: mu must exist first."""


def residual(value_BF: Tensor, fixed_BD: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """value less its linear regression on 1 and the held-fixed variables, times the root of a row's weight."""
    given_BD = torch.cat([torch.ones_like(value_BF[:, :1]), fixed_BD], dim=1)
    if weight_B is not None:
        root_B1 = weight_B.sqrt()[:, None]
        value_BF, given_BD = value_BF * root_B1, given_BD * root_B1
    gram_DD = given_BD.T @ given_BD + RIDGE * len(value_BF) * torch.eye(given_BD.shape[1], device=value_BF.device)
    return value_BF - given_BD @ torch.linalg.solve(gram_DD, given_BD.T @ value_BF)


def whitened(value_BF: Tensor) -> Tensor:
    """value times the inverse Cholesky factor of its covariance (mean taken as 0)."""
    covariance_FF = value_BF.T @ value_BF / len(value_BF)
    scale = covariance_FF.diagonal().mean().clamp_min(1e-6)
    lower_FF = torch.linalg.cholesky(
        covariance_FF + RIDGE * scale * torch.eye(len(covariance_FF), device=value_BF.device)
    )
    return torch.linalg.solve_triangular(lower_FF, value_BF.T, upper=False).T


def correlation_nats(heads_BG: Tensor, mean_B: Tensor, covariates_BD: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """-1/2 sum_g log(1 - rho_g^2), rho_g the correlation of head g with mu(T, X) once X is taken out of both."""
    heads_BG = residual(heads_BG, covariates_BD, weight_B)
    mean_B1 = residual(mean_B[:, None], covariates_BD, weight_B)
    product_G = (heads_BG * mean_B1).mean(0)
    squared_G = product_G.square() / (heads_BG.square().mean(0) * mean_B1.square().mean(0) + 1e-8)
    return -0.5 * torch.log1p(-squared_G.clamp(max=0.99)).sum()


def gain_nats(heads_BG: Tensor, target_BT: Tensor, fixed_BD: Tensor, weight_B: Tensor | None = None) -> Tensor:
    """What the heads tell of the target beyond the held-fixed variables; may be negative by chance, mean 0 if nothing.

    Cost: products of [B, F + T + D] matrices with themselves, and factors of size F.
    """
    feature_BF = whitened(residual(torch.cat([heads_BG, heads_BG.square()], dim=1), fixed_BD, weight_B))
    seen_BT = whitened(residual(target_BT, fixed_BD, weight_B))
    half = len(heads_BG) // 2
    first_TF = seen_BT[:half].T @ feature_BF[:half] / max(1, half)
    second_TF = seen_BT[half:].T @ feature_BF[half:] / max(1, len(heads_BG) - half)
    return 0.5 * (first_TF * second_TF).sum()


class HeadTeacher:
    """What heads learn from: to go with mu(T, X), and not to tell the adversary its target."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        self.target = conf.adversary_target
        blind = self.target == "intent" and not spec.intent_proxies
        self.weight = 0.0 if blind else conf.heads_adversary_weight

    def terms(
        self,
        heads: HeadValues,
        mean_B: Tensor,
        beside: Sequence[Tensor],
        batch: Batch,
        progress: float,
        weight_B: Tensor | None,
    ) -> dict[str, Tensor]:
        """mean: mu(T, X). beside: what else T and X say, that is nu and w_hat, each [B]."""
        covariates_BD, still_B = batch.covariates_BD, mean_B.detach()
        followed_B = mean_B if progress < MEDIATOR_FOLLOWS else still_B
        terms = {
            "heads": -correlation_nats(heads.value_BG, followed_B, covariates_BD, weight_B),
            "tracking": mean(heads.tracking_B, weight_B),
        }
        strength = self.weight * ramp(progress)
        if strength > 0:
            target_BT = batch.intent_proxies_BZ if self.target == "intent" else batch.outcome_B[:, None]
            known = [still_B, still_B.square()]
            for other_B in beside:
                known += [other_B.detach(), other_B.detach().square(), still_B * other_B.detach()]
            fixed_BD = torch.cat([covariates_BD, torch.stack(known, dim=1)], dim=1)
            fixed_BD = fixed_BD[:, :0] if self.target == "outcome" else fixed_BD
            terms["adversary"] = strength * gain_nats(heads.value_BG, target_BT, fixed_BD, weight_B)
        return terms


def ramp(progress: float) -> float:
    """0 before WARM_UP, then linear up to 1."""
    start, full = WARM_UP
    return min(1.0, max(0.0, (progress - start) / (full - start)))
