"""Cells of the bootstrap (causal/bootstrap.py) as a Spark column."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from almmta_spark.causal.bootstrap import NUM_CELLS, interval, poisson_weights, sample_limit

__all__ = ["NUM_CELLS", "interval", "poisson_weights", "sampled", "user_cell"]


def user_cell(user_id: Column, seed: int) -> Column:
    """Cell 0..NUM_CELLS-1 of a user: a seeded hash, so nights, groups and reruns agree; causal.bootstrap's is equal."""
    return F.pmod(_user_hash(user_id, seed), F.lit(NUM_CELLS)).cast("int")


def sampled(user_id: Column, seed: int, rows: int, wanted: int) -> Column:
    """causal.bootstrap.sampled: whether a row is in the hash sample of users."""
    return F.pmod(F.shiftright(_user_hash(user_id, seed), 8), F.lit(2**20)) < F.lit(sample_limit(rows, wanted))


def _user_hash(user_id: Column, seed: int) -> Column:
    return F.xxhash64(F.lit(seed), F.lit("bootstrap"), user_id)
