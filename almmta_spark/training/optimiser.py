"""AdamW with a learning rate of its own for each kind of parameter, the OneCycle schedule, and the weights' average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from almmta_spark.config import TrainingConfig

KINDS = ("dense", "sparse", "leak")


def adamw(model: nn.Module, training: TrainingConfig) -> torch.optim.AdamW:
    """One group a kind: dense, sparse (embedding tables) and leak (kappa: a constant rate and no decay)."""
    groups = model.parameter_groups()  # type: ignore[operator]
    given = [id(p) for kind in KINDS for p in groups[kind]]
    wanted = {id(p) for p in model.parameters()}
    assert len(given) == len(set(given)) and set(given) == wanted, "parameter_groups() must hold each parameter once"
    rates = {"dense": training.dense_lr, "sparse": training.sparse_lr, "leak": training.leak_lr}
    decays = {"dense": training.weight_decay, "sparse": training.weight_decay, "leak": 0.0}
    return torch.optim.AdamW(
        [
            {"params": list(groups[kind]), "lr": rates[kind], "weight_decay": decays[kind], "kind": kind}
            for kind in KINDS
            if groups[kind]
        ],
        fused=True,
    )


def clip_gradients(parameters: Sequence[Tensor], max_norm: float, num_members: int | None = None) -> Tensor:
    """Scales gradients down to max_norm together, in an ensemble each member's by itself; the (largest) norm before.

    num_members: M, where every parameter's first dimension is the members.
    """
    if num_members is None:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares_M = torch.stack([g.reshape(num_members, -1).square().sum(1) for g in gradients]).sum(0)
    factor_M = (max_norm / (squares_M.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor_M.view(-1, *[1] * (gradient.ndim - 1)))
    return squares_M.amax().sqrt()


def schedule(optimiser: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """OneCycle for dense and sparse parameters, a constant rate for leaks."""
    factors = [
        (lambda _: 1.0) if group["kind"] == "leak" else (lambda step: one_cycle(step, num_steps))
        for group in optimiser.param_groups
    ]
    return torch.optim.lr_scheduler.LambdaLR(optimiser, factors)


def one_cycle(step: int, num_steps: int, warm_up: float = 0.3, start: float = 1 / 25, end: float = 4e-6) -> float:
    """Share of the peak rate at a step: cosine from `start` up to 1, then down to `end`  (Smith & Topin 2018)."""
    peak = max(1.0, warm_up * num_steps - 1)
    if step <= peak:
        return _cosine(start, 1.0, step / peak)
    return _cosine(1.0, end, min(1.0, (step - peak) / max(1.0, num_steps - 1 - peak)))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class WeightAverage:
    """Exponential moving average of the weights, without weight on its start.

    After n updates a weight that is k updates old counts decay^k (1 - decay) / (1 - decay^n): where the average is
    short against 1 / (1 - decay), those it began with count no more than others (Kingma & Ba 2015, bias correction).
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.num_updates = 0
        self.values: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the parameters as they are now."""
        self.num_updates += 1
        if self.num_updates == 1:
            self.values = [p.detach().clone() for p in self.parameters]
        else:
            share = (1 - self.decay) / (1 - self.decay**self.num_updates)
            torch._foreach_lerp_(self.values, self.parameters, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights with their average; a second call puts them back. Nothing before the first update."""
        for parameter, value in zip(self.parameters, self.values, strict=bool(self.values)):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"num_updates": self.num_updates, "values": self.values}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """As state_dict left it."""
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        self.values = list(state["values"])  # type: ignore[call-overload]
