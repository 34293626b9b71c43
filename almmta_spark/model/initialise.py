"""Initialisation from an explicit generator: a seed gives equal weights on every rank and after meta tensors."""

from __future__ import annotations

import math

import torch
from torch import nn


def softplus_inverse(value: float) -> float:
    """x with softplus(x) = value, value > 0."""
    return value + math.log(-math.expm1(-value))


@torch.no_grad()
def fill(parameter: torch.Tensor, value: float) -> None:
    """In place, outside the graph."""
    parameter.fill_(value)


@torch.no_grad()
def normal(parameter: torch.Tensor, std: float, generator: torch.Generator | None, mean: float = 0.0) -> None:
    """In place, outside the graph."""
    parameter.normal_(mean, std, generator=generator)


@torch.no_grad()
def linear(layer: nn.Linear, generator: torch.Generator | None, bias: float = 0.0) -> None:
    """Weights uniform in +-1/sqrt(inputs), as torch's own default; the bias constant."""
    bound = 1.0 / math.sqrt(layer.in_features)
    layer.weight.uniform_(-bound, bound, generator=generator)
    if layer.bias is not None:
        layer.bias.fill_(bias)


@torch.no_grad()
def zero_linear(layer: nn.Linear, bias: float = 0.0) -> None:
    """Starts as the constant `bias`."""
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.fill_(bias)


def children(module: nn.Module, generator: torch.Generator | None) -> None:
    """reset_parameters of every child that has one of ours, in order of declaration."""
    for child in module.children():
        reset = getattr(child, "reset_parameters", None)
        if reset is not None and not isinstance(child, (nn.Linear, nn.Embedding)):
            reset(generator)


def split_groups(
    model: nn.Module, tables: list[nn.Parameter], leak: list[nn.Parameter]
) -> dict[str, list[nn.Parameter]]:
    """The model's parameters in three groups with learning rates of their own; together they are all of them."""
    special = {id(p) for p in (*tables, *leak)}
    return {"dense": [p for p in model.parameters() if id(p) not in special], "sparse": tables, "leak": leak}
