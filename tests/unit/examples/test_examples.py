"""Training examples: what the columns mean, and how the files are laid out."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from almmta_spark import spark_tables, storage, tables
from almmta_spark.config import Config, ExamplesConfig, JourneysConfig, PairsConfig, PropensityConfig, SignalConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.examples.build import build_examples
from almmta_spark.examples.features import features
from almmta_spark.examples.layout import WRITE_OPTIONS, cut_points, cuts_by_bin, laid_out, num_groups
from almmta_spark.examples.spec import build_spec, carries_contents, centred_contents
from almmta_spark.pairs.build import build_pairs
from tests.nights import DS, items, journey, journeys, propensities, touch

USERS = range(1, 41)


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    return replace(
        Config(),
        warehouse=str(tmp_path_factory.mktemp("examples")),
        journeys=JourneysConfig(max_touchpoints=4),
        examples=ExamplesConfig(num_row_groups=4, validation_share=0.2),
        pairs=PairsConfig(match_threshold=0.5, num_hard_negatives=2),
        signals={"camera": SignalConfig(kind="binary", anchor=True), "intent": SignalConfig(("intent_proxy",))},
    )


@pytest.fixture(scope="module")
def night(spark):
    def one(u):
        proxies = [("camera", 3.0)] + ([("edits", float(u))] if u % 2 else [])
        uploads = [(u, [1.0, 0.0])] if u % 4 == 0 else []
        covariates = (float(u), None if u == 1 else 2.0)
        touches = [touch(u * 10, 100, 5, 9.0), touch(u * 10 + 1, 101, 7, 2.0)][: 1 + u % 2]
        return journey(u, touches, uploads, covariates, proxies, [("intent", 1.0)])

    rows = journeys(spark, [one(u) for u in USERS])
    contents = items(spark, [(100, 5, [1.0, 0.0]), (101, 7, [0.0, 1.0])])
    return rows, propensities(spark, USERS, clusters=[5, 6, 7], buckets=[2, 0, 1]), contents


@pytest.fixture(scope="module")
def spec(night, conf):
    return build_spec(*night, embedding_length=2, conf=conf)


@pytest.fixture(scope="module")
def written(night, conf, spec):
    pairs, _ = build_pairs(*night, replace(conf, propensity=PropensityConfig(num_buckets=3)))
    examples = build_examples(night[0], night[1], pairs, night[2], spec, conf)
    spark_tables.write(examples, conf, tables.TRAINING_EXAMPLES, DS, options=WRITE_OPTIONS)
    return spark_tables.path(examples.sparkSession, conf, tables.TRAINING_EXAMPLES, DS)


def test_the_spec_is_decided_on_training_users(spec):
    assert spec.clusters == (5, 6, 7)
    assert spec.outcome_proxies == (Signal("camera", "binary", True), Signal("edits", "count"))
    assert spec.intent_proxies == (Signal("intent", "binary"),)
    assert spec.num_training + spec.num_validation == len(USERS) and spec.num_validation > 0
    assert 0 < spec.base_rate < 1


def test_features_are_standardised_imputed_indexed_and_padded(night, spec):
    rows = {r.user_id: r for r in features(*night, spec).collect()}
    one, two = rows[1], rows[2]
    assert one.covariates == pytest.approx([(1 - spec.covariate_mean[0]) / spec.covariate_scale[0], 0.0])
    assert (one.num_touches, one.cluster_index, one.age_hours) == (2, [0, 2, 0, 0], [9.0, 2.0, 0.0, 0.0])
    assert (one.propensity_bucket, one.touch_weight) == ([2, 1, 0, 0], [1.0, 3.0, 0.0, 0.0])
    assert (one.outcome_proxies, two.outcome_proxies) == ([1.0, 1.0], [1.0, 0.0])
    assert two.cluster_index == [0, 0, 0, 0] and two.num_touches == 1
    assert (one.item_id, one.author_id) == ([100, 101, 0, 0], [10, 10, 0, 0])
    assert one.touch_embedding == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_touches_carry_contents_where_these_are_short_or_conf_says_so(night, spec):
    assert spec.touch_embeddings
    assert [carries_contents(None, length) for length in (0, 1, 32, 33)] == [False, True, True, False]
    assert [carries_contents(True, 500), carries_contents(False, 4), carries_contents(True, 0)] == [True, False, False]
    bare = features(*night, replace(spec, touch_embeddings=False)).first()
    assert bare.touch_embedding == [0.0]


def test_a_touch_of_an_item_without_content_carries_zeros(spark, night, spec):
    unknown = items(spark, [(100, 5, None)])
    rows = {r.user_id: r for r in features(night[0], night[1], unknown, spec).collect()}
    assert rows[1].touch_embedding == [0.0] * 8


def test_touches_know_how_often_training_saw_their_item_and_author(written, spark):
    rows = {r.user_id: r for r in spark.read.parquet(written).collect()}
    training = [r for r in rows.values() if not r.is_validation]
    first, second = len(training), sum(r.num_touches == 2 for r in training)
    assert 0 < len(training) < len(rows)
    assert rows[1].item_touches == [first, second, 0, 0] and rows[1].author_touches == [first + second] * 2 + [0, 0]
    assert rows[2].item_touches == [first, 0, 0, 0]


def test_a_matched_journey_carries_its_best_touch_and_upload(written, spark):
    rows = {r.user_id: r for r in spark.read.parquet(written).collect()}
    matched, other = rows[4], rows[5]
    assert (matched.match_position, matched.has_upload_embedding, matched.upload_embedding) == (0, 1, [1.0, 0.0])
    assert matched.match_score == pytest.approx(1.0) and len(matched.negative_cluster_index) == 2
    assert (other.match_position, other.has_upload_embedding, other.negative_cluster_index) == (-1, 0, [-1, -1])


def test_every_file_is_one_row_group_and_sizes_differ_by_at_most_one(written):
    footers = [pq.ParquetFile(p).metadata for p in sorted(storage.local_path(written).glob("*.parquet"))]
    assert [f.num_row_groups for f in footers] == [1, 1, 1, 1]
    sizes = [f.num_rows for f in footers]
    assert sum(sizes) == len(USERS) and max(sizes) - min(sizes) <= 1


def test_the_layout_shuffles_and_does_not_depend_on_the_input_order(spark):
    rows = spark.range(1000).withColumnRenamed("id", "journey_id")

    def files(df):
        return [[r.journey_id for r in part] for part in laid_out(df, 1000, 7, seed=1).rdd.glom().collect()]

    first = files(rows)
    assert sorted(len(f) for f in first) == [142] + [143] * 6
    assert sorted(itertools.chain(*first)) == list(range(1000)) and first[0] != sorted(first[0])
    assert files(rows.repartition(5, "journey_id")) == first


@pytest.mark.parametrize(
    ("rows", "wanted", "max_rows", "ranks", "groups"),
    [
        (1000, 16, 65_536, 2, 16),
        (1000, 15, 65_536, 2, 16),
        (10**6, 16, 1000, 3, 1002),
        (5, 16, 10, 2, 4),
        (1, 16, 10, 2, 2),
    ],
)
def test_row_groups_are_a_multiple_of_the_ranks(rows, wanted, max_rows, ranks, groups):
    assert num_groups(rows, wanted, max_rows, ranks) == groups


def test_journeys_and_propensities_of_different_runs_are_named(spark):
    """A rerun killed after it replaced the journeys: every table is there, but they do not fit."""
    orders = spark.range(29).withColumnRenamed("id", "_order")
    with pytest.raises(ValueError, match=r"training_examples: must have a row a journey, got 29 of 30.*run that night"):
        cut_points(orders, num_rows=30, groups=2)


def test_every_bin_knows_the_groups_before_it_and_the_cuts_inside_it():
    cuts = [-(2**63), -(2**62) - 1, -5, 0, 0, 7, 2**62, 2**63 - 1]
    slow = [(cut + 2**63 >> 33) * 64 >> 31 for cut in cuts]
    expected = [
        (b, sum(x < b for x in slow), [c for c, x in zip(cuts, slow, strict=True) if x == b]) for b in range(64)
    ]
    assert cuts_by_bin(cuts, 64) == expected
    assert cuts_by_bin([], 64) == [(b, 0, []) for b in range(64)]


@pytest.mark.timeout(60)
def test_bins_of_many_row_groups_take_time_in_proportion():
    """A loop over bins and cuts would need 6 x 10^9 steps here."""
    cuts = np.linspace(-(2**62), 2**62, 20_000).astype(np.int64).tolist()
    found = cuts_by_bin(cuts, 16 * len(cuts))
    assert [c for _, _, inside in found for c in inside] == cuts


def test_a_night_with_one_outcome_class_is_refused(spark, night, conf):
    nobody = journeys(spark, [journey(u, [touch(u, 100, 5)]) for u in USERS])
    with pytest.raises(ValueError, match=r"table journeys: training needs journeys with and without an upload, got 0"):
        build_spec(nobody, night[1], night[2], 2, conf)


def test_a_night_without_any_outcome_proxy_is_refused(spark, night, conf):
    rows = [journey(u, [touch(u, 100, 5)], [(u, None)] if u % 2 else [], proxies=()) for u in USERS]
    with pytest.raises(ValueError, match="table signals: no outcome proxy"):
        build_spec(journeys(spark, rows), night[1], night[2], 2, conf)


def test_the_spec_survives_json(spec):
    assert ExampleSpec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["base_rate"] == spec.base_rate


def test_contents_of_clusters_are_centred_and_scaled(spec):
    assert spec.clusters == (5, 6, 7)
    assert spec.cluster_contents == ((1.0, -1.0), (0.0, 0.0), (-1.0, 1.0))  # 6 has no item
    assert (spec.content_mean, spec.content_scale) == ((0.5, 0.5), 0.5)


def test_equal_contents_tell_clusters_nothing():
    assert centred_contents(np.ones((4, 2)), np.array([0, 0, 1, 2]), 3) == (((0.0, 0.0),) * 3, (1.0, 1.0), 1.0)
