"""Average effects by the front door, with the back door and the difference in means beside it. Theory: README.md here.

N rows, S strata, A = 2 arms (B: arm of the outcome, where both occur), M mediator levels

Every estimate comes with its influence function phi, one value a row with mean 0: what row i moves the estimate by,
times N. Its standard error is sqrt(mean phi^2 / N), and that of a difference of estimates comes from that of their phi.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from almmta_spark.causal.nuisances import Nuisances, fit_nuisances
from almmta_spark.causal.sample import Floats, Sample

_ROUNDING = 1e-12  # of the outcome's size: what is below it is 0


@dataclass(frozen=True)
class Effect:
    """An estimated effect, in units of the outcome."""

    method: str
    estimand: str
    """ATE = E[Y(1) - Y(0)], ETT = E[Y(1) - Y(0) | T=1]."""
    effect: float
    se: float
    """Standard error."""
    influence_N: Floats = field(repr=False, compare=False)

    @property
    def t(self) -> float:
        """effect / se; NaN where both are 0."""
        if self.se == 0:
            return math.nan if self.effect == 0 else math.copysign(math.inf, self.effect)
        return self.effect / self.se

    @property
    def p_value(self) -> float:
        """Two-sided, by the normal law."""
        return float(2 * norm.sf(abs(self.t)))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """effect -/+ z se."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}: 0.95 for 95 %")
        reach = float(norm.ppf((1 + confidence) / 2)) * self.se
        return self.effect - reach, self.effect + reach

    def __str__(self) -> str:
        lower, upper = self.interval()
        return f"{self.method} {self.estimand} {self.effect:.4g}, 95 % interval {lower:.4g} to {upper:.4g}"


@dataclass(frozen=True)
class Effects:
    """The same rows by every method."""

    difference_in_means: Effect
    back_door: Effect
    front_door: Effect
    front_door_ett: Effect
    num_rows: float
    nuisances: str
    smallest_propensity: float
    """Least P(T=t | X) of an arm: near 0, few rows carry the back door."""
    smallest_mediator_probability: float
    """Least p(m | T, X): near 0, few rows carry the front door."""

    def __str__(self) -> str:
        shown = (self.difference_in_means, self.back_door, self.front_door, self.front_door_ett)
        return (
            f"{summary(shown)}\n{self.num_rows:.12g} rows; nuisances: {self.nuisances}; least P(T|X) "
            f"{self.smallest_propensity:.3g}, least p(m|T,X) {self.smallest_mediator_probability:.3g}"
        )


def summary(effects: Iterable[Effect]) -> str:
    """A table of effects with standard errors, 95 % intervals and p-values."""
    lines = [f"{'method':<20} {'estimand':<8} {'effect':>9} {'se':>9} {'lower':>9} {'upper':>9} {'p':>8}"]
    for e in effects:
        lower, upper = e.interval()
        numbers = f"{e.effect:9.4f} {e.se:9.4f} {lower:9.4f} {upper:9.4f} {p_text(e.p_value):>8}"
        lines.append(f"{e.method:<20} {e.estimand:<8} {numbers}")
    return "\n".join(lines)


def p_text(p: float) -> str:
    """A p-value to two digits."""
    return "<1e-99" if p < 1e-99 else f"{p:.2g}"


def effects(sample: Sample, nuisances: Nuisances | None = None) -> Effects:
    """All methods on one sample. nuisances: by default fit_nuisances(sample)."""
    nuisances = _for(sample, nuisances)
    law_SAM = nuisances.mediator_SAM
    return Effects(
        difference_in_means=difference_in_means(sample),
        back_door=back_door(sample, nuisances),
        front_door=front_door(sample, nuisances),
        front_door_ett=front_door_ett(sample, nuisances),
        num_rows=sample.num_rows,
        nuisances=nuisances.description,
        smallest_propensity=float(nuisances.propensity_SA.min()),
        smallest_mediator_probability=float(law_SAM[law_SAM > 0].min()),
    )


