"""Gradient reversal: identity forward, -lambda times the gradient backward (Ganin & Lempitsky 2015)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return -ctx.strength * gradient, None


def reverse_gradient(value: Tensor, strength: float) -> Tensor:
    """The value itself; what comes back through it is multiplied by -strength."""
    reversed_: Tensor = _Reverse.apply(value, strength)
    return reversed_


def ramp(progress: float) -> float:
    """lambda's schedule 2 / (1 + exp(-10 p)) - 1, from 0 at p = 0 to 1 (Ganin et al. 2016, section 5.2.2)."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0
