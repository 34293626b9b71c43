"""A small night for the evaluation's tests: every table it reads, drawn with numpy, as Spark DataFrames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.baselines import heuristics
from almmta_spark.baselines import rows as baselines
from almmta_spark.causal import jackknife
from almmta_spark.config import EnsembleConfig
from almmta_spark.evaluation.stage import Inputs

DS = "2026-01-15"
INDEX_TS = datetime(2026, 1, 15, tzinfo=UTC)
CLUSTERS = 6
BUCKETS = 2
PLAN = EnsembleConfig(variants=("latent",), folds=2, repeats=3)


def half_width(member_MX: np.ndarray, centre_X: np.ndarray, chance_X: np.ndarray) -> np.ndarray:
    """Of the night's intervals."""
    unseen = PLAN.unseen_effect * chance_X
    return jackknife.half_width(member_MX, centre_X, PLAN.folds, 0.95, PLAN.shared_error, unseen)


def frame(spark: SparkSession, table: tables.Table, rows: list[dict]) -> DataFrame:
    """Rows with the columns given, in the table's types; the others are left out."""
    names = list(rows[0])
    ddl = ", ".join(f"{c.name} {c.type}" for c in table.columns if c.name in names)
    ordered = [c.name for c in table.columns if c.name in names]
    return spark.createDataFrame([tuple(row[n] for n in ordered) for row in rows], ddl)


def decided(spark: SparkSession, rows: list[dict]) -> DataFrame:
    """Accepted decisions, with cluster and ds."""
    names = [*tables.WITHHOLDINGS.column_names, "cluster", "ds"]
    ddl = ", ".join([*(f"{c.name} {c.type}" for c in tables.WITHHOLDINGS.columns), "cluster int", "ds string"])
    return spark.createDataFrame([tuple(row[n] for n in names) for row in rows], ddl)


def touch(touch_id: int, cluster: int, at: datetime) -> dict:
    """A journey's touch: one item a cluster, two authors."""
    return {
        "touch_id": touch_id,
        "item_id": 100 * cluster,
        "author_id": 7 + cluster % 2,
        "cluster": cluster,
        "touch_ts": at,
        "age_hours": (INDEX_TS - at).total_seconds() / 3600,
    }


@dataclass
class Night:
    inputs: Inputs
    touches: pd.DataFrame
    """Local copy: user_id, journey_id, touch_id, cluster, propensity_bucket, outcome, ett, ate_x, truth, latent,
    members (effects by each of PLAN's fits)."""
    pairs: pd.DataFrame
    """Local copy of the propensities, a row a pair: user_id, fold, covariate, cluster, bucket, exposed, weight,
    outcome."""
    decisions: pd.DataFrame
    """Local copy: user_id, cluster, bucket, kept, weight, outcome."""


