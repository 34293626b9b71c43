"""One night of many users in one world, vectorised; every number is a hash of (seed, night, user id)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from almmta_spark.simulator import hashing, worlds
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.worlds import World, row_sums

# n users, d covariates, L slots of the lookback window (slot 0 is the newest), K clusters, E content

SLOT_MICROSECONDS = int(worlds.SLOT_HOURS * 3_600_000_000)
CALIBRATION_USERS = 65_536

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class NightDraw:
    """A night of n users. Entries of cluster, item and age of slots that are not shown carry no meaning (-1, -1, 0)."""

    user_ids: Ints
    x: Floats
    """(n, 6) covariates, the same every night."""
    w: Floats
    """(n,) hidden confounder, drawn afresh each night."""
    shown: Bools
    """(n, L) the slot holds a touch that the user saw."""
    cluster: Ints
    item: Ints
    """(n, L) index of the item in the world: cluster * items_per_cluster + i."""
    age_microseconds: Ints
    """(n, L) before index_ts, in (0, 24 h]: slot l holds ages in (2 l, 2 l + 2] hours."""
    stimulus: Floats
    """(n, L) g_k, 0 where nothing was shown."""
    mediator: Floats
    """(n,) M."""
    outcome: Ints
    """(n,) Y."""
    proxies: Ints
    """(n, 4) Y': three binary, one count."""
    intents: Ints
    """(n, 3) Z."""
    decided: Ints
    """(n,) slot of the touch in the withholding experiment, -1: none."""
    withheld: Bools
    """(n,) that touch was not shown."""

    @property
    def age_hours(self) -> Floats:
        return self.age_microseconds / 3_600_000_000


def build_world(name: str, seed: int, base_rate: float = 0.03, items_per_cluster: int = 25) -> World:
    """The world with its intercept solved: a share base_rate of journeys (of users with a touch) has an outcome.

    The expectation runs over 65,536 users with negative ids, which no log holds, and 9 nodes of M's noise.
    """
    world = worlds.constants(name, seed, items_per_cluster)
    draw = draw_night(world, seed, 0, -1 - np.arange(CALIBRATION_USERS))
    nodes, weights = worlds.normal_nodes(9)
    mean = world.mediator_mean(draw.x, row_sums(draw.stimulus))
    m = mean[:, None] + world.mechanism.mediator_noise * nodes
    logit = world.outcome_logit(draw.x, draw.w[:, None], m)[draw.shown.any(axis=1)]
    return world.with_intercept(
        float(brentq(lambda a: float((expit(logit + a) * weights).sum(axis=1).mean()) - base_rate, -40, 40))
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
    x = hashing.normals(seed, "covariates", 0, users, worlds.NUM_COVARIATES)
    noise = hashing.normals(seed, "noise", night, users, 2)
    w = world.confounder_mean(x) + world.confounder_scale * noise[:, 0]
    occupied, cluster, item, age = _draw_touches(world, seed, night, users, x, w, uniform)
    decided, withheld = _draw_withholding(seed, night, users, occupied, experiment)
    shown = occupied & ~(withheld[:, None] & (np.arange(worlds.NUM_SLOTS) == decided[:, None]))
    stimulus = world.stimulus(x, cluster, age / 3_600_000_000, shown)
    mediator = world.mediator_mean(x, row_sums(stimulus)) + world.mechanism.mediator_noise * noise[:, 1]
    p_outcome = expit(world.outcome_logit(x, w, mediator))
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
        mediator=mediator,
        outcome=outcome,
        proxies=_draw_proxies(world, seed, night, users, mediator),
        intents=_draw_intents(world, seed, night, users, w),
        decided=decided,
        withheld=withheld,
    )


def upload_content(world: World, draw: NightDraw, seed: int, night: int) -> Floats:
    """(n, E) content an upload of each user would have: its origin's, plus noise.

    The origin is touch k with probability g_k / (S + uninspired), else the user's own taste X[:4] / 2.
    """
    law = world.mechanism
    reach_nL = np.cumsum(draw.stimulus, axis=1)
    total_n = row_sums(draw.stimulus) + law.uninspired
    mark_n = hashing.uniforms(seed, "upload_origin", night, draw.user_ids, 1)[:, 0] * total_n
    origin_n = (reach_nL <= mark_n[:, None]).sum(axis=1)
    inspired = origin_n < draw.item.shape[1]
    item_n = draw.item[np.arange(len(mark_n)), np.minimum(origin_n, draw.item.shape[1] - 1)]
    taste = draw.x[:, : worlds.CONTENT_LENGTH] / 2
    base = np.where(inspired[:, None], world.item_content_IE[np.maximum(item_n, 0)], taste)
    noise = hashing.normals(seed, "upload_content", night, draw.user_ids, worlds.CONTENT_LENGTH)
    return np.asarray(base + law.upload_noise * noise)


def _draw_touches(
    world: World, seed: int, night: int, users: Ints, x: Floats, w: Floats, uniform: bool
) -> tuple[Bools, Ints, Ints, Ints]:
    slots = worlds.NUM_SLOTS
    p_occupied = np.full(len(users), world.p_occupied_marginal) if uniform else world.p_occupied(x, w)
    occupied = hashing.uniforms(seed, "occupied", night, users, slots) < p_occupied[:, None]
    choice = hashing.uniforms(seed, "cluster", night, users, slots)
    num = len(world.strength_K)
    cluster = (choice * num).astype(np.int64) if uniform else _choose(world.policy(world.taste_logit(x), w), choice)
    of_cluster = (hashing.uniforms(seed, "item", night, users, slots) * world.items_per_cluster).astype(np.int64)
    within = hashing.bits(seed, "time", night, users, slots) % np.uint64(SLOT_MICROSECONDS)
    age = within.astype(np.int64) + 1 + SLOT_MICROSECONDS * np.arange(slots)
    return occupied, cluster, cluster * world.items_per_cluster + of_cluster, age


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


def _draw_proxies(world: World, seed: int, night: int, users: Ints, mediator: Floats) -> Ints:
    """Y' given M: Bernoullis with a logistic link, and a Poisson with a log link, capped."""
    law = world.mechanism
    eta = np.array(law.proxy_intercepts) + np.array(law.proxy_loadings) * mediator[:, None]
    u = hashing.uniforms(seed, "proxies", night, users, eta.shape[1])
    binary = u[:, :-1] < expit(eta[:, :-1])
    rate = np.exp(eta[:, -1])
    mass, cumulative, count = np.exp(-rate), np.zeros(len(users)), np.zeros(len(users), dtype=np.int64)
    for value in range(law.proxy_cap):
        cumulative = cumulative + mass
        count += u[:, -1] > cumulative
        mass = mass * rate / (value + 1)
    return np.concatenate([binary.astype(np.int64), count[:, None]], axis=1)


def _draw_intents(world: World, seed: int, night: int, users: Ints, w: Floats) -> Ints:
    """Z given W: Bernoullis with a logistic link."""
    law = world.mechanism
    eta = np.array(law.intent_intercepts) + np.array(law.intent_loadings) * w[:, None]
    return (hashing.uniforms(seed, "intents", night, users, eta.shape[1]) < expit(eta)).astype(np.int64)
