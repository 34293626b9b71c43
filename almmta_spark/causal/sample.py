"""Checked rows of a study with a mediator. N rows, D covariates, M mediator levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows that passed the checks of `Sample.of`, which is how to make one."""

    treatment_N: Codes
    """0 or 1; both occur."""
    mediator_N: Codes
    """Index into levels_M."""
    levels_M: NDArray
    """The mediator's labels, sorted."""
    outcome_N: Floats
    covariates_ND: Floats
    """D = 0 without covariates."""
    weight_N: Floats
    """> 0; 1 throughout unless given."""
    group_N: Codes | None
    """0 .. number of groups - 1, None where rows are independent."""

    @classmethod
    def of(
        cls,
        treatment: ArrayLike,
        mediator: ArrayLike,
        outcome: ArrayLike,
        covariates: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Sample:
        """Checks the columns of a study, one entry per row each; ValueError names what is wrong and what to do.

        treatment 0/1 or bool · mediator labels of one kind, any number of levels · outcome numbers, 0/1 or continuous ·
        covariates numbers, [N] or [N, D], measured before treatment · weights: a row of weight 3 counts as three equal
        rows · groups: labels of what is independent (users) where rows are not. Weights that undo a selection are no
        repeated rows: pass groups=range(N) with them, which makes each row one draw, whatever its weight.
        """
        treatment_N = _arms(treatment)
        rows = len(treatment_N)
        levels_M, mediator_N = _labels("mediator", mediator, rows)
        return cls(
            treatment_N=treatment_N,
            mediator_N=mediator_N,
            levels_M=levels_M,
            outcome_N=_numbers("outcome", outcome, rows, (1,)),
            covariates_ND=_covariates(covariates, rows),
            weight_N=_weights(weights, rows),
            group_N=None if groups is None else _labels("groups", groups, rows)[1],
        )

    def __len__(self) -> int:
        return len(self.treatment_N)

    @property
    def num_rows(self) -> float:
        """Rows that the sample stands for: the sum of the weights."""
        return float(self.weight_N.sum())

    def mean(self, value_N: NDArray) -> float:
        """Weighted mean."""
        return float(self.weight_N @ value_N) / self.num_rows

    def standard_error(self, influence_N: Floats) -> float:
        """Of an estimate with this influence function:  sqrt(sum w phi^2) / sum w  over independent rows,
        sqrt(sum_g (sum_{i in g} w phi)^2) / sum w  over independent groups."""
        if self.group_N is None:
            squares = self.weight_N @ influence_N**2
        else:
            squares = np.sum(np.bincount(self.group_N, weights=self.weight_N * influence_N) ** 2)
        return float(np.sqrt(squares)) / self.num_rows


def _arms(treatment: ArrayLike) -> Codes:
    values_N = np.asarray(treatment)
    if values_N.ndim != 1 or values_N.size == 0:
        raise ValueError(f"treatment must be one column with rows, got shape {values_N.shape}")
    values_N = _numbers("treatment", values_N, len(values_N), (1,))
    arms = np.unique(values_N)
    if not np.isin(arms, (0, 1)).all():
        raise ValueError(f"treatment must be 0 or 1 (or bool), got {arms[:5].tolist()}: code the two arms as 0 and 1")
    if len(arms) < 2:
        raise ValueError(f"treatment must have rows in both arms, got only {int(arms[0])}: there is nothing to compare")
    return values_N.astype(np.int64)


def _numbers(name: str, values: ArrayLike, rows: int, dimensions: tuple[int, ...]) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {np.asarray(values).dtype}: encode labels first") from error
    _same_length(name, numbers, rows, dimensions)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        first = int(np.argwhere(wrong)[0][0])
        raise ValueError(
            f"{name} must be finite, got {int(wrong.sum())} NaN or infinite, first in row {first}: "
            "drop those rows, or impute covariates and add a column that says where"
        )
    return numbers


def _labels(name: str, values: ArrayLike, rows: int) -> tuple[NDArray, Codes]:
    """Sorted distinct labels, and each row's index among them."""
    labels_N = np.asarray(values)
    _same_length(name, labels_N, rows, (1,))
    missing_N = np.array([_missing(label) for label in labels_N]) if labels_N.dtype == object else labels_N != labels_N
    if np.any(missing_N):
        first = int(np.flatnonzero(missing_N)[0])
        raise ValueError(
            f"{name} must have a label in every row, got {int(np.sum(missing_N))} missing, first in row {first}: "
            "drop those rows, or make missing a level of its own where that means something"
        )
    try:
        levels, codes_N = np.unique(labels_N, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"{name} must have labels of one kind (all ints, all strings): {error}") from error
    return levels, codes_N.astype(np.int64)


def _missing(label: object) -> bool:
    return label is None or (not isinstance(label, str) and str(label) in ("nan", "NaT", "<NA>"))


def _covariates(covariates: ArrayLike | None, rows: int) -> Floats:
    if covariates is None:
        return np.empty((rows, 0))
    return _numbers("covariates", covariates, rows, (1, 2)).reshape(rows, -1)


def _weights(weights: ArrayLike | None, rows: int) -> Floats:
    if weights is None:
        return np.ones(rows)
    weight_N = _numbers("weights", weights, rows, (1,))
    if not (weight_N > 0).all():
        raise ValueError(f"weights must be > 0, got {weight_N.min()}: leave rows that do not count out")
    return weight_N


def _same_length(name: str, values: NDArray, rows: int, dimensions: tuple[int, ...]) -> None:
    if values.ndim not in dimensions or len(values) != rows:
        raise ValueError(f"{name} must have one entry per row of treatment ({rows}), got shape {values.shape}")
