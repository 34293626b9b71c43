"""What the front door needs to know beside the data: P(T|X), p(m|T,X) and E[Y|m,T,X], from cells or regressions.

N rows, S strata (cells of the covariates, or one per row), A = 2 arms, M mediator levels, D covariates
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from almmta_spark.causal import regression
from almmta_spark.causal.sample import Codes, Floats, Sample

Method = Literal["auto", "cells", "regression"]
MAX_STRATA = 50  # distinct rows of covariates that "auto" takes as cells
ROWS_PER_CELL = 10  # rows that "auto" wants for a cell of stratum, arm and level, on average


@dataclass(frozen=True, eq=False)
class Nuisances:
    """Conditional laws by stratum. Make one of your own models' predictions with stratum_N = arange(N)."""

    stratum_N: Codes
    """Each row's stratum."""
    propensity_S: Floats
    """P(T=1 | X), strictly between 0 and 1."""
    mediator_SAM: Floats
    """p(m | T=a, X): sums to 1 over m."""
    outcome_SAM: Floats
    """E[Y | m, T=a, X]; NaN where no row tells it."""
    description: str = "given"
    """How they were made, for the summary."""

    def __post_init__(self) -> None:
        strata = len(self.propensity_S)
        if self.mediator_SAM.shape[:2] != (strata, 2) or self.mediator_SAM.shape != self.outcome_SAM.shape:
            raise ValueError(
                f"mediator_SAM and outcome_SAM must both be [{strata}, 2, levels] as propensity_S has {strata} "
                f"strata, got {self.mediator_SAM.shape} and {self.outcome_SAM.shape}"
            )
        if not ((self.propensity_S > 0) & (self.propensity_S < 1)).all():
            raise ValueError("propensity_S must lie strictly between 0 and 1: leave strata with a single arm out")
        if (self.mediator_SAM < 0).any() or not np.allclose(self.mediator_SAM.sum(axis=2), 1.0):
            raise ValueError(
                "mediator_SAM must hold probabilities that sum to 1 over the levels, for each stratum and arm"
            )
        if np.isnan(self.outcome_SAM[self.mediator_SAM > 0]).any():
            raise ValueError("outcome_SAM must be known wherever mediator_SAM > 0")

    def check_against(self, sample: Sample) -> None:
        """ValueError unless these are of this sample: its rows, its levels, nothing in it impossible."""
        levels = self.mediator_SAM.shape[2]
        if len(self.stratum_N) != len(sample) or levels != len(sample.levels_M):
            raise ValueError(
                f"nuisances must be of this sample ({len(sample)} rows, {len(sample.levels_M)} levels), got "
                f"{len(self.stratum_N)} rows, {levels} levels: fit_nuisances(sample)"
            )
        if not (self.mediator_SAM[self.stratum_N, sample.treatment_N, sample.mediator_N] > 0).all():
            raise ValueError("mediator_SAM must be > 0 for the arm and level of every row: what happened is possible")

    @property
    def propensity_SA(self) -> Floats:
        """P(T=a | X)."""
        return np.column_stack((1 - self.propensity_S, self.propensity_S))

    def supported_outcome(self, sample: Sample, needed_SAM: NDArray[np.bool_]) -> Floats:
        """outcome_SAM with 0 where nothing needs it; ValueError where it is needed and no row tells it."""
        missing_SAM = needed_SAM & np.isnan(self.outcome_SAM)
        if missing_SAM.any():
            stratum, arm, level = (int(i) for i in np.argwhere(missing_SAM)[0])
            raise ValueError(
                f"mediator level {sample.levels_M[level]!r} has no rows in arm {arm}"
                f"{_where(sample, self.stratum_N, stratum)}, but occurs in the other arm (positivity; "
                f"{int(missing_SAM.sum())} such cells): merge it with a like level or drop the stratum; where only the "
                "treated can have it, use front_door_ett"
            )
        return np.nan_to_num(self.outcome_SAM)


