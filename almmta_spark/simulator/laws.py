"""The shapes that tell worlds apart: laws of noise, decays with age, links of the stimulus, links of a signal.

Noise laws have mean 0 and variance 1; each draws by inverting its distribution function and knows a quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit, gammaincinv, ndtr, ndtri, roots_genlaguerre, stdtrit

from almmta_spark.simulator import hashing
from almmta_spark.simulator.hashing import Floats, Ints

DAY_MICROSECONDS = 86_400_000_000

Quadrature = tuple[Floats, Floats]
"""Nodes and weights (which sum to 1): E f(x) = sum_q w_q f(x_q)."""


class Noise(Protocol):
    """A law of mean 0 and variance 1."""

    def of_uniform(self, u: Floats) -> Floats:
        """The value below which a share u lies."""

    def nodes(self, num: int) -> Quadrature:
        """A quadrature of about num nodes for a smooth function."""

    def grid(self, num: int) -> Quadrature:
        """One that also carries a likelihood: p(x | data) ~ w_q p(data | x_q)."""


@dataclass(frozen=True)
class Normal:
    """N(0, 1)."""

    def of_uniform(self, u: Floats) -> Floats:
        """Its quantile."""
        return np.asarray(ndtri(u))

    def nodes(self, num: int) -> Quadrature:
        """Gauss-Hermite."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(num)
        return nodes, weights / weights.sum()

    def grid(self, num: int) -> Quadrature:
        """Equidistant over 4.5 standard deviations to both sides."""
        nodes = np.linspace(-4.5, 4.5, num)
        weights = np.exp(-0.5 * nodes**2)
        return nodes, weights / weights.sum()


@dataclass(frozen=True)
class SkewedGamma:
    """(G - k) / sqrt(k) with G ~ Gamma(k): skewness 2 / sqrt(k)."""

    shape: float = 2.0

    def of_uniform(self, u: Floats) -> Floats:
        """Its quantile."""
        return np.asarray((gammaincinv(self.shape, u) - self.shape) / np.sqrt(self.shape))

    def nodes(self, num: int) -> Quadrature:
        """Gauss-Laguerre with the weight x^(k - 1) exp(-x)."""
        nodes, weights = roots_genlaguerre(num, self.shape - 1)
        return (nodes - self.shape) / np.sqrt(self.shape), weights / weights.sum()

    def grid(self, num: int) -> Quadrature:
        """The same nodes."""
        return self.nodes(num)


@dataclass(frozen=True)
class HeavyTailed:
    """Student's t with 5 degrees of freedom, by sqrt(3 / 5): kurtosis 9."""

    def of_uniform(self, u: Floats) -> Floats:
        """Its quantile."""
        return np.asarray(stdtrit(5.0, u) * np.sqrt(3 / 5))

    def nodes(self, num: int) -> Quadrature:
        """Equidistant in asinh(t), where the density falls off exponentially to both sides; twice as many."""
        y = np.linspace(-4.0, 4.0, 2 * num - 1)
        weights = (1 + np.sinh(y) ** 2 / 5) ** -3 * np.cosh(y)
        return np.sinh(y) * np.sqrt(3 / 5), weights / weights.sum()

    def grid(self, num: int) -> Quadrature:
        """The same nodes."""
        return self.nodes(num)


@dataclass(frozen=True)
class TwoPoint:
    """High with probability p, low otherwise: a few have the intent, the others have not."""

    p_high: float = 0.3

    def of_uniform(self, u: Floats) -> Floats:
        """Its quantile."""
        low, high = self.nodes(2)[0]
        return np.where(u < 1 - self.p_high, low, high)

    def nodes(self, num: int) -> Quadrature:
        """The two points, exact."""
        odds = np.sqrt(self.p_high / (1 - self.p_high))
        return np.array([-odds, 1 / odds]), np.array([1 - self.p_high, self.p_high])

    def grid(self, num: int) -> Quadrature:
        """The two points, exact."""
        return self.nodes(num)


class Decay(Protocol):
    """How a stimulus fades."""

    def __call__(self, age_hours: Floats) -> Floats:
        """Share of a stimulus that is left at an age."""


@dataclass(frozen=True)
class ExponentialDecay:
    """factor ** (age / 2 hours)."""

    factor: float = 0.85

    def __call__(self, age_hours: Floats) -> Floats:
        return np.asarray(np.exp(np.log(self.factor) * age_hours / 2.0))


@dataclass(frozen=True)
class PowerDecay:
    """(1 + age / scale) ** -exponent."""

    scale_hours: float
    exponent: float

    def __call__(self, age_hours: Floats) -> Floats:
        return np.asarray((1 + age_hours / self.scale_hours) ** -self.exponent)


SATURATIONS: Mapping[str, Callable[[Floats, float], Floats]] = {
    "linear": lambda s, _: s,
    "log1p": lambda s, _: np.log1p(s),
    "root": lambda s, power: s**power,
    "hill": lambda s, power: s**power / (1 + s**power),
    "one_minus_exp": lambda s, _: -np.expm1(-s),
}
"""Shape of a link over S >= 0, with its one parameter where it has one."""


@dataclass(frozen=True)
class Saturation:
    """f(S) = gain * shape(|S| / scale) * sign(S): odd, so that stimuli that discourage saturate alike."""

    shape: str = "log1p"
    gain: float = 1.4
    scale: float = 1.0
    power: float = 1.0

    def __call__(self, total: Floats) -> Floats:
        return np.asarray(self.gain * SATURATIONS[self.shape](np.abs(total) / self.scale, self.power) * np.sign(total))


P_OF_LOGIT: Mapping[str, Callable[[Floats], Floats]] = {
    "logit": expit,
    "probit": lambda eta: ndtr(eta / 1.7),
    "cloglog": lambda eta: -np.expm1(-np.exp(np.minimum(eta, 4.0))),
}
"""P(1) of a binary signal; the probit's scale is the logit's."""

RATE_OF_LOG: Mapping[str, Callable[[Floats], Floats]] = {
    "log": lambda eta: np.exp(np.minimum(eta, 6.0)),
    "softplus": lambda eta: np.logaddexp(0.0, eta),
}
"""Mean of a count before it is capped."""


class Clock(Protocol):
    """When touches happen."""

    def __call__(self, seed: int, night: int, users: Ints, slots: int) -> Ints:
        """(n, L) ages of the slots' touches in microseconds before index_ts, in (0, 24 h], newest first."""


@dataclass(frozen=True)
class SlotClock:
    """One touch at most in each of equal slots of the day, at a uniform time in it."""

    def __call__(self, seed: int, night: int, users: Ints, slots: int) -> Ints:
        slot = DAY_MICROSECONDS // slots
        within = hashing.bits(seed, "time", night, users, slots) % np.uint64(slot)
        return within.astype(np.int64) + 1 + slot * np.arange(slots)


@dataclass(frozen=True)
class SessionClock:
    """Touches come in a user's few sessions of the night, at exponential lags after a session's uniform start."""

    sessions: int
    lag_hours: float

    def __call__(self, seed: int, night: int, users: Ints, slots: int) -> Ints:
        start = hashing.uniforms(seed, "sessions", night, users, self.sessions)
        which = (hashing.uniforms(seed, "session", night, users, slots) * self.sessions).astype(np.int64)
        lag = -np.log(hashing.uniforms(seed, "time", night, users, slots)) * self.lag_hours / 24
        day = (np.take_along_axis(start, which, axis=1) + lag) % 1.0
        return np.sort((day * DAY_MICROSECONDS).astype(np.int64) + 1, axis=1)
