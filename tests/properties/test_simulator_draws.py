"""A user's night is the same in whatever company it is drawn."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import family
from almmta_spark.simulator.draws import NightDraw, build_world, draw_night
from almmta_spark.simulator.records import SOURCES, table_records
from almmta_spark.simulator.truth import exact_effects, truth_error
from almmta_spark.simulator.world import World

pytestmark = pytest.mark.long

FIELDS = [f.name for f in dataclasses.fields(NightDraw)]
user_ids = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60, unique=True)


DRAWN = ("random:0", "random:1", "random:4", "random:5")
worlds = st.sampled_from(["default", "leak_y", "direct", "misspecified", "signed", "rich", *DRAWN])


@cache
def world(name: str = "default") -> World:
    return build_world(name, 5, base_rate=0.2)


@settings(deadline=None, max_examples=40)
@given(worlds, user_ids, st.data(), st.booleans())
def test_a_user_is_drawn_equally_in_any_batch_and_order(
    name: str, ids: list[int], data: st.DataObject, uniform: bool
) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=3).map(sorted))
    users = np.array(ids, dtype=np.int64)
    whole = draw_night(world(name), 5, 3, users, users % 2 == 0, uniform)
    pieces = np.split(np.array(order, dtype=int), cuts)
    parts = [draw_night(world(name), 5, 3, users[p], users[p] % 2 == 0, uniform) for p in pieces]
    for field in FIELDS:
        together = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(together, getattr(whole, field)[order], err_msg=field)


@settings(deadline=None, max_examples=25)
@given(worlds, user_ids, st.data())
def test_exact_effects_are_equal_in_any_batch(name: str, ids: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(ids)))
    users = np.array(ids, dtype=np.int64)
    whole = exact_effects(world(name), draw_night(world(name), 5, 3, users))
    parts = [exact_effects(world(name), draw_night(world(name), 5, 3, u)) for u in (users[:cut], users[cut:])]
    for estimand in (0, 1):
        np.testing.assert_array_equal(np.concatenate([p[estimand] for p in parts]), whole[estimand])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True), st.data())
def test_rows_are_equal_in_any_batch(ids: list[int], data: st.DataObject) -> None:
    nights = ("2026-01-15",)
    conf = SimulatorConfig(num_users=250, truth_share=0.4, withholding_share=0.4, duplicate_rate=0.2)
    cut = data.draw(st.integers(0, len(ids)))

    def rows(users: list[int]) -> list[str]:
        found = []
        for name, source in SOURCES.items():
            for day in source.days(nights):
                ids = np.array(users, dtype=np.int64)
                batches = table_records(world(), conf, 5, nights, tables.BY_NAME[name], day, ids)
                found += [f"{name} {day} {row}" for batch in batches for row in batch.to_pylist()]
        return found

    assert sorted(rows(ids[:cut]) + rows(ids[cut:])) == sorted(rows(ids))


@given(st.integers(0, 10**9))
def test_every_world_of_the_family_lies_in_its_ranges_and_has_an_anchor(number: int) -> None:
    law = family.mechanism(number)
    assert law == family.mechanism(number)
    assert 4 <= law.num_covariates <= 20
    assert max(law.own_covariates) < law.num_covariates
    assert 20 <= law.num_clusters <= 80
    assert 0.005 <= law.base_rate <= 0.05
    assert -0.6 <= law.served_to_intenders <= 0.6
    assert 0 <= law.negative_share <= 0.2
    assert 2 <= len(law.proxies) <= 8
    assert len({signal.name for signal in law.proxies + law.intents}) == len(law.proxies + law.intents)
    assert law.proxies[0].anchor
    for signal in law.proxies:
        assert signal.anchor == (signal.on_outcome == 0)
        assert signal.on_mediator > 0


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_world_is_finite_has_its_base_rate_and_knows_its_truth(name: str) -> None:
    world = build_world(name, 5)
    draw = draw_night(world, 5, 1, np.arange(40_000))
    for field in FIELDS:
        assert np.isfinite(getattr(draw, field)).all(), field
    assert ((draw.age_microseconds > 0) == draw.shown).all()
    assert draw.age_microseconds.max() <= 24 * 3_600_000_000
    assert np.bincount(world.item_cluster_I).max() <= 500
    seen, rate = draw.shown.any(axis=1), world.mechanism.base_rate
    # 65,536 calibration users and these: the two errors add up
    assert draw.outcome[seen].mean() == pytest.approx(rate, abs=4 * np.sqrt(2 * rate / seen.sum()))
    assert truth_error(world, 5) < 0.02


def test_a_drawn_world_is_the_same_world_whatever_seed_its_users_have() -> None:
    one, other = (build_world("random:5", seed) for seed in (5, 6))
    np.testing.assert_array_equal(one.item_strength_I, other.item_strength_I)
    assert not np.array_equal(draw_night(one, 5, 1, np.arange(50)).item, draw_night(other, 6, 1, np.arange(50)).item)