def fit_nuisances(sample: Sample, method: Method = "auto", folds: int = 5, seed: int = 0) -> Nuisances:
    """cells: means of each (covariates, arm, level), no model. regression: logistic, multinomial logistic and (for a
    0/1 outcome logistic, else linear) regressions on the covariates, each row predicted by fits on other folds.

    auto takes cells where there are at most MAX_STRATA distinct covariate rows and ROWS_PER_CELL rows for each cell on
    average, and says in `description` what it took. folds and seed: of the regressions alone.
    """
    if method not in ("auto", "cells", "regression"):
        raise ValueError(f"method must be 'auto', 'cells' or 'regression', got {method!r}")
    stratum_N = covariate_strata(sample.covariates_ND, len(sample) if method == "cells" else MAX_STRATA)
    if method == "auto":
        cells = 2 * len(sample.levels_M) * (1 if stratum_N is None else int(stratum_N.max()) + 1)
        few = stratum_N is not None and (sample.covariates_ND.shape[1] == 0 or len(sample) >= ROWS_PER_CELL * cells)
        method = "cells" if few else "regression"
    if method == "cells":
        assert stratum_N is not None
        return from_cells(sample, stratum_N)
    return from_regressions(sample, folds, seed)


def covariate_strata(covariates_ND: Floats, most: int) -> Codes | None:
    """Each row's cell of equal covariates, or None where there are more than `most` of them. One cell without any."""
    stratum_N = np.zeros(len(covariates_ND), dtype=np.int64)
    for column_N in covariates_ND.T:
        values, code_N = np.unique(column_N, return_inverse=True)
        cells, stratum_N = np.unique(stratum_N * len(values) + code_N, return_inverse=True)
        if len(cells) > most:
            return None
    return stratum_N.astype(np.int64)


def from_cells(sample: Sample, stratum_N: Codes) -> Nuisances:
    """Saturated: the (weighted) shares and means of each cell of stratum, arm and level."""
    strata, levels = int(stratum_N.max()) + 1, len(sample.levels_M)
    shape = (strata, 2, levels)
    cell_N = np.ravel_multi_index((stratum_N, sample.treatment_N, sample.mediator_N), shape)
    size = int(np.prod(shape))
    rows_SAM = np.bincount(cell_N, weights=sample.weight_N, minlength=size).reshape(shape)
    sums_SAM = np.bincount(cell_N, weights=sample.weight_N * sample.outcome_N, minlength=size).reshape(shape)
    rows_SA = rows_SAM.sum(axis=2)
    if (rows_SA == 0).any():
        stratum, arm = (int(i) for i in np.argwhere(rows_SA == 0)[0])
        raise ValueError(
            f"arm {arm} has no rows{_where(sample, stratum_N, stratum)} (positivity): "
            "drop or merge that stratum, or use method='regression'"
        )
    with np.errstate(invalid="ignore"):
        outcome_SAM = sums_SAM / rows_SAM
    return Nuisances(
        stratum_N=stratum_N,
        propensity_S=rows_SA[:, 1] / rows_SA.sum(axis=1),
        mediator_SAM=rows_SAM / rows_SA[:, :, None],
        outcome_SAM=outcome_SAM,
        description=f"means of cells, {strata} covariate strata" if strata > 1 else "means of cells, no covariates",
    )


