"""Who is held out, and who is in which fold: hashes of the user, so that all of one user's journeys stay together."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

_PARTS = 1_000_000


def is_validation(seed: int, validation_share: float) -> Column:
    """1 for the users (a share by hash) that no fit may see, else 0."""
    part = F.pmod(F.xxhash64(F.lit(seed), F.lit("split"), "user_id"), F.lit(_PARTS))
    return (part < round(validation_share * _PARTS)).cast("int")


def fold(seed: int, num_folds: int) -> Column:
    """Fold of the user for cross-fitting, 0 .. num_folds - 1."""
    return F.pmod(F.xxhash64(F.lit(seed), F.lit("fold"), "user_id"), F.lit(num_folds)).cast("int")
