"""The worlds: how people, the recommender, inspiration and creation work in them (METHOD section 5).

    X ~ N(0, I);   W = .3 X0 + sqrt(.91) V                                       V: Mechanism.intent
    slot occupied with probability .2 + .6 sig(.4 X5 + .25 conf W)
    cluster ~ (1 - e) softmax(.8 X[:4] E_k + pop_k + conf W z_k) + e / K;        z_k correlates rho_z with s_k
    g = s_item 2 sig(modulation X[:4] F_cluster) decay(age);   S = sum of g      decay: Mechanism.decay
    M = link(S) + .3 X4 - 1 + m_w W + m_e eps                                    link, eps: Mechanism.link, .noise
    D = sum of d_cluster .9 ** (age / 2 h)                                       d = direct max(0, N)
    logit P(Y) = a + .9 exp(het tanh X4) M + W + .5 X5 + .15 M W + D             a: solved for the base rate
    Y'_j ~ link_j(a_j + l_j M + omega_j W + kappa_j Y);   Z_j ~ link_j(a_j + l_j W)

A Mechanism holds the numbers and shapes, WORLDS names them; a World is one with constants drawn from a seed. What
differs from `default` in a world is what its line in WORLDS says, and nothing else. Users are drawn in draws.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from almmta_spark.config import SignalConfig
from almmta_spark.simulator import hashing, signals
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.laws import Decay, ExponentialDecay, Noise, Normal, Saturation, SkewedGamma
from almmta_spark.simulator.signals import SignalLaw

# n users, K clusters, I items (cluster-major), E content, L slots of the lookback window, j signals
# Sums run over explicit columns or cumsum, never through BLAS: its rounding depends on the batch.

NUM_SLOTS = 12
SLOT_HOURS = 2.0
CONTENT_LENGTH = 4
DIRECT_DECAY = ExponentialDecay(0.9)

OUTCOME_PROXIES = (
    SignalLaw("camera_open", -2.6, on_mediator=1.0),
    SignalLaw("template_save", -2.0, on_mediator=0.8),
    SignalLaw("sound_collect", -3.0, on_mediator=1.1),
    SignalLaw("draft_edit", -1.6, on_mediator=0.6, link="log"),
)
INTENT_PROXIES = (
    SignalLaw("search_tutorial", -1.0, on_intent=1.0),
    SignalLaw("open_editor_tips", -1.5, on_intent=0.9),
    SignalLaw("browse_challenges", -2.0, on_intent=1.1),
)


@dataclass(frozen=True)
class Mechanism:
    """What tells one world from another; the defaults are the world `default`."""

    base_rate: float = 0.03
    """Share of journeys (of users with a touch) that an upload follows."""
    num_covariates: int = 6
    """Length of X."""
    num_clusters: int = 40
    """K."""
    intent: Noise = Normal()
    """Law of V, what X does not say of the hidden confounder W."""
    confounding: float = 0.6
    """conf: weight of W in the recommender's choice; a quarter of it acts on the number of touches."""
    served_to_intenders: float = 0.3
    """Correlation (rho_z) of a cluster's being served to intenders with its strength."""
    exploration: float = 0.05
    """e: share of the policy that is uniform over clusters."""
    negative_share: float = 0.0
    """Share of clusters with strength -|N(.3, .8)| in place of max(0, N(.3, .8)): they discourage."""
    decay: Decay = ExponentialDecay(0.85)
    """Share of a stimulus that is left at a real age; per slot (age_hours / 2) here."""
    link: Saturation = Saturation("log1p", 1.4)
    """What the stimuli's sum does to the mediator."""
    noise: Noise = Normal()
    """Law of eps."""
    mediator_noise: float = 0.8
    """m_e: standard deviation of M given S, X and W."""
    mediator_intent: float = 0.0
    """m_w: weight of W in M."""
    heterogeneity: float = 0.5
    """het: how much the effect of M on the outcome differs between people."""
    direct: float = 0.0
    """Scale of what touches do to the outcome beside the mediator."""
    proxies: tuple[SignalLaw, ...] = OUTCOME_PROXIES
    """Y'."""
    intents: tuple[SignalLaw, ...] = INTENT_PROXIES
    """Z."""
    uninspired: float = 1.0
    """Stimulus that un-inspired creation is worth when an upload's content is drawn."""
    item_noise: float = 0.1
    """Standard deviation of an item's content around its cluster's, per dimension."""
    upload_noise: float = 0.15
    """Standard deviation of an upload's content around its origin's, per dimension."""


