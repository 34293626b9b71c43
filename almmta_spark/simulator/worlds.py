"""The worlds: how people, the recommender, inspiration and creation work in them (METHOD section 5).

A world is a Mechanism (numbers that tell worlds apart) and constants drawn from its seed. Users are drawn in draws.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from almmta_spark.simulator import hashing
from almmta_spark.simulator.hashing import Floats

# n users, K clusters, I items (cluster-major), E content, L slots of the lookback window, j signals
# Sums run over explicit columns or cumsum, never through BLAS: its rounding depends on the batch.

NUM_CLUSTERS = 40
NUM_SLOTS = 12
SLOT_HOURS = 2.0
NUM_COVARIATES = 6
CONTENT_LENGTH = 4
OUTCOME_PROXIES = ("camera_open", "template_save", "sound_collect", "draft_edit")
INTENT_PROXIES = ("search_tutorial", "open_editor_tips", "browse_challenges")


@dataclass(frozen=True)
class Mechanism:
    """What tells one world from another; the defaults are the world `default`."""

    confounding: float = 0.6
    """Weight of the hidden confounder W in the recommender's choice; a quarter of it acts on the number of touches."""
    served_to_intenders: float = 0.3
    """Correlation (rho_z) of a cluster's being served to intenders with its strength."""
    exploration: float = 0.05
    """Share of the policy that is uniform over clusters."""
    slot_decay: float = 0.85
    """A stimulus is multiplied by it per slot of real age (age_hours / 2)."""
    mediator_gain: float = 1.4
    """M = mediator_gain * log1p(S) + .3 X4 - 1 + mediator_noise * N(0, 1)."""
    mediator_noise: float = 0.8
    """Standard deviation of M given S and X."""
    proxy_intercepts: tuple[float, ...] = (-2.6, -2.0, -3.0, -1.6)
    """Of the three binary outcome proxies (logit) and of the count (log)."""
    proxy_loadings: tuple[float, ...] = (1.0, 0.8, 1.1, 0.6)
    """On M."""
    proxy_cap: int = 6
    """Largest value of the count."""
    intent_intercepts: tuple[float, ...] = (-1.0, -1.5, -2.0)
    """Of the three binary intent proxies (logit)."""
    intent_loadings: tuple[float, ...] = (1.0, 0.9, 1.1)
    """On W."""
    uninspired: float = 1.0
    """Stimulus that un-inspired creation is worth when an upload's content is drawn."""
    item_noise: float = 0.1
    """Standard deviation of an item's content around its cluster's, per dimension."""
    upload_noise: float = 0.15
    """Standard deviation of an upload's content around its origin's, per dimension."""


WORLDS: Mapping[str, Mechanism] = {
    "default": Mechanism(),
    "hard": Mechanism(served_to_intenders=-0.5),
    "unconfounded": Mechanism(confounding=0.0),
}


