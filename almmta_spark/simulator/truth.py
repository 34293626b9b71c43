"""Exact effects of every touch: the world's own law, integrated over what the logs leave open (METHOD section 5)."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from almmta_spark.simulator.draws import NightDraw, draw_night
from almmta_spark.simulator.hashing import Floats
from almmta_spark.simulator.world import NUM_SLOTS, World, row_sums

# n users, L slots, K clusters, G grid nodes of W, Q nodes of M's noise, t touches of all users

GRID_NODES = 21
NOISE_NODES = 9
TOUCHES_AT_A_TIME = 8192


def exact_effects(world: World, draw: NightDraw, refine: int = 1) -> tuple[Floats, Floats]:
    """(n, L) ETT and ATE-X of each shown touch, 0 elsewhere; time and memory are linear in touches (189 nodes each).

    refine: multiplies the nodes of both quadratures.

    ETT_k   = sum_g p(w_g | T, X) [P(Y | do(T), X, w_g) - P(Y | do(T without k), X, w_g)]
    ATE-X_k = the same with p(w_g | X)
    P(Y | do(T), X, w) = sum_q w_q sig(logit of Y at m = E[M | T, X, w] + noise x_q and at the touches' direct part)
    """
    grid_nG, prior_G = confounder_grid(world, draw, refine)
    posterior_nG = confounder_posterior(world, draw, grid_nG, prior_G)
    total_n, direct_n = row_sums(draw.stimulus), row_sums(draw.direct)
    p_all_nG = _p_outcome(world, draw.x, grid_nG, total_n, direct_n, refine)
    ett, ate_x = np.zeros(draw.shown.shape), np.zeros(draw.shown.shape)
    rows, slots = np.nonzero(draw.shown & ((draw.stimulus != 0) | (draw.direct != 0)))
    for start in range(0, len(rows), TOUCHES_AT_A_TIME):
        n, k = rows[start : start + TOUCHES_AT_A_TIME], slots[start : start + TOUCHES_AT_A_TIME]
        without = (total_n[n] - draw.stimulus[n, k], direct_n[n] - draw.direct[n, k])
        gain_tG = p_all_nG[n] - _p_outcome(world, draw.x[n], grid_nG[n], *without, refine)
        ett[n, k] = row_sums(posterior_nG[n] * gain_tG)
        ate_x[n, k] = row_sums(prior_G * gain_tG)
    return ett, ate_x


def interventional(world: World, draw: NightDraw) -> Floats:
    """(n,) P(Y | do(T), X) = sum_g p(w_g | X) P(Y | do(T), X, w_g): what predicts best where T is drawn."""
    grid_nG, prior_G = confounder_grid(world, draw)
    sums = (row_sums(draw.stimulus), row_sums(draw.direct))
    return row_sums(prior_G * _p_outcome(world, draw.x, grid_nG, *sums, refine=1))


def truth_error(world: World, seed: int, num_users: int = 500) -> float:
    """Error of the exact effects by their quadrature, as a share of the effects' RMS; the larger of ETT's and ATE-X's.

    RMS of the difference from five times as many nodes each way, on users with negative ids; about a second.
    """
    draw = draw_night(world, seed, 0, -1 - np.arange(num_users))
    pairs = zip(exact_effects(world, draw), exact_effects(world, draw, refine=5), strict=True)
    return max(float(np.sqrt(((got - fine) ** 2).sum() / (fine**2).sum())) for got, fine in pairs)


def confounder_grid(world: World, draw: NightDraw, refine: int = 1) -> tuple[Floats, Floats]:
    """Nodes (n, G) of W around E[W | X], and the weights (G,) that integrate p(W | X) over them."""
    z_G, weight_G = world.mechanism.intent.grid((GRID_NODES - 1) * refine + 1)
    return world.confounder_mean(draw.x)[:, None] + world.confounder_scale * z_G, weight_G


def confounder_posterior(world: World, draw: NightDraw, grid_nG: Floats, prior_G: Floats) -> Floats:
    """(n, G) p(W | T, X) ~ p(W | X) * prod over slots of p(occupied | X, W), and of policy(cluster | X, W) if so."""
    if draw.withheld.any():
        raise ValueError("exact effects are of journeys as served, got a draw with withheld touches: leave them out")
    taste_nK = world.taste_logit(draw.x)
    num_n = draw.shown.sum(axis=1)
    log_nG = np.tile(np.log(prior_G), (len(num_n), 1))
    for g in range(grid_nG.shape[1]):
        p_slot_n = world.p_occupied(draw.x, grid_nG[:, g])
        log_policy_nK = np.log(world.policy(taste_nK, grid_nG[:, g]))
        log_policy_nL = np.take_along_axis(log_policy_nK, np.maximum(draw.cluster, 0), axis=1)
        log_nG[:, g] += num_n * np.log(p_slot_n) + (NUM_SLOTS - num_n) * np.log1p(-p_slot_n)
        log_nG[:, g] += row_sums(np.where(draw.shown, log_policy_nL, 0.0))
    mass_nG = np.exp(log_nG - log_nG.max(axis=1, keepdims=True))
    return mass_nG / row_sums(mass_nG)[:, None]


def _p_outcome(world: World, x_nd: Floats, grid_nG: Floats, total_n: Floats, direct_n: Floats, refine: int) -> Floats:
    """(n, G) P(Y | do(T), X, w) of journeys whose stimuli and direct parts sum to these."""
    nodes_Q, weights_Q = world.mechanism.noise.nodes(NOISE_NODES * refine)
    mean_nG = world.mediator_mean(x_nd, total_n[:, None], grid_nG)
    p_nG = np.zeros(grid_nG.shape)
    for node, weight in zip(nodes_Q, weights_Q, strict=True):
        m_nG = mean_nG + world.mechanism.mediator_noise * node
        p_nG += weight * expit(world.outcome_logit(x_nd, grid_nG, m_nG, direct_n[:, None]))
    return p_nG
