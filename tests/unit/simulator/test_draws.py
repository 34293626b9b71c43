"""What users do, against the laws they are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from almmta_spark.simulator import hashing
from almmta_spark.simulator.draws import NightDraw, draw_night
from almmta_spark.simulator.world import World

pytestmark = pytest.mark.long

WorldOf = Callable[..., World]

NUM = 20_000
HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def world(world_of: WorldOf) -> World:
    return world_of("default", 0, 0.1)


@pytest.fixture(scope="module")
def draw(world: World) -> NightDraw:
    return draw_night(world, 0, 1, np.arange(NUM))


def test_uniforms_are_uniform_and_streams_do_not_know_each_other() -> None:
    first = hashing.uniforms(0, "a", 0, np.arange(NUM), 3)
    others = [hashing.uniforms(*key, np.arange(NUM), 3) for key in ((0, "b", 0), (1, "a", 0), (0, "a", 1))]
    counts, _ = np.histogram(first, bins=20, range=(0, 1))
    assert ((counts - first.size / 20) ** 2 / (first.size / 20)).sum() < 50  # chi-squared, 19 degrees of freedom
    for values in [*others, np.roll(first, 1, axis=0), np.roll(first, 1, axis=1)]:
        assert abs(np.corrcoef(first.ravel(), values.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def test_covariates_stay_over_nights_and_the_intent_does_not(world: World, draw: NightDraw) -> None:
    other = draw_night(world, 0, 2, draw.user_ids)
    np.testing.assert_array_equal(draw.x, other.x)
    residual, other_residual = (d.w - world.confounder_mean(d.x) for d in (draw, other))
    assert abs(np.corrcoef(residual, other_residual)[0, 1]) < 4 / np.sqrt(NUM)
    assert np.var(draw.w) == pytest.approx(1, abs=4 * np.sqrt(2 / NUM))


def test_touches_are_served_by_the_policy(world: World, draw: NightDraw) -> None:
    expected = (world.policy(world.taste_logit(draw.x), draw.w) * draw.shown.sum(axis=1)[:, None]).sum(axis=0)
    counts = np.bincount(draw.cluster[draw.shown], minlength=40)
    assert np.abs((counts - expected) / np.sqrt(expected)).max() < 4.5
    p_slot = world.p_occupied(draw.x, draw.w)
    assert draw.shown.mean() == pytest.approx(p_slot.mean(), abs=4 * 0.5 / np.sqrt(draw.shown.size))
    assert world.p_occupied_marginal == pytest.approx(p_slot.mean(), abs=4 * p_slot.std() / np.sqrt(NUM))


def test_items_belong_to_their_cluster_and_ages_to_their_slot(world: World, draw: NightDraw) -> None:
    assert np.array_equal(world.item_cluster_I[draw.item[draw.shown]], draw.cluster[draw.shown])
    slot = np.broadcast_to(np.arange(12), draw.shown.shape)[draw.shown]
    age = draw.age_microseconds[draw.shown]
    assert np.all(age > slot * 2 * HOUR)
    assert np.all(age <= (slot + 1) * 2 * HOUR)
    assert np.all(draw.cluster[~draw.shown] == -1)
    assert np.all(draw.stimulus[~draw.shown] == 0)


def test_signals_and_outcome_follow_their_links(world: World, draw: NightDraw) -> None:
    m, w = draw.mediator, draw.w
    rate = np.exp(-1.6 + 0.6 * m)
    means = np.stack([expit(-2.6 + m), expit(-2 + 0.8 * m), expit(-3 + 1.1 * m), rate], axis=1)
    spread = np.sqrt(np.concatenate([means[:, :3] * (1 - means[:, :3]), rate[:, None]], axis=1).mean(axis=0) / NUM)
    assert np.all(np.abs(draw.proxies.mean(axis=0) - means.mean(axis=0)) < 4 * spread)
    assert np.all(np.abs(((draw.proxies - means) * m[:, None]).mean(axis=0)) < 6 * spread)
    assert draw.proxies[:, 3].max() <= 6
    z = np.stack([expit(-1 + w), expit(-1.5 + 0.9 * w), expit(-2 + 1.1 * w)], axis=1)
    assert np.all(np.abs(draw.intents.mean(axis=0) - z.mean(axis=0)) < 4 * 0.5 / np.sqrt(NUM))
    p = expit(world.intercept + 0.9 * np.exp(0.5 * np.tanh(draw.x[:, 4])) * m + w + 0.5 * draw.x[:, 5] + 0.15 * m * w)
    assert draw.outcome.mean() == pytest.approx(p.mean(), abs=4 * np.sqrt((p * (1 - p)).mean() / NUM))
    assert abs(((draw.outcome - p) * (p - p.mean())).mean()) < 4 * np.sqrt((p * (1 - p)).mean() / NUM) * p.std() * 2


LEAKS = {
    "leak_y": ("outcome", [2, 0, 3, 0]),
    "leak_y_noanchor": ("outcome", [2, 1, 3, 1]),
    "leak_w": ("w", [0.42, 0.21, 0.42, 0.21]),
}


@pytest.mark.parametrize("name", list(LEAKS))
def test_proxies_leak_as_much_as_their_world_says(name: str, world_of: WorldOf) -> None:
    source, weights = LEAKS[name]
    draw = draw_night(world_of(name, 0, 0.1), 0, 1, np.arange(NUM))
    m, cause = draw.mediator, getattr(draw, source).astype(float)
    eta = np.array([-2.6, -2, -3, -1.6]) + np.outer(m, [1, 0.8, 1.1, 0.6]) + np.outer(cause, weights)
    means = np.concatenate([expit(eta[:, :3]), np.exp(eta[:, 3:])], axis=1)
    spread = np.sqrt(np.concatenate([(means * (1 - means))[:, :3], means[:, 3:]], axis=1).mean(axis=0) / NUM)
    residual = draw.proxies - means
    assert np.all(np.abs(residual.mean(axis=0)) < 4 * spread + [0, 0, 0, 0.002])  # the count is capped
    assert np.all(np.abs((residual * cause[:, None]).mean(axis=0)) < 6 * spread)


def test_rich_signals_are_read_by_no_line_and_carry_intent_and_nuisances(world_of: WorldOf) -> None:
    world = world_of("rich", 0, None)
    draw = draw_night(world, 0, 1, np.arange(NUM))
    assert draw.proxies.shape[1] == 32
    assert draw.proxies.std(axis=0).min() > 0
    assert draw.proxies[:, 3::4].max() > 1 == draw.proxies[:, :3].max()
    rises = np.corrcoef(draw.proxies.T, draw.mediator)[-1, :-1] > 0
    assert rises.mean() > 0.8
    # eta by hand, from the network's weights and nothing else of it
    net, nuisances = world.network, hashing.normals(0, "nuisances", 1, np.arange(NUM), 3)
    assert net is not None
    inputs = np.column_stack([draw.mediator, 0.7 * draw.w, nuisances])
    eta = np.tanh(inputs @ net.first_FH + net.offset_H) @ net.second_HJ
    eta += np.outer(draw.outcome, [2, 1, 3, 1] + 28 * [0]) + np.array(8 * [-1.5, -1.5, -1.5, -1.2])
    binary = np.arange(32) % 4 != 3
    residual = draw.proxies[:, binary] - expit(eta[:, binary])
    assert np.abs(residual.mean(axis=0)).max() < 4.5 * 0.5 / np.sqrt(NUM)
    for cause in (draw.w, draw.mediator, draw.outcome, nuisances[:, 0]):
        assert np.abs((residual * cause[:, None]).mean(axis=0)).max() < 5 * 0.5 / np.sqrt(NUM)


def test_the_noise_of_the_mediator_is_standardised_in_every_world(world_of: WorldOf) -> None:
    skewness = {}
    for name in ("default", "misspecified"):
        world = world_of(name, 0, 0.1)
        draw = draw_night(world, 0, 1, np.arange(NUM))
        noise = (draw.mediator - world.mediator_mean(draw.x, draw.stimulus.sum(axis=1), draw.w)) / 0.8
        assert noise.mean() == pytest.approx(0, abs=4 / np.sqrt(NUM))
        assert noise.std() == pytest.approx(1, abs=0.04)
        skewness[name] = (noise**3).mean()
    assert skewness["default"] == pytest.approx(0, abs=0.1)
    assert skewness["misspecified"] == pytest.approx(np.sqrt(2), abs=0.3)  # of Gamma(2)


def test_half_of_the_uploads_of_the_content_world_are_not_inspired(world_of: WorldOf) -> None:
    world = world_of("content", 0, None)
    draw = draw_night(world, 0, 1, np.arange(NUM))
    total = draw.stimulus.sum(axis=1)[draw.outcome == 1]
    assert np.mean(1.9 / (total + 1.9)) == pytest.approx(0.5, abs=0.05)
    assert draw.outcome[draw.shown.any(axis=1)].mean() == pytest.approx(0.05, abs=4 * np.sqrt(2 * 0.05 / NUM))


def test_a_uniform_sequence_knows_neither_taste_nor_intent(world: World) -> None:
    draw = draw_night(world, 0, 1, np.arange(NUM), uniform=True)
    counts = np.bincount(draw.cluster[draw.shown], minlength=40)
    expected = draw.shown.sum() / 40
    assert np.abs(counts - expected).max() < 4.5 * np.sqrt(expected)
    served = np.where(draw.shown, world.served_K[np.maximum(draw.cluster, 0)], 0).sum(axis=1)
    for cause in (draw.w, draw.x[:, 5]):
        assert abs(np.corrcoef(cause, served)[0, 1]) < 4 / np.sqrt(NUM)
        assert abs(np.corrcoef(cause, draw.shown.sum(axis=1))[0, 1]) < 4 / np.sqrt(NUM)


def test_logged_sequences_know_the_intent_unless_the_world_is_unconfounded(draw: NightDraw, world_of: WorldOf) -> None:
    plain = draw_night(world_of("unconfounded", 0, 0.03), 0, 1, np.arange(NUM))
    for d, confounded in ((draw, True), (plain, False)):
        residual = d.w - 0.3 * d.x[:, 0]
        correlation = np.corrcoef(residual, d.shown.sum(axis=1))[0, 1]
        assert (abs(correlation) > 6 / np.sqrt(NUM)) == confounded


def test_a_withheld_touch_is_gone_and_everything_before_it_stays(world: World, draw: NightDraw) -> None:
    experiment = np.arange(NUM) % 2 == 0
    other = draw_night(world, 0, 1, np.arange(NUM), experiment)
    assert np.all(other.decided[~experiment] == -1)
    assert np.all((other.decided >= 0) == (experiment & draw.shown.any(axis=1)))
    rows = np.nonzero(other.withheld)[0]
    assert len(rows) == pytest.approx(NUM / 4, abs=4 * np.sqrt(NUM / 8))
    assert np.all(draw.shown[rows, other.decided[rows]])
    assert not other.shown[rows, other.decided[rows]].any()
    assert np.array_equal(other.shown.sum(axis=1), draw.shown.sum(axis=1) - other.withheld)
    assert np.array_equal(other.item, draw.item)
    kept = ~other.withheld
    assert np.array_equal(other.outcome[kept], draw.outcome[kept])
    assert np.array_equal(other.intents, draw.intents)
    assert np.all(other.mediator[rows] <= draw.mediator[rows])


def test_the_withheld_touch_is_any_of_the_journeys_with_equal_probability(world: World, draw: NightDraw) -> None:
    other = draw_night(world, 0, 1, np.arange(NUM), np.ones(NUM, dtype=bool))
    rank = np.cumsum(draw.shown, axis=1)[np.arange(NUM), np.maximum(other.decided, 0)]
    for size in (4, 6, 8):
        counts = np.bincount(rank[draw.shown.sum(axis=1) == size], minlength=size + 1)[1:]
        assert np.abs(counts - counts.mean()).max() < 4.5 * np.sqrt(counts.mean())