def from_regressions(sample: Sample, folds: int = 5, seed: int = 0) -> Nuisances:
    """Cross-fitted regressions: a row's figures come from fits on the other folds (Chernozhukov et al. 2018).

    P(T=1|X) is logistic, p(m|T=a,X) multinomial logistic in each arm, E[Y|m,T=a,X] one regression for each arm and
    level. A level without rows in an arm has probability 0 and an unknown outcome there. Groups are never split.
    """
    rows, levels = len(sample), len(sample.levels_M)
    propensity_N = np.empty(rows)
    mediator_NAM = np.zeros((rows, 2, levels))
    outcome_NAM = np.full((rows, 2, levels), np.nan)
    logistic = bool(np.isin(sample.outcome_N, (0, 1)).all())
    occurs_AM = _occurs(sample, np.ones(rows, dtype=bool))
    for train_N in training_rows(sample, folds, seed):
        _refuse_lost_levels(sample, occurs_AM & ~_occurs(sample, train_N))
        mean_D, scale_D = regression.statistics(sample.covariates_ND[train_N], sample.weight_N[train_N])
        x_NP = regression.design(sample.covariates_ND, mean_D, scale_D)
        test = np.flatnonzero(~train_N)
        propensity_N[test] = _class_probabilities(x_NP, sample.treatment_N, sample.weight_N, train_N, test)[:, 1]
        for arm in (0, 1):
            arm_N = train_N & (sample.treatment_N == arm)
            present = np.flatnonzero(occurs_AM[arm])
            code_N = np.searchsorted(present, sample.mediator_N)
            law = _class_probabilities(x_NP, code_N, sample.weight_N, arm_N, test)
            mediator_NAM[test[:, None], arm, present] = law
            for level in present:
                cell_N = arm_N & (sample.mediator_N == level)
                outcome_NAM[test, arm, level] = _expected_outcome(x_NP, sample, cell_N, test, logistic)
    how = f"{'logistic' if logistic else 'linear'} outcome regressions, {folds} folds, seed {seed}"
    return Nuisances(np.arange(rows), propensity_N, mediator_NAM, outcome_NAM, how)


def training_rows(sample: Sample, folds: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """The rows outside each fold. Folds share the rows of every arm and level evenly, or split whole groups."""
    units = len(sample) if sample.group_N is None else int(sample.group_N.max()) + 1
    if not 2 <= folds <= units:
        raise ValueError(f"folds must be between 2 and the {units} independent rows or groups, got {folds!r}")
    random = np.random.default_rng(seed)
    if sample.group_N is None:
        order = np.lexsort((random.random(units), sample.mediator_N, sample.treatment_N))
        fold_N = np.empty(units, dtype=np.int64)
        fold_N[order] = np.arange(units) % folds
    else:
        fold_N = (random.permutation(units) % folds)[sample.group_N]
    for fold in range(folds):
        yield fold_N != fold


def _class_probabilities(
    x_NP: Floats, class_N: Codes, weight_N: Floats, train_N: NDArray[np.bool_], test: Codes
) -> Floats:
    """[len(test), K] of a multinomial logistic regression on the training rows, whose classes are 0 .. K - 1."""
    classes = int(class_N[train_N].max()) + 1
    beta_PK = regression.fit_multinomial(x_NP[train_N], class_N[train_N], classes, weight_N[train_N])
    return regression.probabilities(x_NP[test], beta_PK)


def _expected_outcome(x_NP: Floats, sample: Sample, train_N: NDArray[np.bool_], test: Codes, logistic: bool) -> Floats:
    outcome_N, weight_N = sample.outcome_N[train_N], sample.weight_N[train_N]
    if logistic and np.ptp(outcome_N) == 0:
        return np.full(len(test), outcome_N[0])  # one class: nothing for the covariates to tell apart
    if logistic:
        return _class_probabilities(x_NP, sample.outcome_N.astype(np.int64), sample.weight_N, train_N, test)[:, 1]
    return x_NP[test] @ regression.fit_least_squares(x_NP[train_N], outcome_N, weight_N)


def _occurs(sample: Sample, row_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[A, M] whether arm and level occur together in these rows."""
    occurs_AM = np.zeros((2, len(sample.levels_M)), dtype=bool)
    occurs_AM[sample.treatment_N[row_N], sample.mediator_N[row_N]] = True
    return occurs_AM


def _refuse_lost_levels(sample: Sample, lost_AM: NDArray[np.bool_]) -> None:
    if lost_AM.any():
        arm, level = (int(i) for i in np.argwhere(lost_AM)[0])
        raise ValueError(
            f"mediator level {sample.levels_M[level]!r} of arm {arm} falls into a single fold, so no other rows can "
            "predict it: merge it with a like level, or use another number of folds"
        )


def _where(sample: Sample, stratum_N: Codes, stratum: int) -> str:
    """Names a stratum by the covariates of its first row; nothing where there are none."""
    if sample.covariates_ND.shape[1] == 0:
        return ""
    return f" where covariates are {sample.covariates_ND[np.argmax(stratum_N == stratum)].tolist()}"
