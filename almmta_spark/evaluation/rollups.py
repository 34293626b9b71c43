"""Attribution summed by item, author and cluster, with the intervals that an ensemble's members give the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import jackknife
from almmta_spark.config import EnsembleConfig
from almmta_spark.evaluation.fixed_point import fixed_sum, narrow_sum
from almmta_spark.tables import Table

MEMBERS = "removal_effect_members"


def rollup(attribution: DataFrame, table: Table, plan: EnsembleConfig, level: float) -> DataFrame:
    """One night's attribution in the schema of one of tables.ROLLUPS; interval columns are null without an ensemble.

    A method has one model_version a night and holds every touch, so a group's users are counted once for all methods.
    An interval comes from the members' sums over the group, so what its touches have in common is in it.
    Cost: two scans; one shuffle of (group, method) partial sums, 2 M longs wider for M members; one of distinct
    (group, user) pairs.
    """
    key = table.key[0]
    users = attribution.select(key, "user_id").distinct().groupBy(key).agg(F.count(F.lit(1)).alias("users"))
    effects = member_sums(plan, "effect", lambda value: value)
    credits = member_sums(plan, "credit", lambda value: F.greatest(value, F.lit(0.0)))
    summed = attribution.groupBy(key, "method", "model_version").agg(
        F.count(F.lit(1)).alias("exposures"),
        F.sum("outcome").alias("outcomes"),
        fixed_sum(F.col("removal_effect")).alias("removal_effect_sum"),
        fixed_sum(F.col("credit")).alias("credit_sum"),
        fixed_sum(F.col("attribution_share") * F.col("outcome")).alias("attribution_share_sum"),
        F.max(F.size(MEMBERS)).alias("members"),
        fixed_sum(F.col("p_outcome")).alias("chances"),
        *effects,
        *credits,
    )
    mean = F.col("removal_effect_sum") / F.col("exposures")
    figures = summed.join(users, key).withColumns({"removal_effect_mean": mean, "efficiency": mean})
    halves = {
        "removal_effect_sum": half_width("effect", F.col("removal_effect_sum"), F.col("chances"), plan, level),
        "credit_sum": half_width("credit", F.col("credit_sum"), F.col("chances"), plan, level),
    }
    halves |= dict.fromkeys(("removal_effect_mean", "efficiency"), halves["removal_effect_sum"] / F.col("exposures"))
    ends = {f"{name}_lower": F.col(name) - half for name, half in halves.items()}
    ends |= {f"{name}_upper": F.col(name) + half for name, half in halves.items()}
    return figures.withColumns(ends).select(*table.column_names)


def touch_intervals(attribution: DataFrame, plan: EnsembleConfig, level: float) -> DataFrame:
    """The rows with the intervals that their members give their effects; null without an ensemble."""
    members = {f"member_{m}": F.get(MEMBERS, F.lit(m)).cast("double") for m in range(plan.members)}
    half = half_width("member", F.col("removal_effect"), F.col("p_outcome"), plan, level)
    ends = {
        "removal_effect_lower": F.col("removal_effect") - half,
        "removal_effect_upper": F.col("removal_effect") + half,
    }
    of_members = attribution.withColumns({**members, "members": F.size(MEMBERS)})
    return of_members.withColumns(ends).drop(*members, "members")


def member_sums(plan: EnsembleConfig, name: str, of: Callable[[Column], Column]) -> list[Column]:
    """Aggregates <name>_0, <name>_1, ...: sums over touches of each member's effect, or of a function of it."""
    return [narrow_sum(of(F.get(MEMBERS, F.lit(m)))).alias(f"{name}_{m}") for m in range(plan.members)]


def half_width(name: str, centre: Column, chances: Column, plan: EnsembleConfig, level: float) -> Column:
    """jackknife.half_width of <name>_0, <name>_1, ... as a column; chances: p_outcome, summed as the centre is.

    Null where `members` is, an error where it differs from the plan's number.
    """
    splits = [[F.col(f"{name}_{r * plan.folds + f}") for f in range(plan.folds)] for r in range(plan.repeats)]
    variance = sum((_spread(split) for split in splits), F.lit(0.0)) * F.lit(plan.folds - 1) / F.lit(plan.repeats)
    own = variance * F.lit(jackknife.inflation(plan.members, plan.folds))
    shared, unseen = F.lit(plan.shared_error) * centre, F.lit(plan.unseen_effect) * chances
    variance = own + shared * shared + unseen * unseen
    half = F.lit(jackknife.multiplier(plan.members, plan.folds, level)) * F.sqrt(variance)
    wrong = F.concat(
        F.lit(f"attribution.{MEMBERS} must hold {plan.members} effects a touch (training.ensemble), got "),
        F.col("members").cast("string"),
        F.lit(": run the night again from jobs/train.py"),
    )
    return F.when(F.col("members") == plan.members, half).when(F.col("members") >= 0, F.raise_error(wrong))


def _spread(values: Sequence[Column]) -> Column:
    """Mean squared distance from the mean."""
    mean = sum(values[1:], values[0]) / F.lit(len(values))
    return sum(((value - mean) * (value - mean) for value in values), F.lit(0.0)) / F.lit(len(values))
