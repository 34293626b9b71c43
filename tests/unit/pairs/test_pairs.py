"""Matched pairs: positives by content inside the journey, negatives from the same bucket, all by seeded hash."""

from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from almmta_spark.config import Config, ExamplesConfig, PairsConfig, PropensityConfig
from almmta_spark.journeys.split import is_validation
from almmta_spark.pairs.build import build_pairs
from almmta_spark.pairs.match import high_match, match_scores
from tests.nights import items, journey, journeys, propensities, touch

EAST, NORTH, DIAGONAL = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]


def conf_of(seed=0, validation_share=1e-6, **settings):
    examples = ExamplesConfig(validation_share=validation_share)
    base = replace(Config(), seed=seed, propensity=PropensityConfig(num_buckets=2), examples=examples)
    return replace(base, pairs=PairsConfig(**settings))


@pytest.fixture(scope="module")
def night(spark):
    kinds = [(100, 0), (102, 2)]
    rows = [
        journey(1, [touch(11, 100, 0, 3), touch(12, 101, 1, 2), touch(13, 102, 2, 1)], uploads=[(7, EAST)]),
        journey(2, [touch(21, 100, 0), touch(22, 102, 2)], uploads=[(8, None)]),
        *[journey(u, [touch(u * 10 + 1, *kinds[u % 2]), touch(u * 10 + 2, 101, 1)]) for u in range(3, 9)],
    ]
    contents = [(100, 0, [2.0, 0.0]), (101, 1, NORTH), (102, 2, DIAGONAL)]
    return (
        journeys(spark, rows),
        propensities(spark, range(1, 9), clusters=[0, 1, 2], buckets=[0, 1, 0]),
        items(spark, contents),
    )


def test_scores_are_cosines_of_a_journeys_own_touches_and_uploads(night):
    scores = {(r.upload_id, r.touch_id): r.match_score for r in match_scores(night[0], night[2]).collect()}
    assert scores == pytest.approx({(7, 11): 1.0, (7, 12): 0.0, (7, 13): 2**-0.5}, abs=1e-6)


def test_a_threshold_and_a_cap_choose_the_best_matches(night):
    scores = match_scores(night[0], night[2])
    above = high_match(scores, PairsConfig(match_threshold=0.5)).pairs.collect()
    assert [(r.touch_id, r.match_rank) for r in sorted(above, key=lambda r: r.match_rank)] == [(11, 1), (13, 2)]
    capped = high_match(scores, PairsConfig(match_threshold=-1.0, max_pairs_per_upload=1)).pairs.collect()
    assert [r.touch_id for r in capped] == [11]


def test_the_quantile_sets_the_threshold_where_none_is_given(night):
    found = high_match(match_scores(night[0], night[2]), PairsConfig(match_quantile=0.5))
    assert found.num_scored == 3
    assert found.threshold == pytest.approx(2**-0.5, abs=1e-3)


def test_held_out_users_do_not_move_the_threshold(night):
    scores = match_scores(night[0], night[2])
    found = high_match(scores, PairsConfig(match_quantile=0.5), fitted_on=F.col("touch_id") != 13)
    assert found.num_scored == 3
    assert found.threshold == pytest.approx(1.0, abs=1e-3)


def test_held_out_users_touches_are_no_negatives(night):
    conf = conf_of(match_threshold=0.5, num_hard_negatives=8, validation_share=0.5)
    held_out = night[0].where(is_validation(conf.seed, 0.5) == 1).selectExpr("explode(touches.touch_id) as touch_id")
    theirs = {r.touch_id for r in held_out.collect()}
    rows = build_pairs(*night, conf)[0].collect()
    assert theirs and rows and not theirs & {i for r in rows for i in r.negative_touch_id}


def test_negatives_are_other_users_touches_of_the_same_bucket_and_other_clusters(night):
    pairs, _ = build_pairs(*night, conf_of(match_threshold=0.5, num_hard_negatives=3))
    rows = pairs.collect()
    assert {r.touch_id for r in rows} == {11, 13}
    for r in rows:
        assert r.propensity_bucket == 0 and 1 <= len(r.negative_touch_id) <= 3
        assert len(set(r.negative_touch_id)) == len(r.negative_touch_id)
        assert not set(r.negative_touch_id) & {11, 12, 13}
        assert set(r.negative_cluster) == {0, 2} - {{11: 0, 13: 2}[r.touch_id]}


def test_equal_seeds_draw_equal_negatives_whatever_the_partitions(night):
    conf = conf_of(match_threshold=0.5, seed=3)
    first, _ = build_pairs(*night, conf)
    again, _ = build_pairs(night[0].repartition(5, "user_id"), *night[1:], conf)
    assert sorted(first.collect()) == sorted(again.collect())


def test_a_night_without_contents_has_no_pairs(spark, night):
    bare = items(spark, [(100, 0, None), (101, 1, None), (102, 2, None)])
    pairs, chosen = build_pairs(night[0], night[1], bare, conf_of())
    assert pairs.count() == 0 and chosen.num_scored == 0
