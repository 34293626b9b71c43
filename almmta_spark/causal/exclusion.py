"""Does the mediator carry the whole effect? Asked where treatment is randomised, so that the effect itself is known.

N rows, S strata, A = 2 arms, M mediator levels, C cells of stratum and level, G groups
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import chi2, norm

from almmta_spark.causal import front_door
from almmta_spark.causal.front_door import Effect, p_text
from almmta_spark.causal.nuisances import Nuisances, fit_nuisances
from almmta_spark.causal.ratio import ratio
from almmta_spark.causal.sample import Floats, Sample

Randomised = Literal["outright", "given_covariates"]
Estimand = Literal["ATE", "ETT"]


@dataclass(frozen=True)
class LevelTest:
    """The effect of treatment among rows of one mediator level: 0 where the mediator carries everything."""

    level: object
    num_rows: float
    effect: float
    """In units of the outcome; NaN where the level has a single arm."""
    se: float
    """Its standard error if there is no effect within the level."""
    t: float
    p_value: float


@dataclass(frozen=True)
class Exclusion:
    """How much of a randomised effect goes past the mediator, and the tests that nothing does."""

    total: Effect
    """The randomised effect."""
    front_door: Effect
    """What the mediator carries."""
    past: Effect
    """total - front_door."""
    levels: tuple[LevelTest, ...]
    chi2: float
    """Wald statistic that treatment has no effect in any cell of level and covariates."""
    df: int
    """Cells that could be tested."""
    p_value: float
    """Of chi2; NaN without a cell to test."""
    alpha: float

    @property
    def carries_everything(self) -> bool:
        """Neither test rejects; half of alpha is each one's."""
        return not any(p < self.alpha / 2 for p in (self.past.p_value, self.p_value))

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.df == 0:
            return (
                "Nothing goes past the mediator that these rows could show: within its levels the outcome is constant."
            )
        lower, upper = self.past.interval()
        size = (
            f"{self.past.effect:.4g} of the {self.total.estimand} {self.total.effect:.4g} goes past it (95 % interval "
            f"{lower:.4g} to {upper:.4g}, t = {self.past.t:.2f}, p = {p_text(self.past.p_value)}; within its levels "
            f"chi2({self.df}) = {self.chi2:.1f}, p = {p_text(self.p_value)})."
        )
        if self.carries_everything:
            return f"No path past the mediator shows: {size}"
        return f"The mediator does not carry everything, or shares a hidden cause with the outcome: {size}"

    def __str__(self) -> str:
        table = front_door.summary((self.total, self.front_door, self.past))
        lines = [f"{'mediator level':<20} {'rows':>8} {'effect':>9} {'se':>9} {'t':>9} {'p':>8}"]
        for e in self.levels:
            lines.append(
                f"{e.level!s:<20} {e.num_rows:8.12g} {e.effect:9.4f} {e.se:9.4f} {e.t:9.2f} {p_text(e.p_value):>8}"
            )
        return "\n".join((self.verdict, table, *lines))


def check_exclusion(
    sample: Sample,
    nuisances: Nuisances | None = None,
    randomised: Randomised = "outright",
    estimand: Estimand = "ATE",
    alpha: float = 0.05,
) -> Exclusion:
    """Front door against the randomised effect, and treatment against outcome within each mediator level.

    Both are 0 where treatment is randomised, acts through the mediator alone, and mediator and outcome share no
    cause beside X. Without covariates the first is the mean of the second:
        total - front door = sum_m q_m (E[Y|m,T=1] - E[Y|m,T=0]),   q_m = P(T=0) p(m|T=1) + P(T=1) p(m|T=0),
    so it sees what adds up over levels, and the second what cancels. Where treatment is not randomised a hidden cause
    of treatment and outcome makes both differ from 0 with nothing going past: the check then says nothing.

    randomised: outright, the total is the difference in means; given_covariates, it is adjusted for X. estimand ETT
    serves mediators that only the treated can have, and needs treatment randomised outright (then ETT = ATE).
    """
    if randomised not in ("outright", "given_covariates"):
        raise ValueError(f"randomised must be 'outright' or 'given_covariates', got {randomised!r}")
    if estimand not in ("ATE", "ETT") or (estimand == "ETT" and randomised != "outright"):
        raise ValueError(f"estimand must be 'ATE', or 'ETT' where randomised is 'outright', got {estimand!r}")
    nuisances = fit_nuisances(sample) if nuisances is None else nuisances
    carried = (front_door.front_door if estimand == "ATE" else front_door.front_door_ett)(sample, nuisances)
    total = (
        front_door.difference_in_means(sample) if randomised == "outright" else front_door.back_door(sample, nuisances)
    )
    past = front_door.difference(total, carried, sample, "past the mediator")
    statistic, df = within_cells(sample, nuisances)
    p_value = float(chi2.sf(statistic, df)) if df else float("nan")
    return Exclusion(total, carried, past, within_levels(sample, nuisances), statistic, df, p_value, alpha)


