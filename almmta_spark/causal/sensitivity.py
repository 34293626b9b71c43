"""How strong what no log shows would have to be to change what a night says: a cause that M and Y share, a direct path.

Let the mediator's noise x and the outcome share a hidden cause u ~ N(0, 1), independent of touches given covariates:

    x = rho u + sqrt(1 - rho^2) x'        logit P(Y | m, u, T, X) = g + beta m + delta u

In logs the slope of the logit in m is b = beta + rho delta (both sides averaged over the rest of u), so with
r = rho delta / b a deletion, which leaves u as it is, moves the logit by 1 - r of what the model says. On the scale of
the chances themselves, since logit E sig(a + s z) is about a / sqrt(1 + pi s^2 / 8) for z ~ N(0, 1),

    tau(r) = p - sig(logit p - (1 - r) l)            l = logit p - logit p_deleted

A touch that also adds d to the outcome's logit beside the mediator (what logs show of that path is taken for hidden
intent) has the effect p - sig(logit p - l - d).

One figure for (rho, delta): the robustness value of Cinelli & Hazlett (2020, "Making sense of sensitivity", JRSS B 82),
the share R^2 of what else moves the mediator and of what else moves the outcome that u must explain, alike in both, for
a bias of rho delta: bias = sqrt(R^2 R^2 / (1 - R^2)) sd(Y) / sd(M), where what else moves M has sd 1 and what else
moves the outcome, on the scale of its logit, that of the logistic law, pi / sqrt(3).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

LOGISTIC_SD = math.pi / math.sqrt(3)
SHARES = tuple(np.linspace(0, 1, 11).tolist())
"""r, for sums at a grid of it."""
DIRECT = (0.0, *np.geomspace(0.0025, 2.56, 21).tolist())
"""-d, the same: log odds of an upload that a touch takes beside the mediator."""


def confounded_effect(p: ArrayLike, p_deleted: ArrayLike, share: ArrayLike) -> NDArray[np.float64]:
    """tau(r): the effect where the share r of the slope is a hidden cause's."""
    at = logit(np.asarray(p, float))
    moved = (1 - np.asarray(share, float)) * (at - logit(np.asarray(p_deleted, float)))
    return np.asarray(p - expit(at - moved))


def with_direct_path(p: ArrayLike, p_deleted: ArrayLike, direct: ArrayLike) -> NDArray[np.float64]:
    """The effect of a touch that also adds `direct` to the outcome's logit beside the mediator."""
    return np.asarray(p - expit(logit(np.asarray(p_deleted, float)) - np.asarray(direct, float)))


def strength_until(strength_J: ArrayLike, value_J: ArrayLike, target: float) -> float:
    """The strength at which a value that falls with it has come down to the target, between points of a rising grid by
    straight lines; 0 where it begins there, the grid's end where it never comes down so far."""
    strength, value = np.asarray(strength_J, float), np.asarray(value_J, float)
    return float(np.interp(-target, -np.minimum.accumulate(value), strength))


def robustness_value(bias: float) -> float:
    """The share R^2 of both that a hidden cause must explain for a bias rho delta >= 0 of the slope; in [0, 1)."""
    f = bias / LOGISTIC_SD
    return (math.sqrt(f**4 + 4 * f**2) - f**2) / 2
