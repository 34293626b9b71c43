"""causal/ranking.py on rows of any number: the same sums, added up in Spark, so the same figures.

>>> found = evaluate(rows, ["mine", "other"], treated="kept", outcome="uploads", user="user_id")
>>> found["mine"]["auuc"], found["mine"]["auuc_lower"]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import ranking
from almmta_spark.causal.ranking import ARMS, MAX_STEPS, SAMPLE_ROWS, SHARES, Ranked
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

    Cost: a scan of treated and outcome, one for a sample of about SAMPLE_ROWS, from which come the cuts, and one a
    score for its sums; nothing is exploded, Python sees no row. On the driver: the sample, and 8 sums a step and cell.
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
    totals = _totals(columns)
    sampled = bootstrap.sampled(F.col("user"), seed, totals.rows, SAMPLE_ROWS)
    sample = collect(columns.where(sampled).select(*[f"score_{i}" for i in range(len(scores))]))
    found = {}
    for i, name in enumerate(scores):
        cut_K = ranking.cuts(sample[f"score_{i}"], max_steps)
        found[name] = ranking.figures(
            _ranked(columns, f"score_{i}", cut_K, names, seed, totals), replicates, seed, level, share
        )
    return found


@dataclass(frozen=True)
class _Totals:
    """What all scores share."""

    rows: int
    treated_rows: int
    lowest: float
    highest: float
    binary: bool


def _totals(columns: DataFrame) -> _Totals:
    """One scan, of two columns."""
    outcome = F.col("outcome")
    found = columns.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("treated") != 0).alias("treated_rows"),
        F.coalesce(F.min(outcome), F.lit(math.inf)).alias("lowest"),
        F.coalesce(F.max(outcome), F.lit(-math.inf)).alias("highest"),
        (F.count_if(outcome.isin(0.0, 1.0)) == F.count(F.lit(1))).alias("binary"),
    ).first()
    assert found is not None
    return _Totals(**found.asDict())


def _ranked(
    columns: DataFrame, score: str, cut_K: NDArray[np.float64], names: Mapping[str, str], seed: int, totals: _Totals
) -> Ranked:
    """One score's rows added up. ValueError where a column has rows that break its rule.

    A group a step and cell, with the sums of both arms beside each other: MAX_STEPS x NUM_CELLS of them are what
    Spark's compiled hash map holds (spark.sql.codegen.aggregate.fastHashMap.capacityBit).
    """
    rules = _rules([score, *(name for name in names if not name.startswith("score_"))])
    fine = reduce(Column.__and__, [F.coalesce(holds, F.lit(False)) for _, holds in rules.values()])
    place = F.col("step") * bootstrap.NUM_CELLS + bootstrap.user_cell(F.col("user"), seed)
    added = [
        sums.alias(f"{arm}_{i}")
        for arm in ARMS
        for i, sums in enumerate(_sums(fine & (F.col("treated") == arm), "weight" in names, totals.binary))
    ]
    grouped = _with_step(columns, score, cut_K).groupBy(F.when(fine, place).otherwise(-1).alias("place"))
    found = collect(grouped.agg(*added))
    if -1 in found["place"]:
        _refuse(columns, names)
    units = ranking.no_units(len(cut_K) + 1)
    for arm in ARMS:
        units[:, found["place"] * len(ARMS) + arm] = [found[f"{arm}_{i}"] for i in range(len(units))]
    return Ranked(ranking.sums(units), **vars(totals))


def _sums(here: Column, weighted: bool, binary: bool) -> list[Column]:
    """The four of ranking.no_units over the rows that are here; what is 0 or 1 is counted, which is cheaper."""
    outcome, weight = F.col("outcome"), F.col("weight") if weighted else F.lit(1.0)
    value = _ones(here & (outcome == 1)) if binary and not weighted else halves(F.when(here, outcome * weight))
    return [*value, *(halves(F.when(here, weight)) if weighted else _ones(here))]


def _ones(here: Column) -> tuple[Column, Column]:
    """fixed_point.halves of 1 for every row that is here."""
    return F.shiftleft(F.count_if(here), ranking.HIGH_BITS), F.lit(0).cast("bigint")


def _with_step(columns: DataFrame, score: str, cut_K: NDArray[np.float64]) -> DataFrame:
    """columns and step, ranking.step_of: a binary search, a projection a level, all compiled into one loop."""
    levels = max(1, len(cut_K).bit_length())
    ends = [*cut_K.tolist(), *[math.inf] * (2**levels - 1 - len(cut_K))]
    cuts = F.split(F.lit(" ".join(map(repr, ends))), " ").cast("array<double>")  # one call to the JVM, not one a number
    found, below = columns.withColumns({"cuts": cuts, "below": F.lit(0)}), F.col("below")
    for half in (2**level for level in reversed(range(levels))):
        passed = F.get("cuts", below + (half - 1)) < F.col(score)
        found = found.withColumn("below", below + F.when(passed, half).otherwise(0))
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