def _outcome_leaks(*kappa: float, declared: bool = False) -> tuple[SignalLaw, ...]:
    """The four outcome proxies with kappa Y in each; declared: those with kappa 0 are anchors."""
    laws = zip(OUTCOME_PROXIES, kappa, strict=True)
    return tuple(replace(law, on_outcome=k, anchor=declared and k == 0) for law, k in laws)


def _intent_leaks(*omega: float) -> tuple[SignalLaw, ...]:
    """The four outcome proxies with omega W in each."""
    return tuple(replace(law, on_intent=o) for law, o in zip(OUTCOME_PROXIES, omega, strict=True))


_NOT_LOGISTIC = ("cloglog", "probit", "cloglog", "softplus")

WORLDS: Mapping[str, Mechanism] = {
    "default": Mechanism(),
    "hard": Mechanism(served_to_intenders=-0.5),
    "unconfounded": Mechanism(confounding=0.0),
    "leak_y": Mechanism(proxies=_outcome_leaks(2.0, 0.0, 3.0, 0.0, declared=True)),
    "leak_y_noanchor": Mechanism(proxies=_outcome_leaks(2.0, 1.0, 3.0, 1.0)),
    "leak_w": Mechanism(proxies=_intent_leaks(0.42, 0.21, 0.42, 0.21)),
    "direct": Mechanism(direct=0.5),
    "w_to_m": Mechanism(mediator_intent=0.5),
    "misspecified": Mechanism(
        noise=SkewedGamma(),
        proxies=tuple(replace(law, link=link) for law, link in zip(OUTCOME_PROXIES, _NOT_LOGISTIC, strict=True)),
    ),
    "signed": Mechanism(negative_share=0.15, link=Saturation("linear", 0.7)),
    "content": Mechanism(
        base_rate=0.05,
        uninspired=1.9,
        proxies=tuple(replace(law, on_mediator=0.4 * law.on_mediator) for law in OUTCOME_PROXIES),
    ),
}
"""signed: a gain of .7 has log1p's slope at a usual sum. content: half of the uploads are un-inspired at 1.9."""


@dataclass(frozen=True)
class World:
    """Constants and conditional laws. Worlds of one seed share the noise behind their constants."""

    name: str
    seed: int
    mechanism: Mechanism
    intercept: float
    """a of the outcome logit."""
    content_KE: Floats
    modulation_KE: Floats
    """F_k: how taste modulates what the cluster does to a user."""
    strength_K: Floats
    """s_k, exactly 0 for about a third."""
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
    item_strength_I: Floats
    """Strength of each item: its cluster's, unless the world has strengths of items."""

    def with_intercept(self, intercept: float) -> World:
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

    def stimulus(self, x_nd: Floats, item_nL: Ints, age_hours_nL: Floats, shown_nL: np.ndarray) -> Floats:
        """(n, L) g = s_item 2 sig(1.5 X[:4] F_cluster) decay(age); 0 where nothing was shown."""
        item_nL = np.maximum(item_nL, 0)
        modulation_nK = 2 * expit(1.5 * _products(x_nd, self.modulation_KE))
        modulation_nL = np.take_along_axis(modulation_nK, self.item_cluster_I[item_nL], axis=1)
        power_nL = self.item_strength_I[item_nL] * modulation_nL
        return np.where(shown_nL, power_nL * self.mechanism.decay(age_hours_nL), 0.0)

    def direct(self, item_nL: Ints, age_hours_nL: Floats, shown_nL: np.ndarray) -> Floats:
        """(n, L) d_cluster .9 ** (age / 2 h), on the outcome's logit; 0 where nothing was shown."""
        of_cluster_nL = self.direct_K[self.item_cluster_I[np.maximum(item_nL, 0)]]
        return np.where(shown_nL, of_cluster_nL * DIRECT_DECAY(age_hours_nL), 0.0)

    def mediator_mean(self, x_nd: Floats, total: Floats, w: Floats) -> Floats:
        """E[M | T, X, W] = link(S) + .3 X4 - 1 + m_w W, for S and w that broadcast and begin with n."""
        return self.mechanism.link(total) + _column(0.3 * x_nd[:, 4] - 1, total) + self.mechanism.mediator_intent * w

    def outcome_logit(self, x_nd: Floats, w: Floats, m: Floats, direct: Floats) -> Floats:
        """a + .9 exp(het tanh X4) M + W + .5 X5 + .15 M W + D, for w, m and D that broadcast and begin with n."""
        slope = _column(0.9 * np.exp(self.mechanism.heterogeneity * np.tanh(x_nd[:, 4])), m)
        return np.asarray(self.intercept + slope * m + w + _column(0.5 * x_nd[:, 5], m) + 0.15 * m * w + direct)


