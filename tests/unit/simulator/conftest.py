"""Worlds solved once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from almmta_spark.simulator.draws import build_world
from almmta_spark.simulator.world import World


@pytest.fixture(scope="session")
def world_of() -> Callable[[str, int, float | None], World]:
    """World by name, seed and base rate."""
    return cache(build_world)
