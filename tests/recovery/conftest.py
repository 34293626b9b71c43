"""Nights of 20,000 users and models fitted to them; what two tests of a worker ask for alike is made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from almmta_spark.config import ModelConfig, TrainingConfig
from tests.recovery import harness

NUM_USERS = 20_000


@pytest.fixture(scope="session")
def night() -> Callable[..., harness.Night]:
    """By world, and number of the night."""

    @cache
    def simulated(world: str, number: int = 0) -> harness.Night:
        return harness.simulate(world, NUM_USERS, seed=1, night=number)

    return simulated


@pytest.fixture(scope="session")
def model(night) -> Callable[..., torch.nn.Module]:
    """Fitted to night 0 of a world: by world, variant, seed and settings of the model."""

    @cache
    def fitted(world: str, variant: str = "latent", seed: int = 0, **settings: object) -> torch.nn.Module:
        return harness.fit(night(world), variant, ModelConfig(**settings), TrainingConfig(), seed).model

    return fitted


@pytest.fixture(scope="session")
def scores(night, model) -> Callable[..., harness.Scores]:
    """Of a fit against the exact effects of the night it saw."""

    def scored(world: str, *args: object, **settings: object) -> harness.Scores:
        effects = harness.estimated_effects(model(world, *args, **settings), night(world))
        return harness.score(effects, night(world))

    return scored
