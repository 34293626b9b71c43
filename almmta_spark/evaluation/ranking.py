"""causal/ranking.py on rows of any number: the same sums, added up in Spark, so the same figures.

>>> found = evaluate(rows, ["mine", "other"], treated="kept", outcome="uploads", user="user_id")
>>> found["mine"]["auuc"], found["mine"]["auuc_lower"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import ranking
from almmta_spark.causal.ranking import MAX_STEPS, SAMPLE_ROWS, SHARES, Ranked
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect, halves


def evaluate(
    rows: DataFrame,
    scores: Sequence[str],
    treated: str = "treated",
    outcome: str = "outcome",
    weight: str | None = None,
    user: str = "user_id",
    *,
    replicates: int = 200,
    seed: int = 0,
    level: float = 0.95,
    share: str = "all",
    max_steps: int = MAX_STEPS,
) -> dict[str, dict[str, Any]]:
    """ranking.figures of each score column on the same rows: those of ranking.evaluate, to the last bit.

    Cost: a count of rows, a scan for a sample of about SAMPLE_ROWS, from which come the cuts, and a scan a score for
    its sums; nothing is exploded, Python sees no row. On the driver: the sample, and max_steps x NUM_CELLS x 2 sums.
    """
    if share not in SHARES:
        raise ValueError(f"share must be one of {SHARES}, got {share!r}")
    columns = rows.select(
        *[F.col(name).cast("double").alias(f"score_{i}") for i, name in enumerate(scores)],
        F.col(treated).cast("double").alias("treated"),
        F.col(outcome).cast("double").alias("outcome"),
        *([] if weight is None else [F.col(weight).cast("double").alias("weight")]),
        F.col(user).cast("bigint").alias("user"),
    )
    names = {f"score_{i}": name for i, name in enumerate(scores)}
    names |= {"treated": treated} | ({} if weight is None else {"weight": weight}) | {"outcome": outcome, "user": user}
    sampled = bootstrap.sampled(F.col("user"), seed, columns.count(), SAMPLE_ROWS)
    sample = collect(columns.where(sampled).select(*[f"score_{i}" for i in range(len(scores))]))
    found = {}
    for i, name in enumerate(scores):
        cut_K = ranking.cuts(sample[f"score_{i}"], max_steps)
        found[name] = ranking.figures(
            _ranked(columns, f"score_{i}", cut_K, names, seed), replicates, seed, level, share
        )
    return found


def _ranked(columns: DataFrame, score: str, cut_K: NDArray[np.float64], names: Mapping[str, str], seed: int) -> Ranked:
    """One score's rows added up. ValueError where a column has rows that break its rule."""
    outcome, weight = F.col("outcome"), F.col("weight") if "weight" in names else None
    rules = _rules([score, *(name for name in names if not name.startswith("score_"))])
    fine = reduce(Column.__and__, [F.coalesce(holds, F.lit(False)) for _, holds in rules.values()])
    cell = bootstrap.user_cell(F.col("user"), seed)
    place = (F.col("step") * bootstrap.NUM_CELLS + cell) * 2 + F.col("treated").cast("int")
    added = [
        ("value", outcome if weight is None else outcome * weight),
        *([] if weight is None else [("weight", weight)]),
    ]
    found = collect(
        _with_step(columns, score, cut_K)
        .groupBy(F.when(fine, place).otherwise(-1).alias("place"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.min(outcome).alias("lowest"),
            F.max(outcome).alias("highest"),
            F.count_if(~outcome.isin(0.0, 1.0)).alias("other_outcomes"),
            *[half.alias(f"{name}_{i}") for name, value in added for i, half in enumerate(halves(F.when(fine, value)))],
        )
    )
    if -1 in found["place"]:
        _refuse(columns, names)
    units = ranking.no_units(len(cut_K) + 1)
    ones = [found["rows"] << ranking.HIGH_BITS, np.zeros_like(found["rows"])]
    weights = ones if weight is None else [found["weight_0"], found["weight_1"]]
    units[:, found["place"]] = [found["value_0"], found["value_1"], *weights]
    return Ranked(
        ranking.sums(units),
        int(found["rows"].sum()),
        int(found["rows"][found["place"] % 2 == 1].sum()),
        float(found["lowest"].min(initial=math.inf)),
        float(found["highest"].max(initial=-math.inf)),
        not found["other_outcomes"].any(),
    )


def _with_step(columns: DataFrame, score: str, cut_K: NDArray[np.float64]) -> DataFrame:
    """columns and step, ranking.step_of: a binary search, a projection a level, all compiled into one loop."""
    levels = max(1, len(cut_K).bit_length())
    cuts = F.array(*map(F.lit, [*cut_K.tolist(), *[math.inf] * (2**levels - 1 - len(cut_K))]))
    found, below = columns.withColumn("below", F.lit(0)), F.col("below")
    for half in (2**level for level in reversed(range(levels))):
        found = found.withColumn(
            "below", below + F.when(F.get(cuts, below + (half - 1)) < F.col(score), half).otherwise(0)
        )
    return found.withColumn("step", len(cut_K) - below)


def _rules(columns: Sequence[str]) -> dict[str, tuple[tuple[str, str], Column]]:
    """Of each column what must hold: in words with what to do, and as a condition."""
    largest = F.lit(ranking.LARGEST)
    weight = F.col("weight") if "weight" in columns else F.lit(1.0)
    known = {
        "treated": (ranking.TREATED, F.col("treated").isin(0.0, 1.0)),
        "weight": (ranking.WEIGHT, (weight > 0) & (weight < largest)),
        "outcome": (ranking.OUTCOME, F.abs(F.col("outcome") * weight) < largest),
        "user": (("an integer id", "hash other ids to bigint first"), F.col("user").isNotNull()),
    }
    return {name: known.get(name, (ranking.SCORE, F.abs(name) < F.lit(math.inf))) for name in columns}


def _refuse(columns: DataFrame, names: Mapping[str, str]) -> None:
    """ValueError that says which column has how many rows that break which rule. One scan."""
    rules = _rules(list(names))
    wrong = [F.count_if(~F.coalesce(holds, F.lit(False))).alias(name) for name, (_, holds) in rules.items()]
    counted = columns.agg(*wrong).first()
    assert counted is not None
    for name, (rule, _) in rules.items():
        ranking.refuse(f"column {names[name]}", *rule, counted[name])
