"""Credit against what uploads resemble, by pandas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import Window
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import EvaluationConfig
from almmta_spark.evaluation import diagnostics, matching
from tests.unit.evaluation.night import frame

CONF = EvaluationConfig(bootstrap_replicates=50, match_sweep=(1.0, 0.4))


def resembling(touches: pd.DataFrame, best: bool) -> pd.DataFrame:
    """A matched pair for each journey: its most credited touch, or its least."""
    order = touches.sort_values("latent", ascending=not best)
    found = order.groupby("journey_id").first().reset_index()
    return found.assign(match_score=np.linspace(0.5, 1, len(found)).astype(np.float32))


def table(spark, pairs: pd.DataFrame):
    columns = ["journey_id", "user_id", "touch_id", "match_score"]
    rows = pairs.assign(upload_id=range(len(pairs)))[["upload_id", *columns]]
    return frame(spark, tables.MATCHED_PAIRS, rows.astype({"match_score": float}).to_dict("records"))


def expected(touches: pd.DataFrame, shares: pd.Series, pairs: pd.DataFrame) -> tuple[int, float]:
    by_journey = touches.assign(share=touches.touch_id.map(shares)).groupby("journey_id")
    num_touches, credited = by_journey.touch_id.count(), by_journey.share.max() > 0
    held = pairs[(pairs.journey_id.map(num_touches) > 1) & pairs.journey_id.map(credited)]
    equal = 1 / held.journey_id.map(num_touches)
    return len(held), float(shares[held.touch_id].sum() / equal.sum())


@pytest.fixture(scope="module")
def attribution(small_night):
    """With shares that follow from each method's credit."""
    of_journey = F.sum("credit").over(Window.partitionBy("method", "journey_id"))
    share = F.coalesce(F.try_divide("credit", of_journey), F.lit(0.0))
    return small_night.inputs.attribution.withColumn("attribution_share", share)


@pytest.fixture(scope="module")
def shares(attribution) -> pd.Series:
    own = attribution.where("method = 'latent'").select("touch_id", "attribution_share")
    return own.toPandas().set_index("touch_id").attribution_share


@pytest.mark.parametrize("best", [True, False])
def test_the_lift_is_that_of_the_closest_pairs_in_journeys_of_several_touches(
    spark, small_night, attribution, shares, best
):
    pairs = resembling(small_night.touches, best)
    all_of_them, closest = matching.lifts(attribution, table(spark, pairs), "latent", CONF, seed=0)
    assert (all_of_them.pairs, all_of_them.lift) == pytest.approx(expected(small_night.touches, shares, pairs))
    nearest = pairs[pairs.match_score >= closest.min_score]
    assert 0.4 * len(pairs) <= len(nearest) <= 0.4 * len(pairs) + 2
    assert (closest.pairs, closest.lift) == pytest.approx(expected(small_night.touches, shares, nearest))
    assert all_of_them.lower < all_of_them.lift < all_of_them.upper
    verdicts = {check.verdict for check in diagnostics.match_checks([all_of_them, closest])}
    assert verdicts == {"pass" if best else "warn"}


def test_equal_shares_are_a_lift_of_one_which_is_not_enough(spark, small_night, attribution):
    pairs = table(spark, resembling(small_night.touches, best=True))
    (found, _) = matching.lifts(attribution, pairs, "linear", CONF, seed=0)
    assert found.lift == pytest.approx(1) and found.lower == pytest.approx(1)
    unclear = dataclasses.replace(found, lift=1.02, lower=0.9, upper=1.2)
    (check,) = diagnostics.match_checks([unclear])
    assert (check.name, check.verdict) == ("match_sweep/best=1", "warn") and "1.02 [0.90, 1.20]" in check.advice


def test_a_night_without_pairs_is_not_looked_at(spark, small_night, attribution):
    none = table(spark, resembling(small_night.touches, best=True)).limit(0)
    assert matching.lifts(attribution, none, "latent", CONF, seed=0) == []
