"""What makes a row unusable, one rule a line. Each function gives a row's status: USED, OUTSIDE_WINDOW or the reason.

The first rule that a row breaks is its reason. Everything here looks at one row only: no shuffle, no scan of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from almmta_spark.config import SignalConfig
from almmta_spark.logs.windows import Windows

USED = "used"
OUTSIDE_WINDOW = "outside_window"
MAX_VALUE = 1e9
"""Largest value of one signal event: sums are kept in millionths of a 64-bit integer."""

Rule = tuple[str, Column]


def first_broken(rules: Collection[Rule], otherwise: Column) -> Column:
    """Name of the first rule whose condition holds, else otherwise."""
    return reduce(lambda rest, rule: F.when(rule[1], F.lit(rule[0])).otherwise(rest), reversed(list(rules)), otherwise)


def exposure_rules() -> list[Rule]:
    """Of a row of exposures, before its item and user are looked up."""
    return [_null("user_id"), _null("item_id"), *_times()]


def signal_rules() -> list[Rule]:
    """Of a row of signals."""
    value = F.col("value")
    return [
        _null("user_id"),
        ("null_signal", F.col("signal").isNull() | (F.trim("signal") == "")),
        *_times(),
        ("null_value", value.isNull()),
        ("non_finite_value", ~_is_finite(value)),
        ("negative_value", value < 0),
        ("value_too_large", value > MAX_VALUE),
    ]


def upload_status(windows: Windows, embedding_length: int, max_norm: float) -> Column:
    """Of a row of uploads."""
    rules = [_null("user_id"), _null("upload_id"), *_times(), *_embedding(embedding_length, max_norm)]
    return first_broken(rules, _inside(windows.in_outcome(F.col("event_ts"))))


def item_status(embedding_length: int, max_norm: float) -> Column:
    """Of a row of items. One without cluster and content can be given no cluster."""
    nothing_known = F.col("cluster").isNull() & F.col("embedding").isNull()
    rules = [_null("item_id"), _null("author_id"), *_embedding(embedding_length, max_norm)]
    return first_broken([*rules, ("neither_cluster_nor_embedding", nothing_known)], F.lit(USED))


def user_status(covariate_length: int) -> Column:
    """Of a row of users. Unknown entries of covariates are allowed (imputed later), another length is not."""
    length = ("covariates_length", F.size("covariates") != covariate_length)
    return first_broken([_null("user_id"), _null("covariates"), length], F.lit(USED))


def withholding_status(windows: Windows) -> Column:
    """Of a row of withholdings, before its item and user are looked up."""
    p = F.col("p_withheld")
    rules = [
        _null("user_id"),
        _null("item_id"),
        *_times(),
        _null("withheld"),
        ("p_withheld_not_in_0_1", p.isNotNull() & ~(_is_finite(p) & (p > 0) & (p < 1))),
    ]
    return first_broken(rules, _inside(windows.in_lookback(F.col("event_ts"))))


def roles(signals: Mapping[str, SignalConfig], name: str | None) -> tuple[str, ...]:
    """Roles of a signal's name. One that conf does not know is an outcome_proxy."""
    return signals[name].roles if name is not None and name in signals else ("outcome_proxy",)


def has_role(signals: Mapping[str, SignalConfig], role: str) -> Column:
    """Whether the row's signal name has the role. A name conf does not know is an outcome_proxy."""
    with_role = [name for name, signal in signals.items() if role in signal.roles]
    named = F.col("signal").isin(with_role) if with_role else F.lit(False)
    if role != "outcome_proxy":
        return named
    return named | ~F.col("signal").isin(list(signals)) if signals else F.lit(True)


def _null(column: str) -> Rule:
    return f"null_{column}", F.col(column).isNull()


def _times() -> list[Rule]:
    """An event of another day than its folder's, the future included, is a clock or a pipeline gone wrong."""
    other_day = F.col("event_ts").cast("date") != F.col("ds").cast("date")
    return [_null("event_ts"), ("event_outside_its_day", other_day)]


def _inside(inside: Column) -> Column:
    return F.when(inside, F.lit(USED)).otherwise(F.lit(OUTSIDE_WINDOW))


def _is_finite(value: Column) -> Column:
    return ~F.isnan(value) & (F.abs(value) != float("inf"))


def _embedding(length: int, max_norm: float) -> list[Rule]:
    """A null embedding means no content and breaks none of these."""
    embedding = F.col("embedding")
    squares = F.aggregate(embedding, F.lit(0.0), lambda total, x: total + x.cast("double") * x.cast("double"))
    same = (squares == 0) | ((F.size(embedding) > 1) & (F.array_min(embedding) == F.array_max(embedding)))
    rules = [
        ("embedding_length", F.size(embedding) != length),
        ("embedding_not_finite", squares.isNull() | ~_is_finite(squares)),
        ("embedding_norm", F.sqrt(squares) > max_norm),
        ("embedding_constant", same),
    ]
    return [(name, embedding.isNotNull() & broken) for name, broken in rules]
