"""What tells one world from another: numbers and shapes (METHOD section 5).

    X ~ N(0, I);   W = .3 X0 + sqrt(.91) V                                             V ~ intent
    slot occupied with probability busy_0 + busy_1 sig(.4 X5 + .25 conf W)
    cluster ~ (1 - e) softmax(taste X[:4] E_k + pop_k + conf W z_k) + e / K            z_k correlates rho_z with s_k
    g = s_item 2 sig(modulation X[:4] F_cluster) decay(age);   S = sum of g
    M = link(S) + .3 X4 + m_0 + m_w W + m_e eps                                        eps ~ noise
    D = sum of d_cluster .9 ** (age / 2 h)                                             d = direct max(0, N)
    logit P(Y) = a + slope exp(het tanh X4) M + y_w W + .5 X5 + y_mw M W + D           a: solved for the base rate
    Y'_j ~ link_j(a_j + l_j M + omega_j W + kappa_j Y + N_j(M, .7 W, nuisances))       N_j: entanglement, else 0
    Z_j ~ link_j(a_j + l_j W)

X4 and X5 stand for the mechanism's own_covariates.
"""

from __future__ import annotations

from dataclasses import dataclass

from almmta_spark.simulator.items import EqualItems, ItemLaw
from almmta_spark.simulator.laws import Clock, Decay, ExponentialDecay, Noise, Normal, Saturation, SlotClock
from almmta_spark.simulator.signals import Entanglement, SignalLaw

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
class Inspiration:
    """How much the touches move the mediator over the users of a world, whatever its stimuli are like."""

    typical_sum: float
    """Mean |S| in units of the link's scale: how far the link is into its saturation."""
    spread: float
    """Standard deviation of link(S)."""


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
    taste: float = 0.8
    """Weight of the taste X[:4] in the recommender's choice."""
    popularity: float = 0.3
    """Standard deviation of pop_k."""
    popularity_zipf: float = 0.0
    """pop_k also falls by this times the log of the cluster's (random) rank: 0 flat, 1 Zipf's law."""
    busy: tuple[float, float] = (0.2, 0.6)
    """Lowest probability of a touch in a slot, and how much the user adds to it."""
    clock: Clock = SlotClock()
    """When touches happen."""
    items: ItemLaw = EqualItems()
    """What items a cluster has, and how strong each is."""
    modulation: float = 1.5
    """How much taste modulates a stimulus."""
    negative_share: float = 0.0
    """Share of clusters that discourage: strength -|N(.3, .8)| in place of max(0, N(.3, .8))."""
    decay: Decay = ExponentialDecay(0.85)
    """Share of a stimulus that is left at a real age; per slot (age_hours / 2) here."""
    link: Saturation = Saturation("log1p", 1.4)
    """What the stimuli's sum does to the mediator."""
    inspiration: Inspiration | None = None
    """Fits scale and gain of the link and m_0 to the world's users; None: they are what they are."""
    noise: Noise = Normal()
    """Law of eps."""
    mediator_shift: float = -1.0
    """m_0."""
    mediator_noise: float = 0.8
    """m_e: standard deviation of M given S, X and W."""
    mediator_intent: float = 0.0
    """m_w: weight of W in M."""
    slope: float = 0.9
    """Effect of M on the outcome's logit, of people with X4 = 0."""
    heterogeneity: float = 0.5
    """het: how much the effect of M on the outcome differs between people."""
    outcome_intent: float = 1.0
    """y_w: effect of W on the outcome's logit."""
    interaction: float = 0.15
    """y_mw: by how much W strengthens the effect of M."""
    own_covariates: tuple[int, int] = (4, 5)
    """The covariate of M and of its effect, and that of the number of touches and of the outcome."""
    direct: float = 0.0
    """Scale of what touches do to the outcome beside the mediator."""
    proxies: tuple[SignalLaw, ...] = OUTCOME_PROXIES
    """Y'."""
    entanglement: Entanglement | None = None
    """A network that stands between M and Y'; None: each is read from its own line."""
    intents: tuple[SignalLaw, ...] = INTENT_PROXIES
    """Z."""
    uninspired: float = 1.0
    """Stimulus that un-inspired creation is worth when an upload's content is drawn."""
    upload_noise: float = 0.15
    """Standard deviation of an upload's content around its origin's, per dimension."""
