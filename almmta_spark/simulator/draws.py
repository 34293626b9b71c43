"""One night of many users in one world, vectorised; every number is a hash of (seed, night, user id)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from almmta_spark.simulator import hashing, signals, worlds
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.world import CONTENT_LENGTH, NUM_SLOTS, World, row_sums

# n users, d covariates, L slots of the lookback window (slot 0 is the newest), K clusters, E content

CALIBRATION_USERS = 65_536

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class NightDraw:
    """A night of n users. Entries of cluster, item and age of slots that are not shown carry no meaning (-1, -1, 0)."""

    user_ids: Ints
    x: Floats
    """(n, d) covariates, the same every night."""
    w: Floats
    """(n,) hidden confounder, drawn afresh each night."""
    shown: Bools
    """(n, L) the slot holds a touch that the user saw."""
    cluster: Ints
    item: Ints
    """(n, L) index of the item in the world."""
    age_microseconds: Ints
    """(n, L) before index_ts, in (0, 24 h], newest first."""
    stimulus: Floats
    """(n, L) g_k, 0 where nothing was shown."""
    direct: Floats
    """(n, L) what the touch does to the outcome's logit beside M."""
    mediator: Floats
    """(n,) M."""
    outcome: Ints
    """(n,) Y."""
    proxies: Ints
    """(n, j) Y', in the order of the mechanism's proxies."""
    intents: Ints
    """(n, j) Z."""
    decided: Ints
    """(n,) slot of the touch in the withholding experiment, -1: none."""
    withheld: Bools
    """(n,) that touch was not shown."""

    @property
    def age_hours(self) -> Floats:
        return self.age_microseconds / 3_600_000_000


@lru_cache(maxsize=32)
def build_world(name: str, seed: int, base_rate: float | None = None, items_per_cluster: int = 25) -> World:
    """The world with its intercept solved: a share base_rate of journeys (of users with a touch) has an outcome.

    base_rate: None means the world's own. The expectation runs over 65,536 users with negative ids, which no log
    holds, and 9 nodes of M's noise.
    """
    world = worlds.constants(name, seed, items_per_cluster)
    target = world.mechanism.base_rate if base_rate is None else base_rate
    draw = draw_night(world, seed, 0, -1 - np.arange(CALIBRATION_USERS))
    total, direct, w = row_sums(draw.stimulus), row_sums(draw.direct), draw.w[:, None]
    world = world.fitted_to(total)
    law = world.mechanism
    nodes, weights = law.noise.nodes(9)
    m = world.mediator_mean(draw.x, total[:, None], w) + law.mediator_noise * nodes
    logit = world.outcome_logit(draw.x, w, m, direct[:, None])[draw.shown.any(axis=1)]
    return world.with_intercept(
        float(brentq(lambda a: float((expit(logit + a) * weights).sum(axis=1).mean()) - target, -40, 40))
    )


def draw_night(
    world: World,
    seed: int,
    night: int,
    user_ids: Any,
    experiment: Any = None,
    uniform: bool = False,
) -> NightDraw:
    """What happened to the users on a night (any integer; logs use the proleptic ordinal of ds).

    experiment: (n,) users of whom one touch, chosen uniformly, is withheld with probability 1/2.
    uniform: the whole sequence is drawn without regard to X and W: slots at their marginal rate, clusters uniform.
    """
    users = np.asarray(user_ids, dtype=np.int64)
    law = world.mechanism
    x = covariates(world, seed, users)
    u = hashing.uniforms(seed, "noise", night, users, 2)
    w = world.confounder_mean(x) + world.confounder_scale * law.intent.of_uniform(u[:, 0])
    occupied, cluster, item, age = _draw_touches(world, seed, night, users, x, w, uniform)
    decided, withheld = _draw_withholding(seed, night, users, occupied, experiment)
    shown = occupied & ~(withheld[:, None] & (np.arange(NUM_SLOTS) == decided[:, None]))
    age_hours = age / 3_600_000_000
    stimulus, direct = world.stimulus(x, item, age_hours, shown), world.direct(item, age_hours, shown)
    mediator = world.mediator_mean(x, row_sums(stimulus), w) + law.mediator_noise * law.noise.of_uniform(u[:, 1])
    p_outcome = expit(world.outcome_logit(x, w, mediator, row_sums(direct)))
    outcome = (hashing.uniforms(seed, "outcome", night, users, 1)[:, 0] < p_outcome).astype(np.int64)
    return NightDraw(
        user_ids=users,
        x=x,
        w=w,
        shown=shown,
        cluster=np.where(occupied, cluster, -1),
        item=np.where(occupied, item, -1),
        age_microseconds=np.where(occupied, age, 0),
        stimulus=stimulus,
        direct=direct,
        mediator=mediator,
        outcome=outcome,
        proxies=_draw_proxies(world, seed, night, users, mediator, w, outcome),
        intents=_draw_intents(world, seed, night, users, mediator, w, outcome),
        decided=decided,
        withheld=withheld,
    )


