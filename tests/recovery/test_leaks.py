"""Leaks of the outcome and of the intent into the proxies: the model that knows of them, beside the same that does not.

One night of 20,000 users a world; bounds leave room for another torch or thread count.
"""

from __future__ import annotations

import pytest
import torch

from almmta_spark.config import ModelConfig, TrainingConfig
from tests.recovery import harness

pytestmark = pytest.mark.long

NUM_USERS = 20_000


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fitted(world: str, conf: ModelConfig, seed: int = 0) -> tuple[harness.Night, torch.nn.Module]:
    night = harness.simulate(world, NUM_USERS, seed=1)
    return night, harness.fit(night, "latent", conf, TrainingConfig(), seed=seed).model


def scores(world: str, conf: ModelConfig) -> harness.Scores:
    night, model = fitted(world, conf)
    return harness.score(harness.estimated_effects(model, night), night)


def test_anchors_free_the_size_of_effects_from_uploads_that_show_in_their_own_proxies():
    blind, knowing = scores("leak_y", ModelConfig(outcome_leak=False)), scores("leak_y", ModelConfig())
    assert blind.magnitude_ratio >= 1.4, blind
    assert 0.7 <= knowing.magnitude_ratio <= 1.25, knowing
    assert knowing.relative_rmse <= min(0.45, 0.6 * blind.relative_rmse), (knowing, blind)


def test_intent_proxies_free_the_size_of_effects_from_intent_that_shows_in_outcome_proxies():
    blind, knowing = scores("leak_w", ModelConfig(hidden_intent=False)), scores("leak_w", ModelConfig())
    assert knowing.magnitude_ratio <= blind.magnitude_ratio - 0.1, (knowing, blind)
    assert 0.7 <= knowing.magnitude_ratio <= 1.2, knowing
    assert knowing.relative_rmse <= min(0.45, blind.relative_rmse), (knowing, blind)


def test_without_an_anchor_a_leak_is_seen_and_fits_differ_in_size():
    gains, sizes = [], []
    for seed in range(2):
        night, model = fitted("leak_y_noanchor", ModelConfig(), seed)
        everything = harness.Batch.from_columns(night.columns, night.spec)
        gains.append(float(model.effects(everything).leak_gain_B.mean()) * 30_000)
        sizes.append(float(model.effects(everything).removal_effect_BL.sum()))
    assert min(gains) > 10, gains
    assert max(sizes) > 1.3 * min(sizes), sizes


def test_no_leak_is_seen_where_there_is_none():
    night, model = fitted("default", ModelConfig())
    gain_B = model.effects(harness.Batch.from_columns(night.columns, night.spec)).leak_gain_B
    assert float(gain_B.mean()) * 30_000 < 10
