"""What the page needs of the tables that have a row a group or a touch: a few rows of each, never more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark.report.contents import Extremes, Journey, Touch
from almmta_spark.tables import Table

TOP_ROWS = 10
SAMPLED_TOUCHES = 600
"""Touches of journeys with an upload, and as many of others, from which the drawn journeys are chosen."""
_TOUCH = ("removal_effect", "removal_effect_lower", "removal_effect_upper", "age_hours", "cluster", "p_outcome")


def extremes(rollup: DataFrame, table: Table, method: str) -> Extremes:
    """Groups by the end of their mean effect's interval that is nearer to 0 effect of being there by chance.

    The mean stands in where there is no interval; equal ones go by exposures, then by key. Cost: two scans of the
    roll-up that keep TOP_ROWS rows a partition.
    """
    own = rollup.where(F.col("method") == method)
    lower = F.coalesce("removal_effect_mean_lower", "removal_effect_mean")
    upper = F.coalesce("removal_effect_mean_upper", "removal_effect_mean")
    then = (F.col("exposures").desc(), F.col(table.key[0]))
    top = own.orderBy(lower.desc(), *then).limit(TOP_ROWS).toPandas()
    bottom = own.orderBy(upper.asc(), *then).limit(TOP_ROWS).toPandas()
    return Extremes(top, bottom)


def sampled_journeys(attribution: DataFrame, method: str, seed: int) -> list[Journey]:
    """Journeys of a seeded hash sample, as many touches of those with an upload as of others.

    Two scans of a few columns, SAMPLED_TOUCHES rows a partition and no shuffle; the journey that the limit may have
    cut is left out. No id of a user, journey, touch or item comes along.
    """
    own = attribution.where(F.col("method") == method)
    by_hash = F.xxhash64("journey_id", F.lit(seed))
    found: list[Journey] = []
    for outcome in (1, 0):
        rows = own.where(F.col("outcome") == outcome).select(by_hash.alias("place"), *_TOUCH)
        sampled = rows.orderBy("place", F.col("age_hours").desc(), "cluster").limit(SAMPLED_TOUCHES).toPandas()
        found += _journeys(sampled, bool(outcome), cut=len(sampled) == SAMPLED_TOUCHES)
    return found


def _journeys(rows: pd.DataFrame, uploaded: bool, cut: bool) -> list[Journey]:
    journeys = [_journey(of, uploaded) for _, of in rows.groupby("place", sort=True)]
    return journeys[:-1] if cut else journeys


def _journey(rows: pd.DataFrame, uploaded: bool) -> Journey:
    touches = tuple(
        Touch(
            float(r.age_hours),
            int(r.cluster),
            float(r.removal_effect),
            _known(r.removal_effect_lower),
            _known(r.removal_effect_upper),
        )
        for r in rows.itertuples()
    )
    return Journey(uploaded, _known(rows.p_outcome.iloc[0]), touches)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def chosen(journeys: Sequence[Journey]) -> tuple[tuple[str, Journey], ...]:
    """At most four journeys to draw, of four touches or more where there are such, each with the rule that chose it."""
    uploads = _telling([j for j in journeys if j.uploaded])
    others = _telling([j for j in journeys if not j.uploaded])
    rules: list[tuple[str, Sequence[Journey], int]] = []
    with_effect = [j for j in uploads if j.largest_share > 0]
    by_share = sorted(with_effect, key=lambda j: j.largest_share)
    by_effect = sorted(uploads, key=lambda j: j.effect)
    rules.append(("An upload with one main cause: the largest share of one touch", by_share, -1))
    rules.append(("An upload with several causes: the most even shares", by_share, 0))
    rules.append(("An upload that needed no touch: the smallest sum of effects", by_effect, 0))
    rules.append(("No upload, though touches did much: the largest sum of effects", sorted(others, key=_effect), -1))
    picked: list[tuple[str, Journey]] = []
    for rule, candidates, at in rules:
        if candidates and candidates[at] not in [j for _, j in picked]:
            picked.append((rule, candidates[at]))
    return tuple(picked)


def _effect(journey: Journey) -> float:
    return journey.effect


def _telling(journeys: Sequence[Journey]) -> Sequence[Journey]:
    long = [j for j in journeys if len(j.touches) >= 4]
    return long or journeys
