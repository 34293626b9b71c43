"""What is seen of the mediator and of the intent: the signals of a world, their links and their leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from almmta_spark.config import SignalConfig
from almmta_spark.simulator.hashing import Floats, Ints
from almmta_spark.simulator.items import Source
from almmta_spark.simulator.laws import P_OF_LOGIT, RATE_OF_LOG

# n users, j signals, F inputs and H units of a network

COUNT_CAP = 6
"""Largest value of a count signal."""


@dataclass(frozen=True)
class SignalLaw:
    """eta = intercept + on_mediator M + on_intent W + on_outcome Y, then a Bernoulli or a capped Poisson."""

    name: str
    intercept: float
    on_mediator: float = 0.0
    on_intent: float = 0.0
    """Not 0 in an outcome proxy: W leaks into it."""
    on_outcome: float = 0.0
    """Not 0: Y leaks into it."""
    link: str = "logit"
    """logit, probit or cloglog: binary. log or softplus: a count."""
    anchor: bool = False
    """Declared as known not to be caused by the upload."""

    @property
    def kind(self) -> str:
        return "count" if self.link in RATE_OF_LOG else "binary"


@dataclass(frozen=True)
class Entanglement:
    """A network between what happened and the outcome proxies: eta_j gains N_j(M, intent W, nuisance factors)."""

    intent: float = 0.7
    """Weight of W among the network's inputs: it leaks into every signal."""
    num_nuisances: int = 3
    """Factors of a user and night that nothing else knows, N(0, 1)."""
    hidden: int = 16
    """Units of the first layer."""
    gain: float = 0.8
    """Scale of the network's output, about a signal's standard deviation in eta."""

    def network(self, source: Source, num_signals: int) -> Network:
        """M's weights in the first layer are positive and the second layer's lean to it: most signals rise with M."""
        first_FH = source.normals("network_first", 2 + self.num_nuisances, self.hidden)
        first_FH[0] = np.abs(first_FH[0])
        second_HJ = 0.5 + source.normals("network_second", self.hidden, num_signals)
        return Network(
            self,
            first_FH=first_FH,
            offset_H=source.normals("network_offset", 1, self.hidden)[0] / 2,
            second_HJ=self.gain / np.sqrt(self.hidden / 2) * second_HJ,
        )


@dataclass(frozen=True)
class Network:
    """N(f) = second . tanh(first . f + offset) with f = (M, intent W, nuisances)."""

    law: Entanglement
    first_FH: Floats
    offset_H: Floats
    second_HJ: Floats

    def __call__(self, m_n: Floats, w_n: Floats, nuisances_nf: Floats) -> Floats:
        """(n, j); summed input by input and unit by unit, so that a user's value does not depend on the batch."""
        inputs = (m_n, self.law.intent * w_n, *nuisances_nf.T)
        hidden_nH = self.offset_H + sum(f[:, None] * row for f, row in zip(inputs, self.first_FH, strict=True))
        units_Hn = np.tanh(hidden_nH).T
        return np.asarray(sum(unit[:, None] * row for unit, row in zip(units_Hn, self.second_HJ, strict=True)))


def configs(proxies: Sequence[SignalLaw], intents: Sequence[SignalLaw]) -> Mapping[str, SignalConfig]:
    """What conf.signals says of the signals when it knows what the world declares."""
    roles = [(s, "outcome_proxy") for s in proxies] + [(s, "intent_proxy") for s in intents]
    return {s.name: SignalConfig((role,), s.kind, s.anchor) for s, role in roles}


def logits(laws: Sequence[SignalLaw], m_n: Floats, w_n: Floats, y_n: Ints) -> Floats:
    """(n, j) eta."""

    def row(name: str) -> Floats:
        return np.array([getattr(law, name) for law in laws])

    m_n1, w_n1, y_n1 = m_n[:, None], w_n[:, None], y_n[:, None]
    eta_nj = row("intercept") + row("on_mediator") * m_n1
    return np.asarray(eta_nj + row("on_intent") * w_n1 + row("on_outcome") * y_n1)


def drawn(laws: Sequence[SignalLaw], eta_nj: Floats, u_nj: Floats) -> Ints:
    """(n, j) values, by inverting each signal's distribution function at u."""
    columns = [
        _count(RATE_OF_LOG[law.link](eta), u) if law.kind == "count" else u < P_OF_LOGIT[law.link](eta)
        for law, eta, u in zip(laws, eta_nj.T, u_nj.T, strict=True)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def _count(rate_n: Floats, u_n: Floats) -> Ints:
    """Poisson, capped."""
    mass, cumulative, count = np.exp(-rate_n), np.zeros(len(rate_n)), np.zeros(len(rate_n), dtype=np.int64)
    for value in range(COUNT_CAP):
        cumulative = cumulative + mass
        count += u_n > cumulative
        mass = mass * rate_n / (value + 1)
    return count
