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

NUM_CELLS = 256
_CELL_BITS, _SAMPLE_BITS = 8, 20
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(p)
    for p in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


def user_cell(user_N: ArrayLike, seed: int) -> NDArray[np.int64]:
    """Cell 0..NUM_CELLS-1 of each user: a seeded hash, equal to evaluation.bootstrap.user_cell in Spark."""
    return (_user_hash(user_N, seed) % np.uint64(NUM_CELLS)).astype(np.int64)


def sampled(user_N: ArrayLike, seed: int, rows: int, wanted: int) -> NDArray[np.bool_]:
    """Rows of a hash sample of users with about `wanted` of `rows` rows; all where there are no more."""
    drawn = (_user_hash(user_N, seed) >> np.uint64(_CELL_BITS)) % np.uint64(2**_SAMPLE_BITS)
    return drawn < np.uint64(sample_limit(rows, wanted))


def sample_limit(rows: int, wanted: int) -> int:
    """Users whose _SAMPLE_BITS bits of hash above those of the cell are below this are the sample."""
    return math.ceil(2**_SAMPLE_BITS * min(1.0, wanted / max(rows, 1)))


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


def _user_hash(user_N: ArrayLike, seed: int) -> NDArray[np.uint64]:
    """Spark's xxhash64(seed, "bootstrap", user_id) of int64 ids (XXH64, Collet 2012; each hash seeds the next)."""
    user = np.asarray(user_N)
    if user.dtype.kind not in "iu":
        raise ValueError(f"user must hold integers, got {user.dtype}: hash other ids to int64 first")
    with np.errstate(over="ignore"):
        fits = -(2**31) <= seed < 2**31
        first = np.full(1, seed % (2**32 if fits else 2**64), dtype=np.uint64)
        start = np.full(1, 42, dtype=np.uint64)
        state = (
            _finish(_rotated((start + _P5 + np.uint64(4)) ^ (first * _P1), 23) * _P2 + _P3)
            if fits
            else _finish(_word(start + _P5 + np.uint64(8), first))
        )
        label = b"bootstrap"  # a word and a byte
        state = _word(state + _P5 + np.uint64(len(label)), np.frombuffer(label[:8], "<u8"))
        state = _finish(_rotated(state ^ (np.uint64(label[8]) * _P5), 11) * _P1)
        return _finish(_word(state + _P5 + np.uint64(8), user.astype(np.int64).view(np.uint64)))


def _word(state: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return _rotated(state ^ (_rotated(word * _P2, 31) * _P1), 27) * _P1 + _P4


def _rotated(x: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


def _finish(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(33))) * _P2
    x = (x ^ (x >> np.uint64(29))) * _P3
    return x ^ (x >> np.uint64(32))