def build(spark: SparkSession, num_users: int = 300, seed: int = 0) -> Night:
    rng = np.random.default_rng(seed)
    users = list(range(1000, 1000 + num_users))
    ids = spark.createDataFrame([(u,) for u in users], "user_id bigint").select(
        "user_id", F.xxhash64("user_id", F.lit(DS)).alias("journey_id")
    )
    journey_of = {r.user_id: r.journey_id for r in ids.collect()}
    journeys, propensities, truth, scores, withholdings, uploads, touches, pairs, decisions = ([] for _ in range(9))
    touch_id = 10**6
    member_errors = rng.normal(0, 0.02, (PLAN.members, CLUSTERS)).astype(np.float32)  # shared by a cluster's touches
    for user in users:
        journey = journey_of[user]
        num_drawn = int(rng.integers(1, 5))
        clusters = [int(c) for c in rng.integers(0, CLUSTERS, num_drawn)]
        p = np.round(0.1 + 0.8 * rng.random(CLUSTERS), 3)
        bucket = (p > 0.5).astype(int).tolist()
        weight = np.round(0.5 + rng.random(CLUSTERS), 3)
        outcome = int(rng.random() < 0.3)
        in_experiment = rng.random() < 0.5
        withheld = bool(in_experiment and rng.random() < 0.5)
        drawn = int(rng.integers(0, num_drawn))
        shown = [k for k in range(num_drawn) if not (withheld and k == drawn)]
        exposed = [c in {clusters[k] for k in shown} for c in range(CLUSTERS)]
        when = [INDEX_TS - timedelta(hours=20 - 4 * k) for k in range(num_drawn)]
        rows = []
        for k in shown:
            touch_id += 1
            rows.append(touch(touch_id, clusters[k], when[k]))
            effect = round(float(0.02 * clusters[k] + 0.01 * rng.random()), 6)
            touches.append(
                {
                    "user_id": user,
                    "journey_id": journey,
                    "touch_id": touch_id,
                    "cluster": clusters[k],
                    "propensity_bucket": bucket[clusters[k]],
                    "outcome": outcome,
                    "ett": effect,
                    "ate_x": effect / 2,
                    "truth": not in_experiment,
                    "latent": round(effect + float(rng.normal(0, 0.01)), 6),
                }
            )
            touches[-1]["members"] = (touches[-1]["latent"] + member_errors[:, clusters[k]]).tolist()
        if shown:
            journeys.append(
                {
                    "journey_id": journey,
                    "user_id": user,
                    "touches": rows,
                    "covariates": [float(user % 7)],
                    "outcome": outcome,
                    "intent_proxies": [{"signal": "search", "value": float(user % 3)}] if user % 3 else [],
                }
            )
            scores.append(
                {
                    "journey_id": journey,
                    "user_id": user,
                    "method": "latent",
                    "outcome": outcome,
                    "is_validation": int(user % 4 == 0),
                    "p_outcome": round(float(0.05 + 0.5 * rng.random()), 4),
                    "p_do": None,
                    "posterior_mean": float(rng.normal()),
                    "mediator_overlap": round(float(0.4 + 0.6 * rng.random()), 3),
                    "leak_gain": None,
                    "mu": float(rng.normal()),
                    "g0": float(rng.normal(-3, 1)),
                    "slope": float(0.5 + rng.random()),
                    "sample": "logged",
                }
            )
        propensities.append(
            {
                "journey_id": journey,
                "user_id": user,
                "fold": user % 2,
                "cluster": list(range(CLUSTERS)),
                "exposed": exposed,
                "propensity": p.tolist(),
                "propensity_bucket": bucket,
                "stabilized_weight": weight.tolist(),
            }
        )
        if shown:
            for c in range(CLUSTERS):
                pairs.append(
                    {
                        "user_id": user,
                        "fold": user % 2,
                        "covariate": float(user % 7),
                        "cluster": c,
                        "bucket": bucket[c],
                        "exposed": exposed[c],
                        "weight": float(np.float32(weight[c])),
                        "outcome": outcome,
                    }
                )
        if in_experiment:
            decision = {
                "user_id": user,
                "item_id": 100 * clusters[drawn],
                "event_ts": when[drawn],
                "withheld": withheld,
            }
            withholdings.append(decision | {"p_withheld": None, "cluster": clusters[drawn], "ds": DS})
            decisions.append(
                {
                    "user_id": user,
                    "cluster": clusters[drawn],
                    "bucket": bucket[clusters[drawn]],
                    "kept": not withheld,
                    "weight": num_drawn / 0.5,
                    "outcome": outcome,
                }
            )
        if outcome:
            uploads.append((user, DS))
    local = pd.DataFrame(touches)
    journeys_frame = frame(spark, tables.JOURNEYS, journeys)
    propensities_frame = frame(spark, tables.PROPENSITIES, propensities)
    rules = baselines.attribution(
        journeys_frame, propensities_frame, [heuristics.claim(method, 6.0) for method in ("last_touch", "linear")]
    )
    local["chance"] = 0.1 + local.latent.abs()
    half = half_width(np.array(local.members.tolist()).T, local.latent, local.chance)
    shown = local.assign(lower=local.latent - half, upper=local.latent + half)
    ddl = "touch_id bigint, latent double, chance double, members array<float>, lower double, upper double"
    latent = spark.createDataFrame(shown[["touch_id", "latent", "chance", "members", "lower", "upper"]], ddl)
    ours = (
        rules.where("method = 'linear'")
        .join(latent, "touch_id")
        .withColumns({"method": F.lit("latent"), "removal_effect": F.col("latent"), "model_version": F.lit("v1")})
        .withColumn("p_outcome", F.col("chance"))
        .withColumns({"credit": F.greatest("removal_effect", F.lit(0.0)), "removal_effect_ate": F.col("latent") / 2})
        .withColumns({f"removal_effect_{name}": F.col(name) for name in ("lower", "upper", "members")})
        .select(*rules.columns)
    )
    for row in local[local.truth].itertuples():
        truth.append({"user_id": row.user_id, "touch_id": row.touch_id, "ett": row.ett, "ate_x": row.ate_x})
    inputs = Inputs(
        attribution=rules.unionByName(ours).localCheckpoint(),
        journeys=journeys_frame,
        propensities=propensities_frame,
        journey_scores=frame(spark, tables.JOURNEY_SCORES, scores),
        decisions=decided(spark, withholdings),
        uploads=spark.createDataFrame(uploads, "user_id bigint, ds string"),
        truth=frame(spark, tables.TRUTH_ATTRIBUTION, truth),
        truth_clusters=frame(
            spark, tables.TRUTH_CLUSTERS, [{"cluster": c, "strength": float(c > 0)} for c in range(CLUSTERS)]
        ),
    )
    return Night(inputs, local, pd.DataFrame(pairs), pd.DataFrame(decisions))
