"""Our pairs, inside journeys and exact, beside Spark ML's random projections over all contents.

What is compared: (touch, upload) pairs of one journey whose cosine similarity reaches the night's threshold t. Ours
scores every pair inside a journey. The alternative, BucketedRandomProjectionLSH, finds (item, upload) pairs within
Euclidean distance sqrt(2 - 2t) of each other on the same contents scaled to length 1, over all items and uploads, and
is then joined with the pairs inside journeys. It is given each item once, not every touch of it: its cheapest form.
"""

from __future__ import annotations

import math

from pyspark.ml.feature import BucketedRandomProjectionLSH, Normalizer
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from almmta_spark import runner, spark_tables, tables
from almmta_spark.config import Config
from almmta_spark.pairs.match import high_match, match_scores
from tests.bench.measure import DS, Record, seconds_of, settings

SETTINGS = ((0.5, 2), (1.0, 2), (2.0, 3))
"""(bucket length as a multiple of the distance, hash tables): from coarse and quick to dear."""
_PARTS = 1_000_000


def compare(work: str, name: str, size: int, max_uploads: int) -> Record:
    """Ours on all journeys; ours and LSH on the same journeys with an upload, at most about max_uploads of them."""
    conf = settings(work, name, size)
    spark = runner.session(conf, "bench")
    folder = f"{work}/{name}/pairs"
    journeys = spark_tables.read(spark, conf, tables.JOURNEYS, DS)
    items = spark_tables.read(spark, conf, tables.ITEM_CLUSTERS, DS)
    share, uploads = _write_sample(journeys, conf.seed, max_uploads, f"{folder}/sample")
    sample = spark.read.parquet(f"{folder}/sample")
    _ours(sample.limit(200), items, conf, f"{folder}/warm-up")  # the JVM's first time is not ours
    everywhere = _ours(journeys, items, conf, f"{folder}/all")
    ours = _ours(sample, items, conf, f"{folder}/ours")
    distance = math.sqrt(max(0.0, 2 - 2 * ours["threshold"]))
    _lsh(spark, sample.limit(200), items, distance, (1.0, 1), f"{folder}/warm-up")
    found = []
    for setting in SETTINGS:
        record = _lsh(spark, sample, items, distance, setting, f"{folder}/lsh")
        record["recall"] = _recall(spark, f"{folder}/ours", f"{folder}/lsh")
        runner.log.info("  LSH, bucket %.2f, %d tables: recall %.3f", *setting, record["recall"])
        found.append(record)
    contents = items.where("embedding is not null").agg(F.count(F.lit(1)), F.max(F.size("embedding"))).first()
    assert contents is not None
    sampled = {"share": share, "journeys": sample.count(), "uploads": uploads}
    sampled |= {"items": contents[0], "content_length": contents[1]}
    return {"all_journeys": everywhere, "sample": sampled, "ours": ours, "distance": distance, "lsh": found}


def _write_sample(journeys: DataFrame, seed: int, max_uploads: int, target: str) -> tuple[float, int]:
    """Journeys with an upload that has content, by hash where there are too many; (share taken, uploads)."""
    embedded = F.filter("uploads", lambda upload: upload["embedding"].isNotNull())
    rows = journeys.withColumn("uploads", embedded).where(F.size("uploads") > 0)
    total = rows.agg(F.coalesce(F.sum(F.size("uploads")), F.lit(0)).alias("n")).first()
    assert total is not None
    share = min(1.0, max_uploads / max(total["n"], 1))
    part = F.pmod(F.xxhash64(F.lit(seed), F.lit("bench"), "journey_id"), F.lit(_PARTS))
    seen = Observation()
    counted = rows.where(part < round(share * _PARTS)).observe(seen, F.sum(F.size("uploads")).alias("uploads"))
    counted.select("journey_id", "user_id", "touches", "uploads").write.mode("overwrite").parquet(target)
    return share, int(seen.get["uploads"] or 0)


def _ours(journeys: DataFrame, items: DataFrame, conf: Config, target: str) -> Record:
    """Scores, threshold and all pairs from the threshold on, as the stage computes them; the pairs are written."""
    facts: Record = {}

    def run() -> None:
        scores = match_scores(journeys, items)
        chosen = high_match(scores, conf.pairs)
        facts.update(threshold=chosen.threshold, scored=chosen.num_scored)
        high = scores.where(F.col("match_score") >= chosen.threshold).select("upload_id", "touch_id")
        high.write.mode("overwrite").parquet(target)

    seconds = seconds_of(run)
    found = journeys.sparkSession.read.parquet(target).count()
    facts.update(found=found, seconds=round(seconds, 3), scored_per_second=round(facts["scored"] / seconds))
    return facts | {"found_per_second": round(found / seconds)}


def _lsh(
    spark: SparkSession, journeys: DataFrame, items: DataFrame, distance: float, setting: tuple[float, int], target: str
) -> Record:
    """All approximate (item, upload) matches, then those inside a journey, written."""
    uploads = journeys.select("journey_id", "touches", F.explode("uploads").alias("upload"))
    contents = _unit(items.where("embedding is not null").select("item_id", "embedding"))
    works = _unit(uploads.select("upload.upload_id", "upload.embedding"))
    multiple, num_tables = setting
    lsh = BucketedRandomProjectionLSH(
        inputCol="content", outputCol="hashes", seed=0, bucketLength=multiple * distance, numHashTables=num_tables
    )
    everywhere = Observation()

    def run() -> None:
        model = lsh.fit(contents)
        joined = model.approxSimilarityJoin(contents, works, distance + 1e-6, "distance")
        matches = joined.select("datasetA.item_id", "datasetB.upload_id")
        counted = matches.observe(everywhere, F.count(F.lit(1)).alias("n"))
        touches = uploads.select(F.col("upload.upload_id").alias("upload_id"), F.explode("touches").alias("touch"))
        inside = touches.select("upload_id", "touch.item_id", "touch.touch_id").join(counted, ["upload_id", "item_id"])
        inside.select("upload_id", "touch_id").write.mode("overwrite").parquet(target)

    seconds = seconds_of(run)
    found = spark.read.parquet(target).count()
    return {
        "bucket_length": round(multiple * distance, 4),
        "hash_tables": num_tables,
        "seconds": round(seconds, 3),
        "matches_everywhere": int(everywhere.get["n"]),
        "found": found,
        "found_per_second": round(found / seconds),
    }


def _unit(contents: DataFrame) -> DataFrame:
    """(id, embedding) as (id, content): vectors of length 1."""
    key = contents.columns[0]
    vectors = contents.select(key, array_to_vector(F.col("embedding")).alias("raw"))
    return Normalizer(inputCol="raw", outputCol="content", p=2.0).transform(vectors).select(key, "content")


def _recall(spark: SparkSession, exact: str, approximate: str) -> float:
    """Share of the exact pairs that the approximate ones hold."""
    ours = spark.read.parquet(exact)
    theirs = spark.read.parquet(approximate).select("upload_id", "touch_id").distinct()
    total = ours.count()
    return round(ours.join(theirs, ["upload_id", "touch_id"]).count() / total, 4) if total else math.nan
