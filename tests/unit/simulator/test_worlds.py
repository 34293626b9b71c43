"""The worlds' constants and laws, against METHOD section 5."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from almmta_spark import config
from almmta_spark.simulator import hashing, worlds
from almmta_spark.simulator.draws import draw_night
from almmta_spark.simulator.world import World

SEEDS = range(60)


def mean_correlation(name: str) -> float:
    drawn = [worlds.constants(name, seed) for seed in SEEDS]
    return float(np.mean([np.corrcoef(w.strength_K, w.served_K)[0, 1] for w in drawn]))


def test_hard_serves_intenders_what_does_not_inspire_and_default_what_does() -> None:
    standard_error = 1 / np.sqrt(40 * len(SEEDS))
    assert mean_correlation("hard") == pytest.approx(-0.5, abs=4 * standard_error)
    assert mean_correlation("default") == pytest.approx(0.3, abs=4 * standard_error)


def test_about_a_third_of_the_clusters_inspire_nobody() -> None:
    strengths = np.concatenate([worlds.constants("default", seed).strength_K for seed in SEEDS])
    assert np.mean(strengths == 0) == pytest.approx(0.354, abs=4 * np.sqrt(0.35 * 0.65 / len(strengths)))
    assert np.all(strengths >= 0)


def test_worlds_of_one_seed_share_everything_but_what_names_them() -> None:
    default, hard = worlds.constants("default", 3), worlds.constants("hard", 3)
    np.testing.assert_array_equal(default.content_KE, hard.content_KE)
    np.testing.assert_array_equal(default.strength_K, hard.strength_K)
    assert not np.array_equal(default.served_K, hard.served_K)
    assert not np.array_equal(default.content_KE, worlds.constants("default", 4).content_KE)


def test_the_policy_is_a_softmax_with_exploration() -> None:
    world = worlds.constants("default", 0)
    x = hashing.normals(0, "covariates", 0, np.arange(3), 6)
    w = np.array([-1.5, 0.0, 2.0])
    logit = 0.8 * x[:, :4] @ world.content_KE.T + world.popularity_K + 0.6 * np.outer(w, world.served_K)
    softmax = np.exp(logit) / np.exp(logit).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(world.policy(world.taste_logit(x), w), 0.95 * softmax + 0.05 / 40, rtol=1e-12)


def test_a_stimulus_decays_with_real_time_and_not_by_slot() -> None:
    world = worlds.constants("default", 0)
    item = np.full((1, 3), 25 * int(np.argmax(world.strength_K)))
    g = world.stimulus(np.zeros((1, 6)), item, np.array([[0.5, 1.5, 2.5]]), np.array([[True, True, False]]))
    np.testing.assert_allclose(g[0], [g[0, 0], g[0, 0] * 0.85**0.5, 0.0])
    assert g[0, 0] == pytest.approx(world.strength_K.max() * 0.85**0.25)


def test_no_confounding_means_the_recommender_does_not_see_the_intent() -> None:
    x = hashing.normals(0, "covariates", 0, np.arange(50), 6)
    low, high = np.full(50, -2.0), np.full(50, 2.0)
    for name, equal in (("unconfounded", True), ("default", False)):
        world = worlds.constants(name, 0)
        taste = world.taste_logit(x)
        assert np.array_equal(world.policy(taste, low), world.policy(taste, high)) == equal
        assert np.array_equal(world.p_occupied(x, low), world.p_occupied(x, high)) == equal


@pytest.mark.long
@pytest.mark.parametrize("name", list(worlds.WORLDS))
def test_the_base_rate_of_journeys_is_the_one_asked_for(name: str, world_of: Callable[..., World]) -> None:
    draw = draw_night(world_of(name, 0, 0.03), 0, 7, np.arange(60_000))
    outcomes = draw.outcome[draw.shown.any(axis=1)]
    # 65,536 calibration users and 60,000 drawn ones: the two errors add up
    assert outcomes.mean() == pytest.approx(0.03, abs=4 * np.sqrt(2 * 0.03 * 0.97 / len(outcomes)))


def test_every_world_can_be_chosen_in_conf() -> None:
    assert tuple(worlds.WORLDS) == config.WORLDS


def test_a_seventh_of_the_clusters_discourage_in_signed() -> None:
    strengths = np.concatenate([worlds.constants("signed", seed).strength_K for seed in SEEDS])
    assert np.mean(strengths < 0) == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / len(strengths)))


def test_what_clusters_do_beside_the_mediator_is_half_a_positive_normal() -> None:
    direct = np.concatenate([worlds.constants("direct", seed).direct_K for seed in SEEDS])
    assert np.mean(direct == 0) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(direct)))
    assert np.mean(direct) == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=0.1)
    assert not worlds.constants("default", 0).direct_K.any()


def test_a_world_declares_its_signals_as_conf_would() -> None:
    local = config.load("conf/local.yaml").signals
    assert worlds.signals_of("default") == local
    found = worlds.signals_of("leak_y")
    assert [name for name, signal in found.items() if signal.anchor] == ["template_save", "draft_edit"]
    assert found.keys() == local.keys()
    assert not any(signal.anchor for signal in worlds.signals_of("leak_y_noanchor").values())


def test_an_unknown_world_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"simulator.world must be one of .*default.*hard.*'leek'"):
        worlds.constants("leek", 0)
