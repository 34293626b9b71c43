"""Sums of floats that do not depend on the order of arrival: every term is rounded to 2^-40 and added as an integer.

Integers add exactly in any order, so partitions, retries and cluster sizes leave the last bit alone. Absolute error at
most 2^-41 (5e-13) a term. The two halves are summed apart, so 2^43 terms of up to 2^23 fit; a larger, infinite or NaN
term stops the job (ANSI cast) instead of spoiling the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_SCALE = 40
_LOW_BITS = 20
_NARROW_SCALE = 30


def fixed_sum(value: Column) -> Column:
    """Aggregate: the sum of a double column, 0 over no rows. Cost: two long sums, whole-stage compiled."""
    high, low = halves(value)
    return high * F.lit(2.0 ** (_LOW_BITS - _SCALE)) + low * F.lit(2.0**-_SCALE)


def halves(value: Column) -> tuple[Column, Column]:
    """Aggregates: the two long sums that fixed_sum puts together, in parts of 2^-20 and of 2^-40."""
    units = F.rint(value * F.lit(float(2**_SCALE))).cast("bigint")
    high = F.coalesce(F.sum(F.shiftright(units, _LOW_BITS)), F.lit(0))
    return high, F.coalesce(F.sum(units.bitwiseAND(F.lit(2**_LOW_BITS - 1))), F.lit(0))


def narrow_sum(value: Column) -> Column:
    """The same in one long, for many sums at once: terms rounded to 2^-30, 2^33 of them of up to 1 fit."""
    return F.coalesce(F.sum(F.rint(value * F.lit(float(2**_NARROW_SCALE))).cast("bigint")), F.lit(0)) * F.lit(
        2.0**-_NARROW_SCALE
    )


def collect(aggregated: DataFrame) -> Mapping[str, NDArray[Any]]:
    """Columns of a small result on the driver. The caller names the bound: groups, cells or a capped sample, never rows
    of the log. Nulls of numeric columns arrive as NaN."""
    table = aggregated.toArrow()
    return {name: table.column(name).to_numpy() for name in table.column_names}
