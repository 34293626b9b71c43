"""The cell bootstrap: its weights, its coverage, and that it resamples users."""

import numpy as np
import pytest

from almmta_spark.evaluation import bootstrap


def test_replicate_zero_is_the_data():
    assert (bootstrap.poisson_weights(seed=3, replicates=5)[0] == 1).all()


def test_weights_are_poisson_with_mean_one():
    weights = bootstrap.poisson_weights(seed=0, replicates=400)[1:]
    share = [(weights == k).mean() for k in range(4)]
    np.testing.assert_allclose(share, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.005)
    assert abs(np.corrcoef(weights[:, 0], weights[:, 1])[0, 1]) < 0.15


def test_equal_seeds_agree_and_more_replicates_only_append():
    few, many = bootstrap.poisson_weights(7, 10), bootstrap.poisson_weights(7, 50)
    np.testing.assert_array_equal(few, many[:11])
    assert (bootstrap.poisson_weights(8, 10)[1:] != few[1:]).any()


def test_no_replicates_no_interval():
    lower, upper = bootstrap.interval(np.ones((1, 3)), 0.95)
    assert np.isnan(lower).all() and np.isnan(upper).all()


def test_undefined_replicates_are_left_out_until_they_are_the_half():
    values = np.column_stack([np.arange(9.0), np.arange(9.0)])
    values[1:3, 0] = np.nan
    values[1:6, 1] = np.nan
    lower, upper = bootstrap.interval(values, 0.5)
    assert lower[0] == pytest.approx(4.25) and upper[0] == pytest.approx(6.75)
    assert np.isnan(lower[1])


def ratio_replicates(user_sums: np.ndarray, user_rows: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums, rows = (np.bincount(cell, weights=v, minlength=bootstrap.NUM_CELLS) for v in (user_sums, user_rows))
    return (weights @ sums) / (weights @ rows)


def simulated_users(rng: np.random.Generator, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums and row counts of users whose rows share a taste: E[value] = 1."""
    rows = rng.integers(1, 8, users)
    taste = 1 + rng.normal(size=users)
    return rows * taste + np.sqrt(rows) * rng.normal(size=users), rows.astype(float)


@pytest.mark.parametrize("users", [150, 3000])
def test_intervals_cover_the_truth_whether_users_are_fewer_or_more_than_cells(users):
    rng = np.random.default_rng(11)
    weights = bootstrap.poisson_weights(0, 200)
    covered = 0
    for _ in range(300):
        cell = rng.integers(0, bootstrap.NUM_CELLS, users)
        lower, upper = bootstrap.interval(ratio_replicates(*simulated_users(rng, users), cell, weights), 0.95)
        covered += bool(lower <= 1 <= upper)
    assert 0.90 <= covered / 300 <= 0.985


def test_spread_is_that_of_users_not_of_rows():
    rng = np.random.default_rng(5)
    sums, rows = simulated_users(rng, 5000)
    residual = sums - rows * sums.sum() / rows.sum()
    by_user = np.sqrt((residual**2).sum()) / rows.sum()
    by_row = np.sqrt(2 / rows.sum())  # variance 2 a row, as if rows were independent
    cell = rng.integers(0, bootstrap.NUM_CELLS, 5000)
    spread = ratio_replicates(sums, rows, cell, bootstrap.poisson_weights(0, 1000))[1:].std()
    assert spread == pytest.approx(by_user, rel=0.15)
    assert by_user > 1.4 * by_row
