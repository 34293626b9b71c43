"""The rows of the input tables, against the draw that they log."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from almmta_spark import tables
from almmta_spark.config import SimulatorConfig
from almmta_spark.simulator import records
from almmta_spark.simulator.draws import draw_night, upload_content
from almmta_spark.simulator.world import World

WorldOf = Callable[..., World]

SEED = 4
NIGHTS = ("2026-01-14", "2026-01-15")
CONF = SimulatorConfig(num_users=3000, randomised_users=200, base_rate=0.2, duplicate_rate=0.05)
USERS = np.arange(3200)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def world(world_of: WorldOf) -> World:
    return world_of("default", SEED, 0.2)


@pytest.fixture(scope="module")
def rows(world: World) -> pd.DataFrame:
    """All tables of both nights, with the columns table and day."""
    frames = []
    for name, source in records.SOURCES.items():
        for day in source.days(NIGHTS):
            for batch in records.table_records(world, CONF, SEED, NIGHTS, tables.BY_NAME[name], day, USERS):
                frames.append(batch.to_pandas().assign(table=name, day=day))
    return pd.concat(frames, ignore_index=True)


def index_ts(ds: str) -> datetime:
    return datetime.fromisoformat(ds).replace(tzinfo=UTC)


def ordinal(ds: str) -> int:
    return index_ts(ds).date().toordinal()


def test_every_row_lies_in_the_day_of_its_directory(rows: pd.DataFrame) -> None:
    dated = rows[rows["table"].isin(["exposures", "signals", "uploads", "withholdings"])]
    assert (dated["event_ts"].dt.strftime("%Y-%m-%d") == dated["day"]).all()
    assert set(rows["table"]) == {
        *("exposures", "signals", "uploads", "withholdings"),
        *("truth_attribution", "randomised_exposures", "randomised_uploads", "truth_randomised"),
    }


@pytest.mark.parametrize("ds", NIGHTS)
def test_a_nights_signals_carry_its_draw_under_the_role_of_their_name(
    world: World, rows: pd.DataFrame, ds: str
) -> None:
    _, in_experiment = records.samples(CONF, SEED, USERS[:3000])
    draw = draw_night(world, SEED, ordinal(ds), USERS[:3000], in_experiment)
    signals = rows[rows["table"] == "signals"]
    windows = [(world.mechanism.proxies, 1, draw.proxies), (world.mechanism.intents, 2, draw.intents)]
    for laws, days_before, drawn in windows:
        start = index_ts(ds) - days_before * DAY
        inside = signals[(signals["event_ts"] >= start) & (signals["event_ts"] < start + DAY)]
        counted = inside.pivot_table(index="user_id", columns="signal", values="value", aggfunc="sum")
        counted = counted.reindex(index=USERS[:3000], columns=[law.name for law in laws]).fillna(0)
        np.testing.assert_array_equal(counted.to_numpy(), drawn)
        assert drawn.sum() > 0
    assert (signals["value"] == 1.0).all()


@pytest.mark.parametrize("ds", NIGHTS)
def test_exposures_are_the_touches_shown_and_some_rows_come_twice(world: World, rows: pd.DataFrame, ds: str) -> None:
    exposures = rows[(rows["table"] == "exposures") & (rows["day"] == records.shift(ds, -1))]
    keys = ["user_id", "item_id", "event_ts"]
    distinct = exposures[keys].drop_duplicates()
    _, in_experiment = records.samples(CONF, SEED, USERS[:3000])
    draw = draw_night(world, SEED, ordinal(ds), USERS[:3000], in_experiment)
    assert len(distinct) == draw.shown.sum()
    assert not distinct.duplicated(["user_id", "event_ts"]).any()
    num_twice = len(exposures) - len(distinct)
    assert num_twice == pytest.approx(0.05 * len(distinct), abs=4 * np.sqrt(0.05 * len(distinct)))
    touch = np.argwhere(draw.shown)[7]
    event_ts = pd.Timestamp(index_ts(ds)) - pd.Timedelta(microseconds=int(draw.age_microseconds[tuple(touch)]))
    item_id = records.FIRST_ITEM_ID + draw.item[tuple(touch)]
    assert (distinct == [draw.user_ids[touch[0]], item_id, event_ts]).all(axis=1).sum() == 1


def test_withheld_touches_are_not_in_exposures_and_kept_ones_are(rows: pd.DataFrame) -> None:
    keys = ["user_id", "item_id", "event_ts"]
    decisions = rows[rows["table"] == "withholdings"]
    exposures = rows[rows["table"] == "exposures"][keys].drop_duplicates()
    found = decisions.merge(exposures, on=keys, how="left", indicator=True)
    assert ((found["_merge"] == "both") == ~found["withheld"].astype(bool)).all()
    assert not decisions.duplicated(["user_id", "day"]).any()
    assert (decisions["p_withheld"] == 0.5).all()
    assert found["withheld"].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(found)))


def test_truth_covers_every_touch_of_its_users_and_no_experiment_touches_them(rows: pd.DataFrame) -> None:
    keys = ["user_id", "item_id", "event_ts"]
    truth = rows[rows["table"] == "truth_attribution"]
    exposures = rows[rows["table"] == "exposures"][keys].drop_duplicates()
    of_truth_users = exposures[exposures["user_id"].isin(truth["user_id"])]
    assert len(truth) == len(of_truth_users) == len(truth.merge(of_truth_users, on=keys))
    assert not set(truth["user_id"]) & set(rows[rows["table"] == "withholdings"]["user_id"])
    share = truth["user_id"].nunique() / CONF.num_users
    assert share == pytest.approx(CONF.truth_share, abs=4 * 0.5 / np.sqrt(CONF.num_users))


def test_an_upload_with_its_content_follows_each_outcome(world: World, rows: pd.DataFrame) -> None:
    ds = NIGHTS[1]
    _, in_experiment = records.samples(CONF, SEED, USERS[:3000])
    draw = draw_night(world, SEED, ordinal(ds), USERS[:3000], in_experiment)
    uploads = rows[(rows["table"] == "uploads") & (rows["day"] == ds)].set_index("user_id").sort_index()
    np.testing.assert_array_equal(uploads.index, np.nonzero(draw.outcome)[0])
    assert rows["upload_id"].dropna().is_unique
    content = upload_content(world, draw, SEED, ordinal(ds))[uploads.index]
    np.testing.assert_allclose(np.stack(list(uploads["embedding"])), content, atol=1e-6)


def test_an_uploads_content_is_a_touchs_by_its_share_in_the_stimulus_else_the_users_taste(world: World) -> None:
    silent = dataclasses.replace(world, mechanism=dataclasses.replace(world.mechanism, upload_noise=0.0))
    draw = draw_night(silent, SEED, 1, USERS)
    content = upload_content(silent, draw, SEED, 1)
    items = silent.item_content_IE[np.maximum(draw.item, 0)]
    is_origin = (items == content[:, None]).all(axis=2) & draw.shown
    is_taste = (content == draw.x[:, :4] / 2).all(axis=1)
    assert np.array_equal(is_taste, ~is_origin.any(axis=1))
    share = draw.stimulus / (draw.stimulus.sum(axis=1, keepdims=True) + silent.mechanism.uninspired)
    spread = np.sqrt((share * (1 - share)).sum())
    assert is_origin.sum() == pytest.approx(share.sum(), abs=4 * spread)
    assert abs(((is_origin - share) * share).sum()) < 4 * np.sqrt((share**3 * (1 - share)).sum())


def test_an_upload_without_stimulus_shows_the_users_own_taste(world: World) -> None:
    draw = draw_night(world, SEED, 1, USERS)
    unmoved = draw.stimulus.sum(axis=1) == 0
    assert unmoved.any()
    content = upload_content(world, draw, SEED, 1)[unmoved]
    assert np.abs(content - draw.x[unmoved, :4] / 2).max() < 0.15 * 5


def test_items_lie_around_their_clusters_content(world: World) -> None:
    items = records.item_table(world).to_pandas()
    assert items["item_id"].is_unique
    assert items.groupby("cluster").size().eq(25).all()
    assert items.groupby("author_id").size().eq(records.ITEMS_PER_AUTHOR).all()
    off = np.stack(list(items["embedding"])) - world.content_KE[items["cluster"]]
    assert off.std() == pytest.approx(0.1, rel=0.1)
