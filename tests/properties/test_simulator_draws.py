"""A user's night is the same in whatever company it is drawn."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator.draws import NightDraw, build_world, draw_night
from almmta_spark.simulator.records import SOURCES, table_records
from almmta_spark.simulator.truth import exact_effects
from almmta_spark.simulator.worlds import World

FIELDS = [f.name for f in dataclasses.fields(NightDraw)]
user_ids = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60, unique=True)


worlds = st.sampled_from(["default", "leak_y", "direct", "misspecified", "signed"])


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
