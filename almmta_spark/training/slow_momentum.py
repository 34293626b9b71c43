"""SlowMo: ranks step alone, average now and then, and give the averages a momentum of their own.

    every `period` steps, with x_0 where the round began, x_i where rank i is now and gamma the fast learning rate:
    x_avg = mean_i x_i
    u     = beta u + (x_0 - x_avg) / gamma
    x     = x_0 - alpha gamma u                        (Wang, Tantia, Ballas & Rabbat 2020, algorithm 1)

Each group of parameters has its own gamma, that of the round's last step. The fast optimiser's moments stay with their
rank between averagings (the paper's "maintain"). With beta = 0, alpha = 1 and period = 1 it is plain averaging.
"""

from __future__ import annotations

import torch
from torch import Tensor

from almmta_spark.training.distributed import Ranks


class SlowMomentum:
    """Cost: one all-reduce of the parameters' size every `period` steps; one copy of them, two with momentum."""

    def __init__(
        self, optimiser: torch.optim.Optimizer, ranks: Ranks, period: int, beta: float, alpha: float = 1.0
    ) -> None:
        self.optimiser, self.ranks = optimiser, ranks
        self.period, self.beta, self.alpha = period, beta, alpha
        self.num_steps = 0
        """Since the last averaging."""
        self.anchor = [p.detach().clone() for p in self._parameters()]
        """x_0 of each parameter."""
        self.momentum = [torch.zeros_like(p) for p in self.anchor] if beta else []
        """u of each parameter."""

    def step(self) -> bool:
        """After each step of the fast optimiser; True where the ranks were averaged."""
        self.num_steps += 1
        if self.num_steps < self.period:
            return False
        self.average()
        return True

    @torch.no_grad()
    def average(self) -> None:
        """End the round, however long it was; nothing where no step was taken since the last one."""
        if not self.num_steps:
            return
        self.num_steps = 0
        gammas = [float(group["lr"]) for group in self.optimiser.param_groups for _ in group["params"]]
        averages = self.ranks.mean([p.detach() for p in self._parameters()])
        for i, (parameter, average) in enumerate(zip(self._parameters(), averages, strict=True)):
            parameter.copy_(self._moved(i, average, gammas[i]))
            self.anchor[i].copy_(parameter)

    def _moved(self, i: int, average: Tensor, gamma: float) -> Tensor:
        if not self.beta and self.alpha == 1:
            return average  # what the formula says, without its rounding
        fast = (self.anchor[i] - average) / gamma
        slow = self.momentum[i].mul_(self.beta).add_(fast) if self.beta else fast
        return self.anchor[i] - self.alpha * gamma * slow

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"num_steps": self.num_steps, "anchor": self.anchor, "momentum": self.momentum}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """As state_dict left it, in place."""
        self.num_steps = int(state["num_steps"])  # type: ignore[call-overload]
        for mine, name in ((self.anchor, "anchor"), (self.momentum, "momentum")):
            for tensor, value in zip(mine, state[name], strict=True):  # type: ignore[call-overload]
                tensor.copy_(value)


@torch.no_grad()
def average_moments(optimiser: torch.optim.Optimizer, ranks: Ranks) -> None:
    """Make the fast optimiser's moments equal on all ranks, so that one rank's checkpoint is everybody's."""
    states = [optimiser.state[p] for g in optimiser.param_groups for p in g["params"] if p in optimiser.state]
    moments = [s[name] for s in states for name in ("exp_avg", "exp_avg_sq")]
    for moment, mean in zip(moments, ranks.mean(moments), strict=True):
        moment.copy_(mean)
