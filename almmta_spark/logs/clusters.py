"""Treatment clusters of items: as given, else k-means of the contents, else the nearest centroid of the given ones.

N items, E content, K clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.logs.arrays import matrix

GIVEN, FITTED, NEAREST = "given", "fitted", "nearest"
SAMPLE_ITEMS = 50_000
"""Items (the first by hash) that centroids are computed from."""
_ITERATIONS = 50

Array = NDArray[np.float64]


def assign(items: DataFrame, how: str, num_clusters: int, seed: int) -> DataFrame:
    """Items with no null cluster, as item_clusters.

    Cost: none for GIVEN; else one scan of items for a bounded sample (SAMPLE_ITEMS rows on the driver) and one pass
    through Python, the result kept in Spark's cache since ingest looks items up several times; the caller unpersists.
    """
    if how == GIVEN:
        return items.select(*tables.ITEM_CLUSTERS.column_names)
    label_K, centroid_KE = _centroids(items, how, num_clusters, seed)

    def nearest(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _with_nearest(batch, label_K, centroid_KE)

    columns = items.select(*tables.ITEM_CLUSTERS.column_names)
    return columns.mapInArrow(nearest, columns.schema).persist()


def kmeans(x_NE: Array, num_clusters: int, seed: int) -> Array:
    """Lloyd's algorithm from k-means++ (Arthur & Vassilvitskii 2007) -> [K, E], sorted, so that labels are stable.

    ValueError: fewer distinct contents than clusters (constant embeddings among them).
    """
    distinct = len(np.unique(x_NE, axis=0))
    if distinct < num_clusters:
        raise ValueError(
            f"items.embedding: {distinct} distinct contents cannot make propensity.num_clusters = {num_clusters} "
            "clusters: give items.cluster, write embeddings that differ, or lower the number"
        )
    centroid_KE = _spread_out(x_NE, num_clusters, np.random.default_rng(seed))
    for _ in range(_ITERATIONS):
        nearest_N, distance_N = _nearest(x_NE, centroid_KE)
        moved_KE = _means(x_NE, nearest_N, num_clusters)
        for k in np.flatnonzero(np.isnan(moved_KE[:, 0])):  # an emptied cluster restarts at the worst-served item
            worst = int(distance_N.argmax())
            moved_KE[k], distance_N[worst] = x_NE[worst], 0.0
        if np.array_equal(moved_KE, centroid_KE):
            break
        centroid_KE = moved_KE
    return np.asarray(centroid_KE[np.lexsort(centroid_KE.T[::-1])])


def _centroids(items: DataFrame, how: str, num_clusters: int, seed: int) -> tuple[NDArray[np.int32], Array]:
    """Labels [K] and centroids [K, E] from the bounded sample."""
    known = F.col("embedding").isNotNull() & (F.lit(True) if how == FITTED else F.col("cluster").isNotNull())
    order = [F.xxhash64(F.lit(seed), F.lit("clusters"), "item_id"), F.col("item_id")]
    sample = items.where(known).orderBy(*order).limit(SAMPLE_ITEMS).select("cluster", "embedding").toArrow()
    if not sample.num_rows:
        whose = "every item" if how == FITTED else "every item that has a cluster"
        raise ValueError(
            f"items.embedding is null for {whose}, so clusters of the others can be neither fitted nor found by the "
            "nearest: write items.cluster (any ints) for all items, or embeddings"
        )
    x_NE = matrix(sample.column("embedding").combine_chunks()).astype(np.float64)
    if how == FITTED:
        return np.arange(num_clusters, dtype=np.int32), kmeans(x_NE, num_clusters, seed)
    label_K, index_N = np.unique(sample.column("cluster").to_numpy(), return_inverse=True)
    return label_K.astype(np.int32), _means(x_NE, index_N, len(label_K))


def _with_nearest(batch: pa.RecordBatch, label_K: NDArray[np.int32], centroid_KE: Array) -> pa.RecordBatch:
    """Null clusters become the nearest centroid's label."""
    cluster = batch.column("cluster")
    missing_N = cluster.is_null().to_numpy(zero_copy_only=False)
    label_N = cluster.fill_null(0).to_numpy(zero_copy_only=False).copy()
    if missing_N.any():
        x_NE = matrix(batch.column("embedding").filter(pa.array(missing_N))).astype(np.float64)
        distance_NK = np.zeros((len(x_NE), len(centroid_KE)))
        for e in range(x_NE.shape[1]):  # sums one term at a time: the same bits whatever the batch
            distance_NK += (x_NE[:, e, None] - centroid_KE[None, :, e]) ** 2
        label_N[missing_N] = label_K[distance_NK.argmin(axis=1)]
    columns = {name: batch.column(name) for name in batch.schema.names}
    return pa.RecordBatch.from_pydict({**columns, "cluster": pa.array(label_N, pa.int32())})


def _spread_out(x_NE: Array, num_clusters: int, random: np.random.Generator) -> Array:
    """k-means++: each next centroid is an item drawn with probability proportional to its squared distance."""
    chosen = [int(random.integers(len(x_NE)))]
    distance_N = np.full(len(x_NE), np.inf)
    while len(chosen) < num_clusters:
        distance_N = np.minimum(distance_N, ((x_NE - x_NE[chosen[-1]]) ** 2).sum(axis=1))
        cumulative_N = np.cumsum(distance_N)
        draw = random.random() * cumulative_N[-1]
        chosen.append(int(min(np.searchsorted(cumulative_N, draw, side="right"), len(x_NE) - 1)))
    return x_NE[chosen]


def _nearest(x_NE: Array, centroid_KE: Array) -> tuple[NDArray[np.int64], Array]:
    """Index of the nearest centroid and the squared distance to it."""
    squares_NK = (centroid_KE**2).sum(axis=1) - 2 * (x_NE @ centroid_KE.T)
    nearest_N = squares_NK.argmin(axis=1)
    return nearest_N, squares_NK[np.arange(len(x_NE)), nearest_N] + (x_NE**2).sum(axis=1)


def _means(x_NE: Array, index_N: NDArray[np.int64], num_groups: int) -> Array:
    """Mean of each group; NaN where it has no item."""
    count_K = np.bincount(index_N, minlength=num_groups).astype(float)
    sums = [np.bincount(index_N, weights=x_NE[:, e], minlength=num_groups) for e in range(x_NE.shape[1])]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(sums, axis=1) / count_K[:, None]
