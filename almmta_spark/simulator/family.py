"""The family random:<k>: world k draws everything from broad ranges with its own seed (METHOD section 5).

No world of it need share the functional form that a method was built on. What conf is told about it: the kinds of its
signals, and which outcome proxies Y does not leak into (its anchors; there is one at least).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from almmta_spark.simulator import hashing
from almmta_spark.simulator.items import Source, VariedItems
from almmta_spark.simulator.laws import (
    Decay,
    ExponentialDecay,
    HeavyTailed,
    Noise,
    Normal,
    PowerDecay,
    Saturation,
    SessionClock,
    SkewedGamma,
    TwoPoint,
)
from almmta_spark.simulator.mechanism import INTENT_PROXIES, Inspiration, Mechanism
from almmta_spark.simulator.signals import SignalLaw

PREFIX = "random:"

Option = TypeVar("Option")


def number(name: str) -> int | None:
    """k of random:<k>; None for any other name."""
    found = re.fullmatch(PREFIX + "([0-9]+)", name)
    return int(found[1]) if found else None


def source(k: int) -> Source:
    """Where the constants of world k come from."""
    return Source(k, "random")


@dataclass(frozen=True)
class Dice:
    """Draws by name, so that one more leaves the others as they are."""

    k: int

    def uniform(self, what: str, low: float = 0.0, high: float = 1.0) -> float:
        """In [low, high)."""
        return low + (high - low) * float(hashing.uniforms(self.k, f"random/mechanism/{what}", 0, [0], 1)[0, 0])

    def integer(self, what: str, low: int, high: int) -> int:
        """low to high, both included."""
        return int(self.uniform(what, low, high + 1))

    def log_uniform(self, what: str, low: float, high: float) -> float:
        """In [low, high), its logarithm uniform."""
        return float(np.exp(self.uniform(what, np.log(low), np.log(high))))

    def chance(self, what: str, p: float) -> bool:
        """True with probability p."""
        return self.uniform(what) < p

    def one_of(self, what: str, options: Sequence[Option]) -> Option:
        """Any of the options, each alike."""
        return options[self.integer(what, 0, len(options) - 1)]


def mechanism(k: int) -> Mechanism:
    """World k."""
    dice = Dice(k)
    num_covariates = dice.integer("num_covariates", 4, 20)
    intents: tuple[Noise, ...] = (Normal(), HeavyTailed(), TwoPoint(dice.uniform("p_high", 0.15, 0.5)))
    noises: tuple[Noise, ...] = (Normal(), SkewedGamma(dice.uniform("skewed_shape", 1.0, 4.0)), HeavyTailed())
    return Mechanism(
        base_rate=dice.log_uniform("base_rate", 0.005, 0.05),
        num_covariates=num_covariates,
        own_covariates=(
            dice.integer("covariate_of_mediator", 0, num_covariates - 1),
            dice.integer("covariate_of_outcome", 0, num_covariates - 1),
        ),
        num_clusters=dice.integer("num_clusters", 20, 80),
        intent=dice.one_of("intent", intents),
        confounding=0.0 if dice.chance("unconfounded", 0.15) else dice.uniform("confounding", 0.1, 1.0),
        served_to_intenders=dice.uniform("served_to_intenders", -0.6, 0.6),
        exploration=dice.uniform("exploration", 0.02, 0.1),
        taste=dice.uniform("taste", 0.3, 1.2),
        popularity=dice.uniform("popularity", 0.0, 0.5),
        popularity_zipf=dice.uniform("popularity_zipf", 0.0, 1.0),
        busy=(dice.uniform("busy_lowest", 0.1, 0.35), dice.uniform("busy_range", 0.3, 0.6)),
        clock=SessionClock(dice.integer("sessions", 1, 4), dice.uniform("lag_hours", 0.5, 6.0)),
        items=VariedItems(
            content_noise=dice.uniform("content_noise", 0.15, 0.35),
            popularity_power=dice.uniform("item_popularity", 1.0, 4.0),
            content_share=dice.uniform("content_share", 0.4, 0.8),
        ),
        modulation=dice.uniform("modulation", 0.5, 2.0),
        negative_share=dice.uniform("negative_share", 0.0, 0.2),
        decay=_decay(dice),
        link=_link(dice),
        inspiration=Inspiration(dice.uniform("typical_sum", 0.7, 2.5), dice.uniform("spread", 0.5, 1.0)),
        noise=dice.one_of("noise", noises),
        mediator_noise=dice.uniform("mediator_noise", 0.5, 1.0),
        slope=dice.uniform("slope", 0.6, 1.2),
        heterogeneity=dice.uniform("heterogeneity", 0.0, 1.0),
        outcome_intent=dice.uniform("outcome_intent", 0.5, 1.2),
        interaction=dice.uniform("interaction", -0.1, 0.25),
        proxies=_proxies(dice),
        intents=_intents(dice),
        uninspired=dice.uniform("uninspired", 0.3, 2.0),
    )


def _link(dice: Dice) -> Saturation:
    powers = {"log1p": 1.0, "hill": dice.uniform("hill", 1.0, 2.0), "root": dice.uniform("root", 0.4, 0.8)}
    shape = dice.one_of("link", (*powers, "one_minus_exp"))
    return Saturation(shape, power=powers.get(shape, 1.0))


def _decay(dice: Dice) -> Decay:
    if dice.chance("exponential_decay", 0.5):
        return ExponentialDecay(dice.uniform("decay_factor", 0.7, 0.95))
    return PowerDecay(dice.log_uniform("decay_scale", 1.0, 8.0), dice.uniform("decay_exponent", 0.5, 1.5))


def _proxies(dice: Dice) -> tuple[SignalLaw, ...]:
    """2 to 8 signals. W leaks into half of them in half of the worlds, Y into some but the first in half of them."""
    leaks_intent, leaks_outcome = dice.chance("intent_leaks", 0.5), dice.chance("outcome_leaks", 0.5)
    strongest_intent, strongest_outcome = dice.uniform("intent_leak", 0.1, 0.7), dice.uniform("outcome_leak", 0.5, 3.0)
    laws = []
    for j in range(dice.integer("num_proxies", 2, 8)):

        def of(what: str, low: float, high: float, j: int = j) -> float:
            return dice.uniform(f"{what}/{j}", low, high)

        count = of("is_count", 0, 1) < 0.35
        links = ("log", "softplus") if count else ("logit", "probit", "cloglog")
        intent = strongest_intent * of("intent_share", 0.3, 1) if leaks_intent and of("has_intent", 0, 1) < 0.5 else 0.0
        has_outcome = leaks_outcome and j > 0 and of("has_outcome", 0, 1) < 0.5
        outcome = strongest_outcome * of("outcome_share", 0.3, 1) * (0.5 if count else 1.0) if has_outcome else 0.0
        laws.append(
            SignalLaw(
                name=f"act_{j + 1}",
                intercept=of("intercept", -2.0, -0.3) if count else of("intercept", -3.2, -0.8),
                on_mediator=of("on_mediator", 0.2, 0.7) if count else of("on_mediator", 0.4, 1.3),
                on_intent=intent,
                on_outcome=outcome,
                link=dice.one_of(f"link/{j}", links),
                anchor=not has_outcome,
            )
        )
    return tuple(laws)


def _intents(dice: Dice) -> tuple[SignalLaw, ...]:
    """1 to 3 signals of W from before the window."""
    names = [law.name for law in INTENT_PROXIES[: dice.integer("num_intents", 1, 3)]]
    return tuple(
        SignalLaw(
            name,
            intercept=dice.uniform(f"intent_intercept/{j}", -2.5, -0.7),
            on_intent=dice.uniform(f"on_intent/{j}", 0.5, 1.3),
        )
        for j, name in enumerate(names)
    )