@dataclass(frozen=True)
class World:
    """Constants and conditional laws. Worlds of one seed share the noise behind their constants."""

    name: str
    seed: int
    mechanism: Mechanism
    items_per_cluster: int
    intercept: float
    """a of the outcome logit."""
    content_KE: Floats
    modulation_KE: Floats
    """F_k: how taste modulates what the cluster does to a user."""
    strength_K: Floats
    """s_k, exactly 0 for about a third."""
    served_K: Floats
    """z_k: the recommender's preference for intenders."""
    popularity_K: Floats
    item_content_IE: Floats
    """Item `cluster * items_per_cluster + i` of the cluster."""

    def with_intercept(self, intercept: float) -> World:
        return dataclasses.replace(self, intercept=intercept)

    def confounder_mean(self, x_nd: Floats) -> Floats:
        """E[W | X] = .3 X0; its standard deviation is confounder_scale."""
        return 0.3 * x_nd[:, 0]

    @property
    def confounder_scale(self) -> float:
        return float(np.sqrt(0.91))

    def p_occupied(self, x_nd: Floats, w_n: Floats) -> Floats:
        """(n,) probability that a slot holds a touch: .2 + .6 sig(.4 X5 + .25 conf W)."""
        return np.asarray(0.2 + 0.6 * expit(0.4 * x_nd[:, 5] + 0.25 * self.mechanism.confounding * w_n))

    @property
    def p_occupied_marginal(self) -> float:
        """The same over X and W: its argument is symmetric around 0."""
        return 0.2 + 0.6 * 0.5

    def policy(self, taste_logit_nK: Floats, w_n: Floats) -> Floats:
        """(n, K) probabilities: (1 - e) softmax(.8 X[:4] E_k + pop_k + conf W z_k) + e / K."""
        logit = taste_logit_nK + (self.mechanism.confounding * w_n)[:, None] * self.served_K
        odds = np.exp(logit - logit.max(axis=1, keepdims=True))
        share = odds / row_sums(odds)[:, None]
        return np.asarray((1 - self.mechanism.exploration) * share + self.mechanism.exploration / len(self.strength_K))

    def taste_logit(self, x_nd: Floats) -> Floats:
        """(n, K): the policy's logit without W."""
        return 0.8 * _products(x_nd, self.content_KE) + self.popularity_K

    def stimulus(self, x_nd: Floats, cluster_nL: np.ndarray, age_hours_nL: Floats, shown_nL: np.ndarray) -> Floats:
        """(n, L) g_k = s_k * 2 sig(1.5 X[:4] F_k) * .85 ** (age_hours / 2); 0 where nothing was shown."""
        power_nK = self.strength_K * 2 * expit(1.5 * _products(x_nd, self.modulation_KE))
        power_nL = np.take_along_axis(power_nK, np.maximum(cluster_nL, 0), axis=1)
        decay_nL = np.exp(np.log(self.mechanism.slot_decay) * age_hours_nL / SLOT_HOURS)
        return np.where(shown_nL, power_nL * decay_nL, 0.0)

    def mediator_mean(self, x_nd: Floats, total: Floats) -> Floats:
        """E[M | T, X] = 1.4 log1p(S) + .3 X4 - 1 for S of shape (n,) or (n, anything)."""
        return self.mechanism.mediator_gain * np.log1p(total) + _column(0.3 * x_nd[:, 4] - 1, total)

    def outcome_logit(self, x_nd: Floats, w: Floats, m: Floats) -> Floats:
        """a + .9 exp(.5 tanh X4) M + W + .5 X5 + .15 M W, for w and m that broadcast and begin with n."""
        slope = _column(0.9 * np.exp(0.5 * np.tanh(x_nd[:, 4])), m)
        return np.asarray(self.intercept + slope * m + w + _column(0.5 * x_nd[:, 5], m) + 0.15 * m * w)


def constants(name: str, seed: int, items_per_cluster: int = 25) -> World:
    """The world before its intercept is solved. ValueError for a name that is not in WORLDS."""
    if name not in WORLDS:
        raise ValueError(f"simulator.world must be one of {tuple(WORLDS)}, got {name!r}: change it in the conf file")
    mechanism, k, e = WORLDS[name], NUM_CLUSTERS, CONTENT_LENGTH
    ids = np.arange(k)

    def noise(what: str, num: int) -> Floats:
        return hashing.normals(seed, f"world/{what}", 0, ids, num)

    content = noise("content", e) / 2
    strength = np.maximum(0.0, 0.3 + 0.8 * noise("strength", 1)[:, 0])
    rho = mechanism.served_to_intenders
    served = rho * (strength - strength.mean()) / strength.std() + np.sqrt(1 - rho**2) * noise("served", 1)[:, 0]
    item_ids = np.arange(k * items_per_cluster)
    item_noise = hashing.normals(seed, "world/items", 0, item_ids, e)
    return World(
        name=name,
        seed=seed,
        mechanism=mechanism,
        items_per_cluster=items_per_cluster,
        intercept=0.0,
        content_KE=content,
        modulation_KE=0.5 * content + np.sqrt(0.75) * noise("modulation", e) / 2,
        strength_K=strength,
        served_K=served,
        popularity_K=0.3 * noise("popularity", 1)[:, 0],
        item_content_IE=np.repeat(content, items_per_cluster, axis=0) + mechanism.item_noise * item_noise,
    )


def normal_nodes(num: int) -> tuple[Floats, Floats]:
    """Gauss-Hermite nodes and weights of N(0, 1): E f(x) = sum_q w_q f(x_q)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    return nodes, weights / weights.sum()


def row_sums(values: Floats) -> Floats:
    """Sums over the second axis from left to right, so that a user's sum does not depend on the batch."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


def _products(x_nd: Floats, vectors_KE: Floats) -> Floats:
    """(n, K) scalar products of the first E covariates with each cluster's vector."""
    return np.asarray(sum(x_nd[:, i, None] * vectors_KE[:, i] for i in range(vectors_KE.shape[1])))


def _column(values_n: Floats, like: Floats) -> Floats:
    return values_n.reshape(values_n.shape + (1,) * (np.ndim(like) - 1))