def within_levels(sample: Sample, nuisances: Nuisances) -> tuple[LevelTest, ...]:
    """For each level m:  d = sum w r / sum w (T - e)^2,  r = (T - e)(Y - nu),  t = sum w r / se(sum w r).

    e = P(T=1 | m, X),  nu = E[Y | m, X]: the generalised covariance measure (Shah & Peters 2020), small if either
    regression is good. With cells, d is the difference in means within the level, over strata of covariates weighted
    as Cochran, Mantel & Haenszel do.
    """
    product_N, residual_N = _residual_products(sample, nuisances)
    levels = len(sample.levels_M)
    weighted_N = sample.weight_N * product_N
    sums_M = np.bincount(sample.mediator_N, weights=weighted_N, minlength=levels)
    scale_M = np.bincount(sample.mediator_N, weights=sample.weight_N * residual_N**2, minlength=levels)
    rows_M = np.bincount(sample.mediator_N, weights=sample.weight_N, minlength=levels)
    deviation_M = np.sqrt(_variance(_independent_parts(sample, product_N, sample.mediator_N, levels)))
    effect_M, se_M, t_M = ratio(sums_M, scale_M), ratio(deviation_M, scale_M), ratio(sums_M, deviation_M)
    columns = (sample.levels_M, rows_M, effect_M, se_M, t_M, 2 * norm.sf(np.abs(t_M)))
    return tuple(LevelTest(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def within_cells(sample: Sample, nuisances: Nuisances) -> tuple[float, int]:
    """Wald statistic R' V^-1 R and its degrees of freedom, R_c = sum w r over cell c, V its covariance if all are 0.

    A cell is a level in a stratum of equal covariates, or a level where every row has its own stratum (regressions).
    Cells in which treatment or outcome does not vary say nothing and are left out.
    """
    product_N, _ = _residual_products(sample, nuisances)
    strata, levels = nuisances.mediator_SAM.shape[0], len(sample.levels_M)
    own = strata == len(sample)
    cell_N = sample.mediator_N if own else nuisances.stratum_N * levels + sample.mediator_N
    cells = levels if own else strata * levels
    sums_C = np.bincount(cell_N, weights=sample.weight_N * product_N, minlength=cells)
    parts_GC = _independent_parts(sample, product_N, cell_N, cells)
    variance_C = _variance(parts_GC)
    told = np.flatnonzero(variance_C > 0)
    if sample.group_N is None:  # cells share no row, so V is diagonal
        return float(np.sum(sums_C[told] ** 2 / variance_C[told])), len(told)
    covariance = (parts_GC[:, told].T @ parts_GC[:, told]).toarray()
    statistic = sums_C[told] @ np.linalg.pinv(covariance, hermitian=True) @ sums_C[told]
    return float(statistic), int(np.linalg.matrix_rank(covariance, hermitian=True)) if told.size else 0


def _residual_products(sample: Sample, nuisances: Nuisances) -> tuple[Floats, Floats]:
    """(T - e)(Y - nu) and T - e, by Bayes' rule from the nuisances; exactly 0 where they are rounding."""
    joint_SAM = nuisances.propensity_SA[:, :, None] * nuisances.mediator_SAM
    treated_SM = ratio(joint_SAM[:, 1], joint_SAM.sum(axis=1))
    outcome_SAM = np.nan_to_num(nuisances.outcome_SAM)
    expected_SM = treated_SM * outcome_SAM[:, 1] + (1 - treated_SM) * outcome_SAM[:, 0]
    s, m = nuisances.stratum_N, sample.mediator_N
    residual_N = sample.treatment_N - treated_SM[s, m]
    product_N = residual_N * (sample.outcome_N - expected_SM[s, m])
    return np.where(np.abs(product_N) <= 1e-12 * np.abs(sample.outcome_N).max(), 0.0, product_N), residual_N


def _independent_parts(sample: Sample, product_N: Floats, cell_N: NDArray[np.int64], cells: int) -> csr_array:
    """[G, C] what each independent unit adds to each cell's sum: V is the sum of its squares and products.

    A row of weight w is w equal rows, each with r: sqrt(w) r has their squares' sum.
    """
    if sample.group_N is None:
        values_N, unit_N = np.sqrt(sample.weight_N) * product_N, np.arange(len(sample))
    else:
        values_N, unit_N = sample.weight_N * product_N, sample.group_N
    return csr_array((values_N, (unit_N, cell_N)), shape=(int(unit_N.max()) + 1, cells))


def _variance(parts_GC: csr_array) -> Floats:
    return np.asarray(parts_GC.power(2).sum(axis=0)).ravel()
