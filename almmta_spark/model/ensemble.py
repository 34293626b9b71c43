"""An ensemble: M models of one variant fitted side by side, each without one fold of the users.

Users are split into F folds, R times anew; member (r, f), the r F + f-th of M = R F, learns from the users outside
fold f of split r. A journey's effect is the mean over the R members that did not see its user (repeated cross-fitting,
Chernozhukov et al. 2018). How far the members differ says how far the effect can be trusted: causal/jackknife.py.
A touch without effect in too many members has none: stability selection (Meinshausen & Buehlmann 2010; complementary
half-samples, F = 2: Shah & Samworth 2013).

Folds are a seeded hash of user_id: they depend on no order and on no rank, and neither does what a member learns from.
M members, B journeys, L touchpoints, R repeats, F folds, P rows of a batch that a member learns from.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

import almmta_spark.model as models
from almmta_spark.config import EnsembleConfig, ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects

LOOKS_FOR_UPLOADS = ("mixture", "plain")
"""Forms of model.upload_content that pick a batch's uploads, so that members must be given the same rows."""
NO_EFFECT = 1e-7
"""Effects up to this size are rounding: probabilities are float32."""


class Ensemble(nn.Module):
    """M models in one: `stacked` is a model of the variant whose every parameter has a first dimension of M.

    What treats parameters number by number (AdamW, averages, SlowMo, DDP, checkpoints) need not know of it.
    Cost of a training step: (F - 1)/F of M models' arithmetic, in as many kernel launches as one model has.
    """

    def __init__(self, variant: str, spec: ExampleSpec, conf: ModelConfig, plan: EnsembleConfig, seed: int) -> None:
        super().__init__()
        self.variant, self.spec, self.conf, self.plan, self.seed = variant, spec, conf, plan, seed
        self.stacked = models.build(variant, spec, conf)
        for module in list(self.stacked.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                whole = parameter.detach().new_empty(plan.members, *parameter.shape)
                setattr(module, name, nn.Parameter(whole))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each member as a model of its own would be, one after the other from the same generator."""
        single = models.build(self.variant, self.spec, self.conf)
        parameters, constants = dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())
        with torch.no_grad():
            for member in range(self.plan.members):
                single.reset_parameters(generator)  # type: ignore[operator]
                for name, value in single.named_parameters():
                    parameters[name][member].copy_(value)
            for name, constant in single.named_buffers():
                constants[name].copy_(constant)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The members' stacked parameters, in the groups of one."""
        groups: dict[str, list[nn.Parameter]] = self.stacked.parameter_groups()  # type: ignore[operator]
        return groups

    def project(self) -> None:
        """Each member's own projection: projections treat parameters number by number."""
        self.stacked.project()  # type: ignore[operator]

    def forward(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """Means over the members of each one's terms: in training over its own users, else over those left out."""
        out_MB = left_out(batch.user_id_B, self.plan, self.seed)
        if not self.training:
            weight_MB = out_MB * float(self.plan.folds)
            every = [self._of(m, "forward", batch, progress, weight_MB[m]) for m in range(self.plan.members)]
            return {name: torch.stack([terms[name] for terms in every]).mean() for name in every[0]}

        def terms(parameters: dict[str, nn.Parameter], batch: Any, weight: Tensor) -> dict[str, Tensor]:
            arguments = (Batch(**batch, **absent), progress, weight)
            found: dict[str, Tensor] = functional_call(self.stacked, dict(parameters), arguments)
            return found

        absent: Any = {name: None for name, value in vars(batch).items() if value is None}
        given = {name: value for name, value in vars(batch).items() if value is not None}
        parameters = dict(self.stacked.named_parameters())
        if self.conf.upload_content in LOOKS_FOR_UPLOADS:
            weight_MB = ~out_MB * self._upweight
            stacked = torch.vmap(terms, in_dims=(0, None, 0))(parameters, given, weight_MB)
        else:
            row_MP, weight_MP = own_rows(out_MB)
            own = {name: value[row_MP] for name, value in given.items()}
            stacked = torch.vmap(terms)(parameters, own, weight_MP * self._upweight)
        return {name: value.mean() for name, value in stacked.items()}

    @property
    def _upweight(self) -> float:
        """F/(F - 1): a member's loss is then an estimate of the loss on all users."""
        return self.plan.folds / (self.plan.folds - 1)

    @torch.no_grad()
    def effects(self, batch: Batch, seen: bool = False) -> Effects:
        """What the members say together, and removal_effect of each. One after the other: one model's memory.

        seen: whether these users may have been learned from, so that only members fitted without them speak; else all.
        """
        every: list[Effects] = [self._of(member, "effects", batch) for member in range(self.plan.members)]
        speaks_MB = left_out(batch.user_id_B, self.plan, self.seed) | (not seen)
        weight_MB = speaks_MB / speaks_MB.sum(0)

        def mean(name: str) -> Any:
            values = [getattr(effects, name) for effects in every]
            return None if values[0] is None else torch.einsum("mb,mb...->b...", weight_MB, torch.stack(values))

        said: dict[str, Any] = {field.name: mean(field.name) for field in fields(Effects)}
        member_MBL = torch.stack([effects.removal_effect_BL for effects in every])
        agreed_BL = (member_MBL.abs() > NO_EFFECT).float().mean(0) >= self.plan.agreement
        for name in ("removal_effect_BL", "removal_effect_ate_BL"):
            said[name] = said[name] if said[name] is None else said[name] * agreed_BL
        said["p_deleted_BL"] = said["p_outcome_B"][:, None] - said["removal_effect_BL"]
        return Effects(**said | {"member_MBL": member_MBL})

    def _of(self, member: int, method: str, *args: Any) -> Any:
        """A method of the single model under one member's parameters."""
        own = {f"model.{name}": value[member] for name, value in self.stacked.named_parameters()}
        return functional_call(_Through(self.stacked, method), own, args)


def build(variant: str, spec: ExampleSpec, conf: ModelConfig, plan: EnsembleConfig, seed: int) -> nn.Module:
    """An ensemble where the plan has one for the variant, else the single model."""
    if variant in plan.variants:
        return Ensemble(variant, spec, conf, plan, seed)
    return models.build(variant, spec, conf)


class _Through(nn.Module):
    """A method as a forward, which is all that functional_call can call."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *args: Any) -> Any:
        return getattr(self.model, self.method)(*args)


def left_out(user_id_B: Tensor, plan: EnsembleConfig, seed: int) -> Tensor:
    """[M, B]: whether the member is fitted without this user. True in exactly one of the F members of each repeat."""
    repeat_R1 = torch.arange(plan.repeats, device=user_id_B.device)[:, None]
    mixed_RB = _mixed(_mixed(user_id_B + _mixed(torch.full_like(user_id_B, seed))) + repeat_R1)
    fold_RB = (mixed_RB >> 33) % plan.folds  # the high bits, with their sign: Python's remainder is not negative
    fold_F = torch.arange(plan.folds, device=user_id_B.device)
    return (fold_RB[:, None, :] == fold_F[:, None]).reshape(plan.members, -1)


def own_rows(left_out_MB: Tensor) -> tuple[Tensor, Tensor]:
    """(row_MP, weight_MP): the rows each member learns from, and weights under which the mean over P of weight x loss
    is the sum of their losses over B. P is the most rows that any member has; fillers have weight 0."""
    learns_MB = ~left_out_MB
    longest = max(1, int(learns_MB.sum(1).max()))
    row_MP = torch.argsort(left_out_MB.to(torch.uint8), dim=1, stable=True)[:, :longest]
    return row_MP, learns_MB.gather(1, row_MP) * (longest / learns_MB.shape[1])


_WEYL, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def _mixed(x: Tensor) -> Tensor:
    """One output of SplitMix64 for each state (Steele, Lea & Flood 2014): int64 products wrap, shifts made logical."""
    x = x + _WEYL
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