def difference_in_means(sample: Sample) -> Effect:
    """E[Y | T=1] - E[Y | T=0]: the effect where treatment is randomised.

    phi = (Y - E[Y|T]) (2T - 1) / P(T)
    """
    treated_N = sample.treatment_N == 1
    share = sample.mean(treated_N)
    mean_A = np.array([_mean_where(sample, ~treated_N), _mean_where(sample, treated_N)])
    signed_N = np.where(treated_N, 1 / share, -1 / (1 - share))
    value_N = mean_A[1] - mean_A[0] + signed_N * (sample.outcome_N - mean_A[sample.treatment_N])
    return _estimate("difference_in_means", "ATE", sample, value_N)


def back_door(sample: Sample, nuisances: Nuisances | None = None) -> Effect:
    """E[ E[Y|T=1,X] - E[Y|T=0,X] ]: the effect where X holds every cause that T and Y share.

    psi + phi = nu(1,X) - nu(0,X) + (Y - nu(T,X)) (2T - 1) / P(T|X),  nu(t,X) = sum_m p(m|t,X) E[Y|m,t,X]
    (AIPW; Robins, Rotnitzky & Zhao 1994). With cells this is standardisation, without covariates the difference in
    means. Right if either nu or P(T|X) is.
    """
    nuisances = _for(sample, nuisances)
    nu_SA = np.sum(nuisances.mediator_SAM * np.nan_to_num(nuisances.outcome_SAM), axis=2)
    stratum_N, arm_N = nuisances.stratum_N, sample.treatment_N
    signed_N = (2 * arm_N - 1) / nuisances.propensity_SA[stratum_N, arm_N]
    value_N = (nu_SA[:, 1] - nu_SA[:, 0])[stratum_N] + signed_N * (sample.outcome_N - nu_SA[stratum_N, arm_N])
    return _estimate("back_door", "ATE", sample, value_N)


def front_door(sample: Sample, nuisances: Nuisances | None = None) -> Effect:
    """psi(1) - psi(0),  psi(a) = E_X sum_m p(m|a,X) sum_t P(t|X) E[Y|m,t,X]   (Pearl 1995).

    psi(a) + phi_a = p(M|a,X) / p(M|T,X) (Y - mu(M,T,X))  +  1{T=a} / P(a|X) (eta(M,X) - theta(a,X))  +  kappa(a,T,X)
    mu = E[Y|m,t,X],  eta(m,X) = sum_t P(t|X) mu(m,t,X),  theta(a,X) = sum_m p(m|a,X) eta(m,X),
    kappa(a,t,X) = sum_m p(m|a,X) mu(m,t,X)
    (Fulcher, Shpitser, Marealle & Tchetgen Tchetgen 2020; for the ATE Guo, Benkeser & Nabi 2023: the one-step
    estimator.) With cells the mean of this is the plug-in itself. Right if either p(m|T,X), or both mu and P(T|X) are.
    """
    nuisances = _for(sample, nuisances)
    law_SAM, propensity_SA = nuisances.mediator_SAM, nuisances.propensity_SA
    needed_SAM = np.repeat((law_SAM > 0).any(axis=1, keepdims=True), 2, axis=1)
    mu_SAM = nuisances.supported_outcome(sample, needed_SAM)
    eta_SM = np.einsum("sa,sam->sm", propensity_SA, mu_SAM)
    theta_SA = np.einsum("sam,sm->sa", law_SAM, eta_SM)
    kappa_SAB = np.einsum("sam,sbm->sab", law_SAM, mu_SAM)
    s, t, m = nuisances.stratum_N, sample.treatment_N, sample.mediator_N
    outcome_part_N = (law_SAM[s, 1, m] - law_SAM[s, 0, m]) / law_SAM[s, t, m] * (sample.outcome_N - mu_SAM[s, t, m])
    mediator_part_N = (2 * t - 1) / propensity_SA[s, t] * (eta_SM[s, m] - theta_SA[s, t])
    treatment_part_N = kappa_SAB[s, 1, t] - kappa_SAB[s, 0, t]
    return _estimate("front_door", "ATE", sample, outcome_part_N + mediator_part_N + treatment_part_N)


