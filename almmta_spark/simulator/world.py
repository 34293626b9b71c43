"""A world: constants drawn from a seed, and the conditional laws of its mechanism (equations: mechanism.py)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.items import Source
from almmta_spark.simulator.laws import ExponentialDecay
from almmta_spark.simulator.mechanism import Mechanism
from almmta_spark.simulator.signals import Network

# n users, K clusters, I items (cluster-major), E content, L slots of the lookback window
# Sums run over explicit columns or cumsum, never through BLAS: its rounding depends on the batch.

NUM_SLOTS = 12
CONTENT_LENGTH = 4
DIRECT_DECAY = ExponentialDecay(0.9)


@dataclass(frozen=True)
class World:
    """Constants and conditional laws. Worlds of one seed share the noise behind their constants."""

    name: str
    mechanism: Mechanism
    intercept: float
    """a of the outcome logit."""
    content_KE: Floats
    modulation_KE: Floats
    """F_k: how taste modulates what the cluster does to a user."""
    strength_K: Floats
    """s_k: mean strength of the cluster's items as served; exactly 0 where none has any (a third in named worlds)."""
    direct_K: Floats
    """d_k: what a touch does to the outcome beside M."""
    served_K: Floats
    """z_k: the recommender's preference for intenders."""
    popularity_K: Floats
    first_item_K: Ints
    """Items of cluster k are first_item_K[k] + 0 .. num_items_K[k] - 1."""
    num_items_K: Ints
    item_cluster_I: Ints
    item_content_IE: Floats
    network: Network | None
    """Of the mechanism's entanglement."""
    item_strength_I: Floats
    """s_item: the cluster's, unless the world has strengths of items."""

    def with_intercept(self, intercept: float) -> World:
        """The same world at another base rate."""
        return dataclasses.replace(self, intercept=intercept)

    @property
    def active_K(self) -> Floats:
        """What tells clusters that do something from those that do nothing (exactly 0): s_k + d_k."""
        return self.strength_K + self.direct_K

    def confounder_mean(self, x_nd: Floats) -> Floats:
        """E[W | X] = .3 X0; its standard deviation is confounder_scale."""
        return 0.3 * x_nd[:, 0]

    @property
    def confounder_scale(self) -> float:
        return float(np.sqrt(0.91))

    def p_occupied(self, x_nd: Floats, w_n: Floats) -> Floats:
        """(n,) probability that a slot holds a touch: busy_0 + busy_1 sig(.4 X5 + .25 conf W)."""
        lowest, range_ = self.mechanism.busy
        own_n = x_nd[:, self.mechanism.own_covariates[1]]
        return np.asarray(lowest + range_ * expit(0.4 * own_n + 0.25 * self.mechanism.confounding * w_n))

    @property
    def p_occupied_marginal(self) -> float:
        """The same over X and W where W is symmetric, and about it where W is not."""
        return self.mechanism.busy[0] + self.mechanism.busy[1] * 0.5

    def policy(self, taste_logit_nK: Floats, w_n: Floats) -> Floats:
        """(n, K) probabilities: (1 - e) softmax(taste X[:4] E_k + pop_k + conf W z_k) + e / K."""
        logit = taste_logit_nK + (self.mechanism.confounding * w_n)[:, None] * self.served_K
        odds = np.exp(logit - logit.max(axis=1, keepdims=True))
        share = odds / row_sums(odds)[:, None]
        return np.asarray((1 - self.mechanism.exploration) * share + self.mechanism.exploration / len(self.strength_K))

    def taste_logit(self, x_nd: Floats) -> Floats:
        """(n, K): the policy's logit without W."""
        return self.mechanism.taste * _products(x_nd, self.content_KE) + self.popularity_K

    def stimulus(self, x_nd: Floats, item_nL: Ints, age_hours_nL: Floats, shown_nL: np.ndarray) -> Floats:
        """(n, L) g = s_item 2 sig(modulation X[:4] F_cluster) decay(age); 0 where nothing was shown."""
        item_nL = np.maximum(item_nL, 0)
        modulation_nK = 2 * expit(self.mechanism.modulation * _products(x_nd, self.modulation_KE))
        modulation_nL = np.take_along_axis(modulation_nK, self.item_cluster_I[item_nL], axis=1)
        power_nL = self.item_strength_I[item_nL] * modulation_nL
        return np.where(shown_nL, power_nL * self.mechanism.decay(age_hours_nL), 0.0)

    def direct(self, item_nL: Ints, age_hours_nL: Floats, shown_nL: np.ndarray) -> Floats:
        """(n, L) d_cluster .9 ** (age / 2 h), on the outcome's logit; 0 where nothing was shown."""
        of_cluster_nL = self.direct_K[self.item_cluster_I[np.maximum(item_nL, 0)]]
        return np.where(shown_nL, of_cluster_nL * DIRECT_DECAY(age_hours_nL), 0.0)

    def mediator_mean(self, x_nd: Floats, total: Floats, w: Floats) -> Floats:
        """E[M | T, X, W] = link(S) + .3 X4 + m_0 + m_w W, for S and w that broadcast and begin with n."""
        law = self.mechanism
        own_n = 0.3 * x_nd[:, law.own_covariates[0]] + law.mediator_shift
        return law.link(total) + _column(own_n, total) + law.mediator_intent * w

    def outcome_logit(self, x_nd: Floats, w: Floats, m: Floats, direct: Floats) -> Floats:
        """a + slope exp(het tanh X4) M + y_w W + .5 X5 + y_mw M W + D, for w, m, D that broadcast and begin with n."""
        law = self.mechanism
        effect_n, own_n = (x_nd[:, i] for i in law.own_covariates)
        slope = _column(law.slope * np.exp(law.heterogeneity * np.tanh(effect_n)), m)
        by_intent = law.outcome_intent * w
        return np.asarray(
            self.intercept + slope * m + by_intent + _column(0.5 * own_n, m) + law.interaction * m * w + direct
        )

    def fitted_to(self, total_n: Floats) -> World:
        """The world whose link moves the mediator of users with these S as the mechanism's inspiration says."""
        law = self.mechanism
        if law.inspiration is None:
            return self
        scale = float(np.abs(total_n).mean()) / law.inspiration.typical_sum
        shape = dataclasses.replace(law.link, scale=scale, gain=1.0)
        link = dataclasses.replace(shape, gain=law.inspiration.spread / float(shape(total_n).std()))
        shift = -float(link(total_n).mean())
        return dataclasses.replace(self, mechanism=dataclasses.replace(law, link=link, mediator_shift=shift))


