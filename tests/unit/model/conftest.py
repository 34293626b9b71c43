"""A tiny night: five clusters, six journeys, one of them without a touch."""

from __future__ import annotations

import numpy as np
import pytest

from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.model import Batch

SPEC = ExampleSpec(
    clusters=(10, 11, 12, 13, 14),
    max_touchpoints=6,
    outcome_proxies=(Signal("camera", "binary"), Signal("anchor", "binary", anchor=True), Signal("draft", "count")),
    intent_proxies=(Signal("search", "binary"),),
    covariate_mean=(0.0, 0.0, 0.0),
    covariate_scale=(1.0, 1.0, 1.0),
    embedding_length=4,
    num_hard_negatives=2,
    touch_embeddings=False,
    num_buckets=3,
    num_training=6,
    num_validation=0,
    base_rate=0.03,
    cluster_contents=tuple(tuple(np.sin(np.arange(4) + 3 * k)) for k in range(5)),
    content_mean=(0.1, -0.2, 0.0, 0.3),
    content_scale=1.5,
)


def make_columns(seed: int = 0, num_rows: int = 6) -> dict[str, np.ndarray]:
    g = np.random.default_rng(seed)
    counts = np.arange(num_rows) % 6
    rows, length = num_rows, SPEC.max_touchpoints
    outcome = np.arange(rows) % 2
    matched = (outcome == 1) & (counts > 0)
    return {
        "journey_id": g.integers(-(2**62), 2**62, rows),
        "outcome": outcome.astype(np.float32),
        "outcome_proxies": np.stack([outcome, 1 - outcome, g.poisson(1.0, rows)], 1).astype(np.float32),
        "intent_proxies": g.integers(0, 2, (rows, 1)).astype(np.float32),
        "covariates": g.standard_normal((rows, 3)).astype(np.float32),
        "num_touches": counts.astype(np.int32),
        "cluster_index": g.integers(0, 5, (rows, length)).astype(np.int32),
        "item_id": g.integers(1, 100, (rows, length)),
        "author_id": g.integers(1, 9, (rows, length)),
        "item_touches": g.integers(1, 4, (rows, length)).astype(np.int32),
        "author_touches": g.integers(4, 9, (rows, length)).astype(np.int32),
        "age_hours": g.uniform(0.1, 24, (rows, length)).astype(np.float32),
        "propensity_bucket": g.integers(0, 3, (rows, length)).astype(np.int32),
        "touch_weight": g.uniform(0.5, 2, (rows, length)).astype(np.float32),
        "touch_embedding": g.standard_normal((rows, length * 4)).astype(np.float32),
        "match_position": np.where(matched, 0, -1).astype(np.int32),
        "match_score": matched.astype(np.float32),
        "has_upload_embedding": matched.astype(np.int32),
        "upload_embedding": g.standard_normal((rows, 4)).astype(np.float32),
        "negative_cluster_index": np.where(matched[:, None], g.integers(0, 5, (rows, 2)), -1).astype(np.int32),
    }


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return make_columns()


@pytest.fixture
def batch(columns: dict[str, np.ndarray]) -> Batch:
    return Batch.from_columns(columns, SPEC)