def front_door_ett(sample: Sample, nuisances: Nuisances | None = None) -> Effect:
    """E[Y | T=1] - beta,  beta = E[Y(0) | T=1] = E[ sum_m p(m|0,X) mu(m,1,X) | T=1 ]: the removal effect of T.

    P(T=1) phi_beta = T p(M|0,X) / p(M|1,X) (Y - mu(M,1,X))  +  (1-T) P(1|X) / P(0|X) (mu(M,1,X) - kappa(0,1,X))
                      +  T (kappa(0,1,X) - beta),   kappa(0,1,X) = sum_m p(m|0,X) mu(m,1,X)
    (Guo, Benkeser & Nabi 2023; P(T=1) times it is the population intervention indirect effect of Fulcher et al. 2020.)
    It needs every level of arm 0 to occur in arm 1 and not the reverse, so it stands where only the treated can have
    the mediator (Glynn & Kashin 2018). Right if either p(m|T,X), or both mu and P(T|X) are.
    """
    nuisances = _for(sample, nuisances)
    law_SAM, propensity_SA = nuisances.mediator_SAM, nuisances.propensity_SA
    needed_SAM = np.zeros(law_SAM.shape, dtype=bool)
    needed_SAM[:, 1] = (law_SAM > 0).any(axis=1)
    mu_SM = nuisances.supported_outcome(sample, needed_SAM)[:, 1]
    kappa_S = np.einsum("sm,sm->s", law_SAM[:, 0], mu_SM)
    s, m, treated_N = nuisances.stratum_N, sample.mediator_N, sample.treatment_N == 1
    density_ratio_N = law_SAM[s, 0, m] / np.where(treated_N, law_SAM[s, 1, m], 1.0)
    odds_N = propensity_SA[s, 1] / propensity_SA[s, 0]
    if_treated_N = kappa_S[s] + density_ratio_N * (sample.outcome_N - mu_SM[s, m])
    beta_N = np.where(treated_N, if_treated_N, odds_N * (mu_SM[s, m] - kappa_S[s]))
    return _estimate("front_door", "ETT", sample, np.where(treated_N, sample.outcome_N, 0.0) - beta_N, treated_N)


def difference(one: Effect, other: Effect, sample: Sample, method: str = "difference") -> Effect:
    """one - other, both estimated on this sample: phi is the difference of theirs."""
    return _effect(method, one.estimand, one.effect - other.effect, one.influence_N - other.influence_N, sample)


def _for(sample: Sample, nuisances: Nuisances | None) -> Nuisances:
    if nuisances is None:
        return fit_nuisances(sample)
    nuisances.check_against(sample)
    return nuisances


def _mean_where(sample: Sample, row_N: NDArray[np.bool_]) -> float:
    return float(np.average(sample.outcome_N[row_N], weights=sample.weight_N[row_N]))


def _estimate(method: str, estimand: str, sample: Sample, value_N: Floats, unit_N: NDArray | None = None) -> Effect:
    """The one-step estimate: sum w value / sum w unit, unit 1 by default; phi = (value - effect unit) / mean unit."""
    unit_N = np.ones(len(sample)) if unit_N is None else unit_N.astype(float)
    share = sample.mean(unit_N)
    effect = sample.mean(value_N) / share
    return _effect(method, estimand, effect, (value_N - effect * unit_N) / share, sample)


def _effect(method: str, estimand: str, effect: float, influence_N: Floats, sample: Sample) -> Effect:
    """With rounding taken out, so that a constant outcome has an effect and an error of exactly 0."""
    zero = _ROUNDING * np.abs(sample.outcome_N).max()
    influence_N = np.where(np.abs(influence_N) <= zero, 0.0, influence_N)
    effect = 0.0 if abs(effect) <= zero else effect
    return Effect(method, estimand, effect, sample.standard_error(influence_N), influence_N)
