"""Leaks of the outcome and of the intent into the proxies: the model that knows of them, beside the same that does not.

One night of 20,000 users a world; bounds leave room for another torch or thread count.
"""

from __future__ import annotations

import pytest
import torch

from almmta_spark.config import ModelConfig, TrainingConfig
from almmta_spark.model import Batch, Effects, build
from tests.recovery import harness

pytestmark = pytest.mark.long

NUM_USERS = 20_000


def fitted(world: str, conf: ModelConfig, seed: int = 0) -> tuple[harness.Night, torch.nn.Module]:
    night = harness.simulate(world, NUM_USERS, seed=1)
    return night, harness.fit(night, "latent", conf, TrainingConfig(), seed=seed).model


def scores(world: str, conf: ModelConfig) -> harness.Scores:
    night, model = fitted(world, conf)
    return harness.score(harness.estimated_effects(model, night), night)


def effects_on_another_night(world: str, seed: int) -> Effects:
    _, model = fitted(world, ModelConfig(), seed)
    other = harness.simulate(world, NUM_USERS, seed=1, night=1)
    return model.effects(Batch.from_columns(other.columns, other.spec))


def gain_per_30_000(effects: Effects) -> float:
    return 30_000 * float(effects.leak_gain_B.mean())


def test_anchors_free_effects_from_uploads_that_show_in_their_own_proxies():
    blind, knowing = scores("leak_y", ModelConfig(outcome_leak=False)), scores("leak_y", ModelConfig())
    assert 0.7 <= knowing.magnitude_ratio <= 1.1 <= blind.magnitude_ratio, (knowing, blind)
    assert knowing.relative_rmse <= min(0.42, 0.75 * blind.relative_rmse), (knowing, blind)


def test_intent_proxies_free_effects_from_intent_that_shows_in_outcome_proxies():
    blind, knowing = scores("leak_w", ModelConfig(hidden_intent=False)), scores("leak_w", ModelConfig())
    assert 0.7 <= knowing.magnitude_ratio <= blind.magnitude_ratio - 0.1, (knowing, blind)
    assert knowing.relative_rmse <= min(0.42, 0.9 * blind.relative_rmse), (knowing, blind)
    assert knowing.within_journey_spearman >= blind.within_journey_spearman + 0.02, (knowing, blind)


def test_without_an_anchor_a_leak_is_seen_on_another_night_and_fits_differ_in_size():
    night = harness.simulate("leak_y_noanchor", NUM_USERS, seed=1)
    drawn = {}
    for seed in range(10):
        model = build("latent", night.spec, ModelConfig())
        model.reset_parameters(torch.Generator().manual_seed(seed))
        drawn[seed] = float(model.leak.drawn.detach())
    order = sorted(drawn, key=lambda seed: drawn[seed])
    least, most = (effects_on_another_night("leak_y_noanchor", seed) for seed in (order[0], order[-1]))
    assert min(gain_per_30_000(least), gain_per_30_000(most)) > 10
    assert float(most.removal_effect_BL.sum()) < 0.85 * float(least.removal_effect_BL.sum())


def test_no_leak_is_seen_on_another_night_where_there_is_none():
    assert gain_per_30_000(effects_on_another_night("default", 0)) < 10
