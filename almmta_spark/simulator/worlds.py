"""The worlds by name (METHOD section 5): what departs from `default` in a world is what its line here says.

The equations stand in mechanism.py. `random:<k>` is world k of the family in family.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from almmta_spark.config import SignalConfig
from almmta_spark.simulator import family, signals, world
from almmta_spark.simulator.items import Source
from almmta_spark.simulator.laws import Saturation, SkewedGamma
from almmta_spark.simulator.mechanism import OUTCOME_PROXIES, Mechanism
from almmta_spark.simulator.signals import Entanglement, SignalLaw
from almmta_spark.simulator.world import World


def _outcome_leaks(*kappa: float, declared: bool = False) -> tuple[SignalLaw, ...]:
    """The four outcome proxies with kappa Y in each; declared: those with kappa 0 are anchors."""
    laws = zip(OUTCOME_PROXIES, kappa, strict=True)
    return tuple(replace(law, on_outcome=k, anchor=declared and k == 0) for law, k in laws)


def _intent_leaks(*omega: float) -> tuple[SignalLaw, ...]:
    """The four outcome proxies with omega W in each."""
    return tuple(replace(law, on_intent=o) for law, o in zip(OUTCOME_PROXIES, omega, strict=True))


def _session_features(*kappa: float) -> tuple[SignalLaw, ...]:
    """32 signals that only a network knows how to read, every fourth a count; kappa Y in the first of them."""
    leaks = (*kappa, *(32 - len(kappa)) * (0.0,))
    return tuple(
        SignalLaw(
            f"feature_{j:02d}",
            intercept=-1.2 if j % 4 == 3 else -1.5,
            link="log" if j % 4 == 3 else "logit",
            on_outcome=leak,
            anchor=leak == 0,
        )
        for j, leak in enumerate(leaks)
    )


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
    "rich": Mechanism(proxies=_session_features(2.0, 1.0, 3.0, 1.0), entanglement=Entanglement()),
    "rich_hard": Mechanism(
        served_to_intenders=-0.5, proxies=_session_features(2.0, 1.0, 3.0, 1.0), entanglement=Entanglement()
    ),
    "collapsed": Mechanism(taste=8.0, exploration=0.0),
}
"""signed: a gain of .7 has log1p's slope at a usual sum. content: half of the uploads are un-inspired at 1.9."""


def mechanism(name: str) -> Mechanism:
    """ValueError for a name that is neither in WORLDS nor random:<k>."""
    if name in WORLDS:
        return WORLDS[name]
    number = family.number(name)
    if number is None:
        known = (*WORLDS, "random:0", "random:1", "...")
        raise ValueError(f"simulator.world must be one of {known}, got {name!r}: change it in the conf file")
    return family.mechanism(number)


def signals_of(name: str) -> Mapping[str, SignalConfig]:
    """The world's signals as conf.signals would state them: roles, kinds, and the anchors that it declares."""
    law = mechanism(name)
    return signals.configs(law.proxies, law.intents)


def constants(name: str, seed: int, items_per_cluster: int = 25) -> World:
    """The world before its intercept is solved. Named worlds of one seed share the noise behind their constants; world
    k of the family is one world whatever the seed."""
    number = family.number(name)
    source = Source(seed, "world") if number is None else family.source(number)
    return world.constants(name, mechanism(name), source, items_per_cluster)
