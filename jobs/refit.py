"""Further fits of a night: other seeds, other settings, other nights' examples, and their effects on one sample.

Not a stage of the night: studies (jobs/truth.py, jobs/figures.py) ask for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.inference.few import FewJourneys
from almmta_spark.study.effects import Floats, Ints
from almmta_spark.study.specs import Spec
from jobs import train

SAMPLE_USERS = 10_000
_SHARES = 1_000_000


@dataclass(frozen=True)
class Fit:
    """One model: what is fitted, on which night's examples, with which seed."""

    spec: Spec
    examples: Config
    """Settings of the warehouse that holds the training examples."""
    ds: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.spec.name}@{Path(self.examples.warehouse).name}@{self.seed}"


def fit(spark: SparkSession, home: str, fits: Sequence[Fit]) -> list[train.FitResult]:
    """Trains what has not been trained yet, all in one set of processes; the models lie under the folder home."""
    requests = [request(spark, one, storage.join(home, re.sub(r"[^\w.=@-]", "_", one.name))) for one in fits]
    return train.fit(spark, requests, fits[0].spec.training) if requests else []


def request(spark: SparkSession, one: Fit, output_dir: str) -> train.FitRequest:
    """What training is asked for to make one fit."""
    where = (spark, one.examples, tables.TRAINING_EXAMPLES, one.ds)
    url, spec = spark_tables.path(*where), ExampleSpec.from_dict(spark_tables.meta(*where)["spec"])
    chosen = one.spec
    return train.FitRequest(url, spec, chosen.model, chosen.training, chosen.variant, one.seed, output_dir)


@dataclass(frozen=True)
class Sample:
    """Touches with known effects, of whole journeys: journeys ascending, touches oldest first."""

    few: FewJourneys
    journey_N: Ints
    cluster_N: Ints
    bucket_N: Ints
    ett_N: Floats
    _known_N: NDArray[np.bool_]

    @property
    def group_N(self) -> Ints:
        """(bucket, cluster) as one number."""
        return self.bucket_N * (self.cluster_N.max() + 1) + self.cluster_N

    def effects(self, folder: str) -> Floats:
        """The effects of these touches by the model in a folder."""
        return self.few.effects(folder)[self._known_N]


def sample(spark: SparkSession, conf: Config, ds: str, num_users: int = SAMPLE_USERS) -> Sample:
    """A hash sample of about num_users users of truth_attribution. Cost: three scans; collects their touches."""
    truth = spark_tables.read_day(spark, conf, tables.TRUTH_ATTRIBUTION, ds)
    draw = F.pmod(F.xxhash64(F.lit(conf.seed), F.lit("sample"), "user_id"), F.lit(_SHARES))
    share = num_users / max(conf.simulator.num_users * conf.simulator.truth_share, 1)
    users = truth.where(draw < F.lit(int(share * _SHARES))).select("user_id").distinct()
    journeys, propensities = (
        spark_tables.read(spark, conf, table, ds).join(users, "user_id", "left_semi").persist()
        for table in (tables.JOURNEYS, tables.PROPENSITIES)
    )
    rows: pd.DataFrame = _touches(journeys, propensities, truth).toPandas()
    known = rows[rows.ett.notna()]
    return Sample(
        FewJourneys(journeys, propensities, spark_tables.read(spark, conf, tables.ITEM_CLUSTERS, ds)),
        known.journey_id.to_numpy(),
        known.cluster.to_numpy(np.int64),
        known.bucket.to_numpy(np.int64),
        known.ett.to_numpy(np.float64),
        rows.ett.notna().to_numpy(),
    )


def _touches(journeys: DataFrame, propensities: DataFrame, truth: DataFrame) -> DataFrame:
    """journey_id, cluster, bucket and ett (null where unknown) of every touch."""
    buckets = propensities.select("journey_id", F.map_from_arrays("cluster", "propensity_bucket").alias("buckets"))
    touches = journeys.select("journey_id", "user_id", F.posexplode("touches").alias("position", "touch"))
    return (
        touches.join(buckets, "journey_id")
        .select(
            "journey_id",
            "user_id",
            "position",
            F.col("touch.touch_id").alias("touch_id"),
            F.col("touch.cluster").alias("cluster"),
            F.element_at("buckets", F.col("touch.cluster")).alias("bucket"),
        )
        .join(truth, ["user_id", "touch_id"], "left")
        .orderBy("journey_id", "position")
        .select("journey_id", "cluster", "bucket", "ett")
    )
