"""The truth, against brute force that shares no formula with it and against the world's own randomised experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from almmta_spark.simulator import family, laws
from almmta_spark.simulator.draws import NightDraw, draw_night
from almmta_spark.simulator.truth import confounder_grid, confounder_posterior, exact_effects, interventional
from almmta_spark.simulator.world import World

pytestmark = pytest.mark.long

WorldOf = Callable[..., World]

SAMPLES = 100_000


def sigmoid(v: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-v))


def draw_intents(world: World, draw: NightDraw, n: int, posterior: bool) -> tuple[np.ndarray, np.ndarray]:
    """W of user n drawn at random from p(W | X), and the importance weights p(T | X, W) (1: no posterior)."""
    x = draw.x[n]
    w = 0.3 * x[0] + np.sqrt(0.91) * np.random.default_rng(n).standard_normal(SAMPLES)
    weight = np.ones(SAMPLES)
    if posterior:
        p_slot = 0.2 + 0.6 * sigmoid(0.4 * x[5] + 0.25 * 0.6 * w)
        taste = 0.8 * world.content_KE @ x[:4] + world.popularity_K
        softmax = np.exp(taste[:, None] + 0.6 * np.outer(world.served_K, w))
        softmax /= softmax.sum(axis=0)
        for slot in range(12):
            served = 0.95 * softmax[draw.cluster[n, slot]] + 0.05 / 40
            weight *= p_slot * served if draw.shown[n, slot] else 1 - p_slot
    return w, weight


def normal_noise(n: int) -> np.ndarray:
    return np.random.default_rng(1000 + n).standard_normal(SAMPLES)


@dataclass(frozen=True)
class Rules:
    """What METHOD section 5 says of a world, where it departs from `default`."""

    link: Callable[[float], float] = lambda total: 1.4 * np.log1p(total)
    noise: Callable[[int], np.ndarray] = normal_noise
    intent_to_mediator: float = 0.0
    has_direct_path: bool = False


RULES = {
    "default": Rules(),
    "direct": Rules(has_direct_path=True),
    "w_to_m": Rules(intent_to_mediator=0.5),
    "signed": Rules(link=lambda total: 0.7 * total),
    "misspecified": Rules(noise=lambda n: (np.random.default_rng(n).gamma(2, 1, SAMPLES) - 2) / np.sqrt(2)),
}


def brute_force(
    world: World, draw: NightDraw, n: int, k: int, w: np.ndarray, weight: np.ndarray, rules: Rules
) -> tuple[float, float]:
    """Effect of touch k of user n and its standard error, with the mediator's noise drawn at random too.

    Written from METHOD section 5, with the worlds' numbers and nothing of the world's but its constants.
    """
    x = draw.x[n]
    noise = 0.8 * rules.noise(n)

    def p_outcome(skip: int) -> np.ndarray:
        total, direct = 0.0, 0.0
        for slot in np.nonzero(draw.shown[n])[0]:
            c, age = draw.cluster[n, slot], draw.age_microseconds[n, slot] / 7.2e9
            if slot != skip:
                total += world.strength_K[c] * 2 * sigmoid(1.5 * x[:4] @ world.modulation_KE[c]) * 0.85**age
                direct += world.direct_K[c] * 0.9**age if rules.has_direct_path else 0.0
        m = rules.link(total) + 0.3 * x[4] - 1 + rules.intent_to_mediator * w + noise
        slope = 0.9 * np.exp(0.5 * np.tanh(x[4]))
        return sigmoid(world.intercept + slope * m + w + 0.5 * x[5] + 0.15 * m * w + direct)

    gain = p_outcome(-1) - p_outcome(k)
    estimate = (weight * gain).sum() / weight.sum()
    return float(estimate), float(np.sqrt((weight**2 * (gain - estimate) ** 2).sum()) / weight.sum())


@pytest.mark.long
@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("posterior", [True, False], ids=["ett", "ate_x"])
def test_effects_equal_those_of_brute_force(name: str, posterior: bool, world_of: WorldOf) -> None:
    world = world_of(name, 2, 0.1)
    draw = draw_night(world, 2, 1, np.arange(5))
    effects = exact_effects(world, draw)[0 if posterior else 1]
    touches = [(int(n), int(k)) for n, k in np.argwhere(effects != 0)][:15]
    assert len(touches) == 15
    intents = {n: draw_intents(world, draw, n, posterior) for n, _ in touches}
    for n, k in touches:
        expected, error = brute_force(world, draw, n, k, *intents[n], RULES[name])
        assert abs(effects[n, k] - expected) < 4.5 * error, (n, k)
        assert error < 0.05 * abs(expected)  # or the comparison would say nothing


NOISES = {
    laws.Normal: lambda generator, _: generator.standard_normal(SAMPLES),
    laws.HeavyTailed: lambda generator, _: generator.standard_t(5, SAMPLES) * np.sqrt(0.6),
    laws.SkewedGamma: lambda generator, law: (generator.gamma(law.shape, 1, SAMPLES) - law.shape) / law.shape**0.5,
    laws.TwoPoint: lambda generator, law: two_point(generator.random(SAMPLES) < law.p_high, law.p_high),
}
LINKS = {
    "log1p": lambda s, _: np.log(1 + s),
    "hill": lambda s, h: s**h / (1 + s**h),
    "root": lambda s, p: s**p,
    "one_minus_exp": lambda s, _: 1 - np.exp(-s),
}


def two_point(high: np.ndarray, p: float) -> np.ndarray:
    return (high - p) / np.sqrt(p * (1 - p))


def brute_force_of_the_family(world: World, draw: NightDraw, n: int, k: int) -> tuple[float, float]:
    """ETT of touch k of user n and its standard error, by importance weights, in a world with its own mechanism."""
    law, x = world.mechanism, draw.x[n]
    v, eps = (
        NOISES[type(noise)](np.random.default_rng([n, i]), noise) for i, noise in enumerate((law.intent, law.noise))
    )
    w = 0.3 * x[0] + np.sqrt(0.91) * v
    x_of_m, x_of_y = x[law.own_covariates[0]], x[law.own_covariates[1]]
    p_slot = law.busy[0] + law.busy[1] * sigmoid(0.4 * x_of_y + 0.25 * law.confounding * w)
    taste = law.taste * world.content_KE @ x[:4] + world.popularity_K
    softmax = np.exp(taste[:, None] + law.confounding * np.outer(world.served_K, w))
    softmax /= softmax.sum(axis=0)
    shown = np.nonzero(draw.shown[n])[0]
    served = (1 - law.exploration) * softmax[draw.cluster[n, shown]] + law.exploration / law.num_clusters
    weight = p_slot ** len(shown) * (1 - p_slot) ** (12 - len(shown)) * served.prod(axis=0)

    def p_outcome(skip: int) -> np.ndarray:
        total = 0.0
        for slot in set(shown) - {skip}:
            item, hours = draw.item[n, slot], draw.age_microseconds[n, slot] / 3.6e9
            if isinstance(law.decay, laws.PowerDecay):
                left = (1 + hours / law.decay.scale_hours) ** -law.decay.exponent
            else:
                left = law.decay.factor ** (hours / 2)
            taste_for_it = 2 * sigmoid(law.modulation * x[:4] @ world.modulation_KE[draw.cluster[n, slot]])
            total += world.item_strength_I[item] * taste_for_it * left
        inspired = LINKS[law.link.shape](abs(total) / law.link.scale, law.link.power) * np.sign(total)
        m = law.link.gain * inspired + 0.3 * x_of_m + law.mediator_shift + law.mediator_noise * eps
        slope = law.slope * np.exp(law.heterogeneity * np.tanh(x_of_m))
        logit = world.intercept + slope * m + law.outcome_intent * w + 0.5 * x_of_y + law.interaction * m * w
        return sigmoid(logit)

    gain = p_outcome(-1) - p_outcome(k)
    estimate = (weight * gain).sum() / weight.sum()
    return float(estimate), float(np.sqrt((weight**2 * (gain - estimate) ** 2).sum()) / weight.sum())


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_effects_of_a_drawn_world_equal_those_of_brute_force(number: int, world_of: WorldOf) -> None:
    """Between them the five have every law of W and of the noise, every link and both decays."""
    world = world_of(f"random:{number}", 0, 0.05)
    draw = draw_night(world, 0, 1, np.arange(8))
    ett = exact_effects(world, draw)[0]
    touches = [(int(n), int(k)) for n, k in np.argwhere(ett != 0)][:12]
    for n, k in touches:
        expected, error = brute_force_of_the_family(world, draw, n, k)
        assert abs(ett[n, k] - expected) < 4.5 * error + 0.002 * abs(expected), (n, k)
        assert error < 0.08 * abs(expected)


def test_the_five_drawn_worlds_have_every_law_between_them() -> None:
    drawn = [family.mechanism(k) for k in range(5)]
    assert {m.link.shape for m in drawn} == set(LINKS)
    assert {type(m.intent) for m in drawn} == {laws.Normal, laws.HeavyTailed, laws.TwoPoint}
    assert {type(m.noise) for m in drawn} == {laws.Normal, laws.HeavyTailed, laws.SkewedGamma}
    assert {type(m.decay) for m in drawn} == {laws.ExponentialDecay, laws.PowerDecay}


def test_touches_that_discourage_have_negative_effects(world_of: WorldOf) -> None:
    world = world_of("signed", 0, 0.03)
    draw = draw_night(world, 0, 1, np.arange(500))
    sign = np.sign(world.strength_K)[np.maximum(draw.cluster, 0)] * draw.shown
    for effects in exact_effects(world, draw):
        np.testing.assert_array_equal(np.sign(effects), sign)
    assert 0.08 < (sign[draw.shown] < 0).mean() < 0.3


def test_the_posterior_of_the_intent_integrates_to_one_and_moves_only_where_it_was_seen(
    world_of: WorldOf,
) -> None:
    for name, moves in (("default", True), ("unconfounded", False)):
        world = world_of(name, 0, 0.03)
        draw = draw_night(world, 0, 1, np.arange(300))
        grid, prior = confounder_grid(world, draw)
        posterior = confounder_posterior(world, draw, grid, prior)
        np.testing.assert_allclose(posterior.sum(axis=1), 1, rtol=1e-12)
        assert np.allclose(posterior, prior, rtol=1e-9, atol=1e-15) != moves
        # the grid integrates the prior's moments
        assert grid @ prior == pytest.approx(0.3 * draw.x[:, 0], abs=1e-3)
        np.testing.assert_allclose((grid**2) @ prior - (grid @ prior) ** 2, 0.91, rtol=2e-3)


def test_the_posterior_mean_predicts_the_intent_without_bias(world_of: WorldOf) -> None:
    world = world_of("default", 0, 0.03)
    draw = draw_night(world, 0, 1, np.arange(8000))
    grid, prior = confounder_grid(world, draw)
    mean = (grid * confounder_posterior(world, draw, grid, prior)).sum(axis=1)
    shift = mean - 0.3 * draw.x[:, 0]
    slope = np.cov(draw.w - 0.3 * draw.x[:, 0], shift)[0, 1] / np.var(shift)
    assert slope == pytest.approx(1, abs=4 * np.sqrt(0.91 / len(shift)) / shift.std())
    assert shift.std() > 0.1


def test_without_confounding_both_estimands_are_one(world_of: WorldOf) -> None:
    world = world_of("unconfounded", 0, 0.03)
    ett, ate_x = exact_effects(world, draw_night(world, 0, 1, np.arange(200)))
    np.testing.assert_allclose(ett, ate_x, rtol=1e-9)
    assert ett.max() > 0


def test_clusters_that_inspire_nobody_have_exactly_no_effect(world_of: WorldOf) -> None:
    world = world_of("hard", 0, 0.03)
    draw = draw_night(world, 0, 1, np.arange(500))
    ett, ate_x = exact_effects(world, draw)
    null = (world.strength_K == 0)[np.maximum(draw.cluster, 0)]
    assert (null & draw.shown).any()
    assert np.all(ett[null | ~draw.shown] == 0)
    assert np.all(ate_x[null | ~draw.shown] == 0)
    assert np.all(ett[~null & draw.shown] > 0)


@pytest.mark.parametrize("name", ["default", "hard", "direct", "w_to_m", "misspecified", "random:4"])
def test_withholding_touches_costs_the_uploads_that_the_truth_says(name: str, world_of: WorldOf) -> None:
    world = world_of(name, 0, 0.03)
    users = np.arange(40_000)
    served = draw_night(world, 0, 1, users)
    tested = draw_night(world, 0, 1, users, np.ones(len(users), dtype=bool))
    lost = (served.outcome - tested.outcome)[tested.withheld]
    some = users[tested.withheld][:5000]
    ett = exact_effects(world, draw_night(world, 0, 1, some))[0][np.arange(len(some)), tested.decided[some]]
    error = np.sqrt(lost.var() / len(lost) + ett.var() / len(ett))
    assert lost.mean() == pytest.approx(ett.mean(), abs=4 * error)
    assert error < 0.2 * ett.mean()


def test_a_draw_with_withheld_touches_is_refused(world_of: WorldOf) -> None:
    world = world_of("default", 0, 0.03)
    with pytest.raises(ValueError, match="as served"):
        exact_effects(world, draw_night(world, 0, 1, np.arange(20), np.ones(20, dtype=bool)))


@pytest.mark.parametrize("name", ["default", "direct", "random:5"])
def test_nobody_predicts_an_upload_under_randomised_exposure_better_than_the_truth(
    name: str, world_of: WorldOf
) -> None:
    world = world_of(name, 0, 0.05)
    draw = draw_night(world, 0, 1, np.arange(40_000), uniform=True)
    p = interventional(world, draw)
    seen = draw.shown.any(axis=1)
    p, y = p[seen], draw.outcome[seen]
    error = np.sqrt((p * (1 - p)).mean() / len(p))
    assert y.mean() == pytest.approx(p.mean(), abs=4 * error)
    assert abs(((y - p) * (p - p.mean())).mean()) < 4 * error * p.std() * 2  # and calibrated over its range
    alone = exact_effects(world, draw_night(world, 0, 1, np.arange(2000), uniform=True))[1]
    only = draw.shown[:2000].sum(axis=1) == 1
    nothing = dataclasses.replace(draw, stimulus=0 * draw.stimulus, direct=0 * draw.direct)
    gain = interventional(world, draw)[:2000] - interventional(world, nothing)[:2000]
    np.testing.assert_allclose(gain[only], alone[only].sum(axis=1), atol=1e-12)  # of one touch: its ATE-X