def mechanism(name: str) -> Mechanism:
    """ValueError for a name that is not in WORLDS."""
    if name not in WORLDS:
        raise ValueError(f"simulator.world must be one of {tuple(WORLDS)}, got {name!r}: change it in the conf file")
    return WORLDS[name]


def signals_of(name: str) -> Mapping[str, SignalConfig]:
    """The world's signals as conf.signals would state them: roles, kinds, and the anchors that it declares."""
    law = mechanism(name)
    return signals.configs(law.proxies, law.intents)


def constants(name: str, seed: int, items_per_cluster: int = 25) -> World:
    """The world before its intercept is solved."""
    law = mechanism(name)
    k, e = law.num_clusters, CONTENT_LENGTH
    ids = np.arange(k)

    def noise(what: str, num: int) -> Floats:
        return hashing.normals(seed, f"world/{what}", 0, ids, num)

    content = noise("content", e) / 2
    drawn = 0.3 + 0.8 * noise("strength", 1)[:, 0]
    discourages = hashing.uniforms(seed, "world/sign", 0, ids, 1)[:, 0] < law.negative_share
    strength = np.where(discourages, -np.abs(drawn), np.maximum(0.0, drawn))
    rho = law.served_to_intenders
    served = rho * (strength - strength.mean()) / strength.std() + np.sqrt(1 - rho**2) * noise("served", 1)[:, 0]
    item_noise = hashing.normals(seed, "world/items", 0, np.arange(k * items_per_cluster), e)
    return World(
        name=name,
        seed=seed,
        mechanism=law,
        intercept=0.0,
        content_KE=content,
        modulation_KE=0.5 * content + np.sqrt(0.75) * noise("modulation", e) / 2,
        strength_K=strength,
        direct_K=law.direct * np.maximum(0.0, noise("direct", 1)[:, 0]),
        served_K=served,
        popularity_K=0.3 * noise("popularity", 1)[:, 0],
        first_item_K=ids * items_per_cluster,
        num_items_K=np.full(k, items_per_cluster),
        item_cluster_I=np.repeat(ids, items_per_cluster),
        item_content_IE=np.repeat(content, items_per_cluster, axis=0) + law.item_noise * item_noise,
        item_strength_I=np.repeat(strength, items_per_cluster),
    )


def row_sums(values: Floats) -> Floats:
    """Sums over the second axis from left to right, so that a user's sum does not depend on the batch."""
    return np.asarray(np.cumsum(values, axis=1)[:, -1])


def _products(x_nd: Floats, vectors_KE: Floats) -> Floats:
    """(n, K) scalar products of the first E covariates with each cluster's vector."""
    return np.asarray(sum(x_nd[:, i, None] * vectors_KE[:, i] for i in range(vectors_KE.shape[1])))


def _column(values_n: Floats, like: Floats) -> Floats:
    return values_n.reshape(values_n.shape + (1,) * (np.ndim(like) - 1))