def constants(name: str, law: Mechanism, source: Source, items_per_cluster: int = 25) -> World:
    """The world before its intercept is solved."""
    k, e = law.num_clusters, CONTENT_LENGTH
    content = source.normals("content", k, e) / 2
    sign = np.where(source.uniforms("sign", k, 1)[:, 0] < law.negative_share, -1.0, 1.0)
    items = law.items.catalogue(source, content, sign, items_per_cluster)
    strength, rho = items.strength_K, law.served_to_intenders
    served = rho * (strength - strength.mean()) / strength.std()
    popularity = law.popularity * source.normals("popularity", k, 1)[:, 0]
    rank = 1 + np.argsort(np.argsort(source.uniforms("popularity_rank", k, 1)[:, 0]))
    return World(
        name=name,
        mechanism=law,
        intercept=0.0,
        content_KE=content,
        modulation_KE=0.5 * content + np.sqrt(0.75) * source.normals("modulation", k, e) / 2,
        strength_K=strength,
        direct_K=law.direct * np.maximum(0.0, source.normals("direct", k, 1)[:, 0]),
        served_K=served + np.sqrt(1 - rho**2) * source.normals("served", k, 1)[:, 0],
        popularity_K=popularity - law.popularity_zipf * np.log(rank),
        first_item_K=np.cumsum(items.num_items_K) - items.num_items_K,
        num_items_K=items.num_items_K,
        item_cluster_I=np.repeat(np.arange(k), items.num_items_K),
        item_content_IE=items.content_IE,
        item_strength_I=items.strength_I,
        network=law.entanglement.network(source, len(law.proxies)) if law.entanglement else None,
    )


def row_sums(values: Floats) -> Floats:
    """Sums over the second axis from left to right, so that a user's sum does not depend on the batch."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


def _products(x_nd: Floats, vectors_KE: Floats) -> Floats:
    """(n, K) scalar products of the first E covariates with each cluster's vector."""
    return np.asarray(sum(x_nd[:, i, None] * vectors_KE[:, i] for i in range(vectors_KE.shape[1])))


def _column(values_n: Floats, like: Floats) -> Floats:
    return values_n.reshape(values_n.shape + (1,) * (np.ndim(like) - 1))
