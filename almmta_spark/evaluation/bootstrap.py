"""A seeded Poisson bootstrap over users, on sums per (group, cell) in place of rows.

Users are hashed into NUM_CELLS cells; replicate r gives cell c the weight Poisson(1), a hash of (seed, r, c), the same
in every group, protocol and night; replicate 0 gives every cell 1 and is the data. All rows of a user share a cell, so
what is resampled are whole users and what one user's rows have in common is kept.

Why cells may stand for users: every figure here is a ratio or a difference of ratios of sums, to first order a mean of
per-user residuals e_i that sum to 0. Resampling users has variance sum e_i^2; resampling cells has sum_c (sum_{i in c}
e_i)^2, whose expectation over the hash is (1 - 1/NUM_CELLS) sum e_i^2, since the cross terms cancel. What remains is
the noise of that estimate, sd/sd = 1/sqrt(2 * 256) = 4.4 %, less than that of 200 replicates. A group smaller than the
number of cells is resampled (almost) user by user. (Cameron, Gelbach & Miller 2008; Chamandy et al. 2012.)

Held fixed in every replicate: scores, rankings and the population's shares, as the night's model made them. Resampled:
the measured uplifts. The intervals therefore say how well the uplift of this ranking is measured, not how much another
fit of the model would differ.

R replicates and the data, C cells
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F

NUM_CELLS = 256


def user_cell(user_id: Column, seed: int) -> Column:
    """Cell 0..NUM_CELLS-1 of a user: a seeded hash, so nights, groups and reruns agree."""
    return F.pmod(F.xxhash64(F.lit(seed), F.lit("bootstrap"), user_id), F.lit(NUM_CELLS)).cast("int")


def poisson_weights(seed: int, replicates: int, num_cells: int = NUM_CELLS) -> NDArray[np.int64]:
    """(1 + R, C) weights: row 0 all ones, the others Poisson(1) from a counter-based hash of (seed, r, c)."""
    counter = np.arange((replicates + 1) * num_cells, dtype=np.uint64).reshape(replicates + 1, num_cells)
    uniform = _splitmix64(_splitmix64(np.full(1, seed % 2**64, dtype=np.uint64)) ^ counter) / 2.0**64
    mass = np.array([math.exp(-1) / math.factorial(k) for k in range(20)])
    weights = np.searchsorted(np.cumsum(mass), uniform, side="right").astype(np.int64)
    weights[0] = 1
    return weights


def interval(replicates_RX: ArrayLike, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Percentile interval over the first axis without row 0; NaN where fewer than half of the replicates are defined.

    A replicate is undefined (NaN) where it drew no row of an arm.
    """
    replicates = np.asarray(replicates_RX, float)[1:]
    shape = replicates.shape[1:]
    defined = np.sum(~np.isnan(replicates), axis=0) * 2 > max(len(replicates), 1)
    lower, upper = np.full(shape, np.nan), np.full(shape, np.nan)
    if defined.any():
        tails = [(1 - level) / 2, (1 + level) / 2]
        lower[defined], upper[defined] = np.nanquantile(replicates[:, defined], tails, axis=0)
    return lower, upper


def _splitmix64(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One output of SplitMix64 for each counter (Steele, Lea & Flood 2014)."""
    with np.errstate(over="ignore"):
        z = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
