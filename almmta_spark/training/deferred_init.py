"""Models built without memory, then given memory where they belong: torchdistx's deferred init on today's torch.

torchdistx does not compile against current torch (its last commit is of March 2023); where one is installed and works
it is used, else the meta device with to_empty, which is the same idea in torch core. Fake tensors are FakeTensorMode.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

log = logging.getLogger("almmta.training")
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Footprint:
    """Bytes a model will take on one rank, known before any of them is allocated."""

    parameters: int
    """Number of them, not bytes."""
    weights: int
    training: int
    """Weights, gradients, AdamW's two moments and the running average."""


def footprint(build: Build) -> Footprint:
    """Dry run of the constructor on fake tensors: shapes and types, no storage, however large the tables are."""
    with FakeTensorMode():
        model = build()
        parameters = list(model.parameters())
        weights = sum(p.numel() * p.element_size() for p in parameters)
        buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    return Footprint(sum(p.numel() for p in parameters), weights + buffers, 5 * weights + buffers)


def initialised(build: Build, seed: int, device: torch.device) -> nn.Module:
    """The model on the device, initialised by the seed: the same bits on every rank, so nothing needs to be sent.

    Initialised on the CPU and then moved, because a GPU's generator draws other numbers for the same seed.
    """
    model = materialised(deferred(build), torch.device("cpu"))
    model.reset_parameters(torch.Generator().manual_seed(seed))  # type: ignore[operator]
    return model.to(device)


def deferred(build: Build) -> nn.Module:
    """The model with shapes but no storage."""
    torchdistx = _torchdistx()
    if torchdistx is not None:
        return torchdistx.deferred_init(build)  # type: ignore[no-any-return]
    with torch.device("meta"):
        return build()


def materialised(model: nn.Module, device: torch.device) -> nn.Module:
    """Storage, with undefined content, for all the model holds on this rank: of a row-sharded table, its rows only."""
    torchdistx = _torchdistx()
    if torchdistx is not None:
        torchdistx.materialize_module(model)
        return model.to(device)
    return model.to_empty(device=device)


def _torchdistx() -> ModuleType | None:
    """torchdistx.deferred_init where it imports and materialises a small layer, else None."""
    try:
        module = importlib.import_module("torchdistx.deferred_init")
        layer = module.deferred_init(nn.Linear, 2, 1)
        module.materialize_module(layer)
        layer(torch.zeros(1, 2))
    except Exception as error:  # built for another torch it can fail in any way
        if not isinstance(error, ModuleNotFoundError):
            log.info("the installed torchdistx does not work with torch %s (%s): not used", torch.__version__, error)
        return None
    return module
