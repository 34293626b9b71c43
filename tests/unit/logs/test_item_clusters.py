"""Treatment clusters: given, fitted, or the nearest of the given ones."""

from dataclasses import replace

import numpy as np
import pytest

from almmta_spark.config import IngestConfig, PropensityConfig
from almmta_spark.logs.clusters import kmeans
from almmta_spark.logs.ingest import ingest
from tests.hand_made import CONF, DS, before, logs, on_its_day

TOUCH = on_its_day(1, 0, before(3))
TWO = replace(CONF, propensity=PropensityConfig(num_clusters=2), ingest=IngestConfig(max_rejected_rate=0.5))


def around(center: float, n: int, first: int, cluster: int | None) -> list[tuple]:
    return [(first + i, 1, cluster, [center + 0.01 * i, -center]) for i in range(n)]


def clusters(ingested) -> dict[int, int]:
    return {r.item_id: r.cluster for r in ingested.item_clusters.collect()}


def test_items_without_clusters_are_grouped_by_content_whatever_their_order(spark):
    items = around(1.0, 6, 0, None) + around(5.0, 6, 100, None)
    night = logs(spark, exposures=[TOUCH], items=items)
    found = clusters(ingest(night, DS, TWO))
    assert len({found[i] for i in range(6)}) == len({found[100 + i] for i in range(6)}) == 1
    assert set(found.values()) == {0, 1}
    shuffled = replace(night, items=night.items.repartition(5, "embedding"))
    assert clusters(ingest(shuffled, DS, TWO)) == found


def test_items_without_a_cluster_join_the_nearest_given_one(spark):
    items = around(1.0, 3, 0, -7) + around(5.0, 3, 100, 40) + [(8, 1, None, [4.0, -4.5]), (9, 1, None, None)]
    ingested = ingest(logs(spark, exposures=[TOUCH], items=items), DS, TWO)
    found = clusters(ingested)
    assert (found[0], found[100], found[8], 9 in found) == (-7, 40, 40, False)
    assert ingested.summary.clusters == "nearest"
    assert ingested.summary.accounts["items"].rejected == {"neither_cluster_nor_embedding": 1}


def test_equal_embeddings_cannot_be_clustered(spark):
    items = [(i, 1, None, [1.0, 2.0]) for i in range(5)]
    with pytest.raises(ValueError, match=r"1 distinct contents cannot make propensity\.num_clusters = 2"):
        ingest(logs(spark, exposures=[TOUCH], items=items), DS, TWO)


def test_clusters_fitted_anew_each_night_cannot_be_pooled(spark):
    night = logs(spark, exposures=[TOUCH], items=around(1.0, 3, 0, None) + around(5.0, 3, 100, None))
    with pytest.raises(ValueError, match=r"pool_nights = 2.*write items\.cluster"):
        ingest(night, DS, replace(TWO, pool_nights=2))


def test_kmeans_recovers_separated_groups_and_repeats_itself():
    random = np.random.default_rng(3)
    center_KE = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x_NE = np.concatenate([c + random.normal(size=(50, 2)) for c in center_KE])
    found_KE = kmeans(x_NE, 3, seed=1)
    assert np.allclose(found_KE, center_KE[[0, 2, 1]], atol=0.6)
    assert np.array_equal(found_KE, kmeans(x_NE, 3, seed=1))