def covariates(world: World, seed: int, user_ids: Any) -> Floats:
    """(n, d) X, the same every night."""
    return hashing.normals(seed, "covariates", 0, user_ids, world.mechanism.num_covariates)


def upload_content(world: World, draw: NightDraw, seed: int, night: int) -> Floats:
    """(n, E) content an upload of each user would have: its origin's, plus noise.

    The origin is touch k with probability g_k / (S + uninspired), else the user's own taste X[:4] / 2. A touch that
    discourages (g_k < 0) is nobody's origin and does not count in S.
    """
    law = world.mechanism
    reach_nL = np.cumsum(np.maximum(draw.stimulus, 0.0), axis=1)
    total_n = reach_nL[:, -1] + law.uninspired
    mark_n = hashing.uniforms(seed, "upload_origin", night, draw.user_ids, 1)[:, 0] * total_n
    origin_n = (reach_nL <= mark_n[:, None]).sum(axis=1)
    inspired = origin_n < draw.item.shape[1]
    item_n = draw.item[np.arange(len(mark_n)), np.minimum(origin_n, draw.item.shape[1] - 1)]
    taste = draw.x[:, :CONTENT_LENGTH] / 2
    base = np.where(inspired[:, None], world.item_content_IE[np.maximum(item_n, 0)], taste)
    noise = hashing.normals(seed, "upload_content", night, draw.user_ids, CONTENT_LENGTH)
    return np.asarray(base + law.upload_noise * noise)


def _draw_touches(
    world: World, seed: int, night: int, users: Ints, x: Floats, w: Floats, uniform: bool
) -> tuple[Bools, Ints, Ints, Ints]:
    slots = NUM_SLOTS
    p_occupied = np.full(len(users), world.p_occupied_marginal) if uniform else world.p_occupied(x, w)
    occupied = hashing.uniforms(seed, "occupied", night, users, slots) < p_occupied[:, None]
    choice = hashing.uniforms(seed, "cluster", night, users, slots)
    num = len(world.strength_K)
    cluster = (choice * num).astype(np.int64) if uniform else _choose(world.policy(world.taste_logit(x), w), choice)
    power = world.mechanism.items.popularity_power
    of_cluster = hashing.uniforms(seed, "item", night, users, slots) ** power * world.num_items_K[cluster]
    item = world.first_item_K[cluster] + of_cluster.astype(np.int64)
    return occupied, cluster, item, world.mechanism.clock(seed, night, users, slots)


def _choose(p_nK: Floats, choice_nL: Floats) -> Ints:
    """(n, L) categorical draws by inverting the cumulative probabilities."""
    bounds_nK = np.cumsum(p_nK, axis=1)[:, :-1]
    return np.stack([(column[:, None] > bounds_nK).sum(axis=1) for column in choice_nL.T], axis=1)


def _draw_withholding(seed: int, night: int, users: Ints, occupied: Bools, experiment: Any) -> tuple[Ints, Bools]:
    """Slot of one occupied slot chosen uniformly (-1: the user is not in the experiment or has none), and its arm."""
    u = hashing.uniforms(seed, "withholding", night, users, 2)
    num = occupied.sum(axis=1)
    rank = (u[:, 0] * num).astype(np.int64)
    slot = np.argmax(np.cumsum(occupied, axis=1) == rank[:, None] + 1, axis=1)
    taking_part = (num > 0) & (False if experiment is None else np.asarray(experiment, dtype=bool))
    return np.where(taking_part, slot, -1), taking_part & (u[:, 1] < 0.5)


def _draw_proxies(world: World, seed: int, night: int, users: Ints, m: Floats, w: Floats, y: Ints) -> Ints:
    """Y' given M, W and Y."""
    laws = world.mechanism.proxies
    eta = signals.logits(laws, m, w, y)
    if world.network:
        nuisances = hashing.normals(seed, "nuisances", night, users, world.network.law.num_nuisances)
        eta = eta + world.network(m, w, nuisances)
    return signals.drawn(laws, eta, hashing.uniforms(seed, "proxies", night, users, len(laws)))


def _draw_intents(world: World, seed: int, night: int, users: Ints, m: Floats, w: Floats, y: Ints) -> Ints:
    """Z given W."""
    laws = world.mechanism.intents
    return signals.drawn(
        laws, signals.logits(laws, m, w, y), hashing.uniforms(seed, "intents", night, users, len(laws))
    )
