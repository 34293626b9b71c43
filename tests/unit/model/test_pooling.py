"""Effects of items and authors: what shrinkage does where data are few and where they are many."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from almmta_spark.config import ModelConfig
from almmta_spark.model import Batch, build
from almmta_spark.model.pooling import PooledEffects, hashed_normal, rows
from tests.unit.model.conftest import SPEC

IDS = torch.arange(40)
NUM_ROWS = 1 << 22
"""So many that none of the ids of these tests share one."""


def fitted(observed: torch.Tensor, touches: int, scale: float, information: float = 1.0) -> PooledEffects:
    """Effects whose means minimise the cost of touches that each observe N(delta_i, 1 / information)."""
    effects = PooledEffects(NUM_ROWS, salt=1)
    effects.reset_parameters()
    with torch.no_grad():
        effects.log_scale.fill_(math.log(scale))
        effects.log_information.fill_(math.log(information))
    optimiser = torch.optim.LBFGS([effects.mean_N], max_iter=100, line_search_fn="strong_wolfe")
    count = torch.full((1, len(IDS)), float(touches))

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        delta, cost = effects.draw(IDS[None], count, torch.zeros(1, len(IDS)), progress=1.0)
        total = (touches * (information * (observed - delta).square() / 2 + cost)).sum()
        total.backward()
        return total

    optimiser.step(loss)
    return effects


def test_an_id_nobody_has_met_has_the_mean_of_the_prior():
    effects = fitted(torch.ones(len(IDS)), touches=1000, scale=1.0)
    assert not effects.eval()(torch.arange(1000, 4000)[None])[0].any()


@pytest.mark.long
@settings(deadline=None, max_examples=20)
@given(st.integers(1, 10_000), st.floats(0.05, 3.0))
def test_a_mean_is_shrunk_as_far_as_the_touches_say(touches, scale):
    """The posterior mean of a normal: n / (n + 1 / scale^2) of what was observed; all of it where n is large."""
    observed = torch.linspace(-2, 2, len(IDS))
    found = fitted(observed, touches, scale).eval()(IDS[None])[0][0].detach()
    torch.testing.assert_close(found, observed * touches / (touches + scale**-2), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("touches", [0.0, 3.0, 300.0])
def test_the_spread_of_a_draw_is_that_of_the_posterior(touches):
    effects = PooledEffects(8, salt=1)
    effects.reset_parameters()
    noise = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    drawn = effects.draw(torch.zeros(1, 20_000, dtype=torch.long), torch.full((1, 20_000), touches), noise, 1.0)[0]
    information = math.exp(float(effects.log_information.detach()))
    scale = math.exp(float(effects.log_scale.detach()))
    expected = (scale**-2 + touches * information) ** -0.5
    assert float(drawn.std().detach()) == pytest.approx(expected, rel=0.02)


def test_an_epoch_pays_for_each_item_once():
    effects = PooledEffects(64, salt=1)
    effects.reset_parameters()
    with torch.no_grad():
        effects.mean_N.normal_()
    items = torch.tensor([[3, 3, 3, 5]])
    touches = torch.tensor([[3.0, 3.0, 3.0, 1.0]])
    _, cost = effects.draw(items, touches, torch.zeros(1, 4), progress=1.0)
    _, alone = effects.draw(items[:, [0, 3]], touches[:, [0, 3]], torch.zeros(1, 2), progress=1.0)
    torch.testing.assert_close(cost.sum(), (alone * touches[:, [0, 3]]).sum())


def test_the_scale_is_held_while_means_have_not_grown():
    for progress, learns in ((0.1, False), (0.9, True)):
        effects = PooledEffects(8, salt=1)
        effects.reset_parameters()
        ones = torch.ones(1, 4)
        delta, cost = effects.draw(torch.arange(4)[None], ones, ones, progress)
        (delta.square().sum() + cost.sum()).backward()
        assert bool(effects.log_scale.grad) == learns


def test_noise_is_normal_and_a_function_of_journey_position_progress_and_salt(batch):
    wide = replace(batch, journey_id_B=torch.arange(2000), cluster_BL=torch.zeros(2000, 12, dtype=torch.long))
    noise = hashed_normal(wide, 0.25, salt=1)
    assert torch.equal(noise, hashed_normal(wide, 0.25, salt=1))
    some = replace(wide, journey_id_B=torch.arange(2000)[5:9], cluster_BL=wide.cluster_BL[5:9, :7])
    assert torch.equal(hashed_normal(some, 0.25, salt=1), noise[5:9, :7])
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    drawn_anew = [hashed_normal(wide, 0.25, salt=2), hashed_normal(wide, 0.2501, salt=1)]
    for other in (*drawn_anew, noise.roll(1, 0), noise.roll(1, 1)):
        assert abs(np.corrcoef(noise.flatten(), other.flatten())[0, 1]) < 0.03


def test_rows_spread_ids_that_follow_one_another():
    found = torch.bincount(rows(torch.arange(-50_000, 50_000), 1000), minlength=1000)
    assert int(found.min()) > 50 and int(found.max()) < 160
    assert torch.equal(rows(torch.arange(5), 1000), rows(torch.arange(5), 1000))


def test_of_one_cluster_and_content_the_item_seen_to_inspire_ranks_first(columns):
    same = {
        "cluster_index": np.zeros((6, 6), np.int32),
        "touch_embedding": np.ones((6, 24), np.float32),
        "age_hours": np.ones((6, 6), np.float32),
        "item_id": np.tile(np.arange(1, 7), (6, 1)),
        "author_id": np.ones((6, 6), np.int64),
        "num_touches": np.full(6, 6, np.int32),
    }
    model = build("latent", SPEC, ModelConfig()).eval()
    batch = Batch.from_columns(columns | same, SPEC)
    assert torch.allclose(*model.effects(batch).removal_effect_BL[:, :2].unbind(1))
    with torch.no_grad():
        model.encoder.items.mean_N[rows(torch.tensor(4), 65_536)] = 1.0
    effects = model.effects(batch).removal_effect_BL
    assert (effects.argmax(1) == 3).all()
