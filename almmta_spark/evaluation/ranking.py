"""causal/ranking.py on rows of any number: the same sums, added up in Spark, so the same figures.

>>> found = evaluate(rows, ["mine", "other"], treated="kept", outcome="uploads", user="user_id")
>>> found["mine"]["auuc"], found["mine"]["auuc_lower"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import ranking
from almmta_spark.causal.ranking import MAX_STEPS, SAMPLE_ROWS, SHARES, Ranked
from almmta_spark.evaluation import bootstrap
from almmta_spark.evaluation.fixed_point import collect

_KEYS = ("score", "step", "cell", "treated")
_PARTS = ("value_high", "value_low", "weight_high", "weight_low")
"""The last axis of ranking.no_units."""


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

    Cost: three scans of rows, none of them exploded, whatever the number of scores: their checks, a sample of about
    SAMPLE_ROWS for the cuts, and the sums, of which each task keeps 4 MB a score. On the driver: the sample and
    scores x max_steps x NUM_CELLS x 2 sums at most.
    """
    if share not in SHARES:
        raise ValueError(f"share must be one of {SHARES}, got {share!r}")
    columns = rows.select(
        *[F.col(name).cast("double").alias(f"score_{i}") for i, name in enumerate(scores)],
        F.col(treated).cast("double").alias("treated"),
        F.col(outcome).cast("double").alias("outcome"),
        (F.lit(1.0) if weight is None else F.col(weight).cast("double")).alias("weight"),
        F.col(user).cast("bigint").alias("user"),
    )
    names = {f"score_{i}": name for i, name in enumerate(scores)}
    names |= {"treated": treated, "outcome": outcome, "weight": weight or "weight", "user": user}
    looked = _look(columns, names)
    found = ranked(columns, len(scores), looked, seed, max_steps)
    return {name: ranking.figures(of, replicates, seed, level, share) for name, of in zip(scores, found, strict=True)}


def _look(columns: DataFrame, names: Mapping[str, str]) -> dict[str, Any]:
    """Counts, and a ValueError where a column has rows that break its rule."""
    outcome, weight, largest = F.col("outcome"), F.col("weight"), F.lit(ranking.LARGEST)
    rules = {name: (ranking.SCORE, F.abs(name) < F.lit(float("inf"))) for name in names if name.startswith("score_")}
    rules["treated"] = (ranking.TREATED, F.col("treated").isin(0.0, 1.0))
    rules["weight"] = (ranking.WEIGHT, (weight > 0) & (weight < largest))
    rules["outcome"] = (ranking.OUTCOME, F.abs(outcome * weight) < largest)
    rules["user"] = (("an integer id", "hash other ids to bigint first"), F.col("user").isNotNull())
    wrong = [F.count_if(~F.coalesce(holds, F.lit(False))).alias(f"wrong_{name}") for name, (_, holds) in rules.items()]
    looked = columns.agg(
        F.count(F.lit(1)).alias("rows"),
        F.count_if(F.col("treated") == 1).alias("treated"),
        F.min(outcome).alias("lowest"),
        F.max(outcome).alias("highest"),
        F.count_if(~outcome.isin(0.0, 1.0)).alias("other_outcomes"),
        *wrong,
    ).first()
    assert looked is not None
    for name, (rule, _) in rules.items():
        ranking.refuse(f"column {names[name]}", *rule, looked[f"wrong_{name}"])
    return looked.asDict()


def ranked(columns: DataFrame, num_scores: int, looked: Mapping[str, Any], seed: int, max_steps: int) -> list[Ranked]:
    """Of columns score_0.., treated, outcome, weight, user that were looked at."""
    sample = collect(
        columns.where(bootstrap.sampled(F.col("user"), seed, looked["rows"], SAMPLE_ROWS)).select(
            *[f"score_{i}" for i in range(num_scores)]
        )
    )
    cuts = [ranking.cuts(sample[f"score_{i}"], max_steps) for i in range(num_scores)]
    ddl = ", ".join([f"{name} int" for name in _KEYS] + [f"{name} bigint" for name in _PARTS])
    partial = columns.withColumn("cell", bootstrap.user_cell(F.col("user"), seed)).mapInArrow(_adder(cuts), ddl)
    found = collect(partial.groupBy(*_KEYS).agg(*[F.sum(name).alias(name) for name in _PARTS]))
    result = []
    for i, cut in enumerate(cuts):
        of, units = found["score"] == i, ranking.no_units(len(cut) + 1)
        units[tuple(found[key][of] for key in _KEYS[1:])] = np.stack([found[name][of] for name in _PARTS], axis=-1)
        rows, treated, lowest, highest = (looked[name] for name in ("rows", "treated", "lowest", "highest"))
        result.append(Ranked(ranking.sums(units), rows, treated, lowest, highest, looked["other_outcomes"] == 0))
    return result


def _adder(cuts: Sequence[NDArray[np.float64]]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """A task's rows, added up by (step, cell, arm) for every score as they pass."""

    def add(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        units = [ranking.no_units(len(cut) + 1) for cut in cuts]
        for batch in batches:
            column = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
            rows = [column[name] for name in ("cell", "treated", "outcome", "weight")]
            for i, cut in enumerate(cuts):
                ranking.add_rows(units[i], ranking.step_of(column[f"score_{i}"], cut), *rows)
        for i, of in enumerate(units):
            keys = np.nonzero(of.any(axis=-1))
            arrays = [pa.array(values.astype(np.int32)) for values in (np.full(len(keys[0]), i), *keys)]
            arrays += [pa.array(of[..., part][keys]) for part in range(len(_PARTS))]
            yield pa.RecordBatch.from_arrays(arrays, [*_KEYS, *_PARTS])

    return add
