"""A scored night with its effects corrected by an experiment: within rows, no shuffle."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal.calibration import Correction


def corrected(scored: DataFrame, correction: Correction, method: str) -> DataFrame:
    """The columns of attribution.score, of another method: the correction is added to every touch's effects, and to
    each member's. The ends of intervals are null: rollups.touch_intervals finds them from the members.

    removal_effect_ate moves by as much: what acts beside the mediator was measured on touches as they are served.
    """
    position = F.transform("touches", lambda t: F.array_position(F.lit(correction.cluster_C), t["cluster"]))
    scale = F.zip_with("touches", "p_outcome_deleted", lambda t, p: _scale(p, t["age_hours"], correction))
    found = scored.withColumn("at", F.arrays_zip(position.alias("position"), scale.alias("scale")))
    none = F.transform("touches", lambda _: F.lit(None).cast("double"))

    def added(p: Column, c: Column) -> Column:
        return F.least(p, F.greatest(p - 1, _entry(correction.shift_C, c) * c["scale"]))

    def members(values: Column, c: Column) -> Column:
        shifts = F.array(*[_entry(member_C, c) * c["scale"] for member_C in correction.member_MC])
        return F.zip_with(values, shifts, lambda value, shift: (value + shift).cast("float"))

    found = found.withColumn("added", F.zip_with("p_outcome_deleted", "at", added))
    return found.withColumns(
        {
            "removal_effect": F.zip_with("removal_effect", "added", lambda effect, more: effect + more),
            "removal_effect_ate": F.zip_with("removal_effect_ate", "added", lambda effect, more: effect + more),
            "p_outcome_deleted": F.zip_with("p_outcome_deleted", "added", lambda p, more: p - more),
            "removal_effect_members": F.zip_with("removal_effect_members", "at", members),
            "removal_effect_lower": none,
            "removal_effect_upper": none,
            "method": F.lit(method),
            "model_version": F.sha2(F.concat("model_version", F.lit(_digest(correction))), 256),
        }
    ).drop("at", "added")


def _scale(p_deleted: Column, age_hours: Column, correction: Correction) -> Column:
    return p_deleted * (1 - p_deleted) * F.exp(F.lit(-correction.fade_per_hour) * age_hours.cast("double"))


def _entry(values_C: NDArray[Any], c: Column) -> Column:
    """Of a touch's cluster."""
    return F.get(F.lit(values_C), (c["position"] - 1).cast("int"))


def _digest(correction: Correction) -> str:
    values = [getattr(correction, name).tolist() for name in ("cluster_C", "shift_C", "member_MC")]
    return hashlib.sha256(json.dumps([*values, correction.fade_per_hour]).encode()).hexdigest()
