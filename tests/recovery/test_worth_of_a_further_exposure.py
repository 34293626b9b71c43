"""What exposure_efficiency assumes, in worlds whose law is known: a further exposure of a good cluster is worth about
what its present ones are on average."""

from __future__ import annotations

import numpy as np
import pytest

from almmta_spark.simulator import draws, truth
from almmta_spark.simulator.world import NUM_SLOTS, row_sums

pytestmark = pytest.mark.long

NUM_USERS = 8_000


@pytest.mark.parametrize("name", ["default", "hard"])
def test_a_further_touch_of_the_best_clusters_adds_what_their_touches_are_worth(name):
    """Exact chances, with the hidden intent as the logs leave it: each touch of the best clusters (a tenth of all)
    once more, to the same user, in a slot that was empty."""
    world = draws.build_world(name, 1)
    draw = draws.draw_night(world, 1, 0, np.arange(NUM_USERS))
    ett, _ = truth.exact_effects(world, draw)
    cluster, effect = draw.cluster[draw.shown], ett[draw.shown]
    mean_K = np.bincount(cluster, effect, minlength=len(world.strength_K)) / np.bincount(cluster)
    best_first = np.argsort(-mean_K)
    share_K = np.cumsum(np.bincount(cluster)[best_first]) / len(cluster)
    best = best_first[: np.searchsorted(share_K, 0.1) + 1]

    empty = (~draw.shown).sum(axis=1) > 0
    n, k = np.nonzero(draw.shown & np.isin(draw.cluster, best) & empty[:, None])
    rng = np.random.default_rng(0)
    slot = np.argmax(np.where(draw.shown[n], -1.0, rng.random((len(n), NUM_SLOTS))), axis=1)
    age = (24 / NUM_SLOTS) * (slot + rng.random(len(n)))
    further = world.stimulus(draw.x[n], draw.item[n, k][:, None], age[:, None], np.ones((len(n), 1), bool))[:, 0]

    grid, prior = truth.confounder_grid(world, draw)
    posterior = truth.confounder_posterior(world, draw, grid, prior)
    total, direct = row_sums(draw.stimulus)[n], np.zeros(len(n))
    before, after = (truth._p_outcome(world, draw.x[n], grid[n], t, direct, 1) for t in (total, total + further))
    gain, present = row_sums(posterior[n] * (after - before)).mean(), ett[n, k].mean()
    print(f"{name}: a further touch adds {gain:.5f}, a present one {present:.5f}, all touches {effect.mean():.5f}")
    assert 0.9 < gain / present < 1.15  # 1.02 and 1.07
    assert gain > 2 * effect.mean()
