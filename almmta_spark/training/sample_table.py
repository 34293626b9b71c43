"""A small training table with a known mechanism, for checks of the machinery: GPU against CPU, speed, tests.

Not the simulator: no logs, no truth, only rows laid out as training_examples with a mediator, a hidden confounder, four
proxies, two intents and upload contents. N rows, L touchpoints, K clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from almmta_spark import tables
from almmta_spark.example_spec import ExampleSpec, Signal

NUM_CLUSTERS, NUM_COVARIATES, CONTENT, NUM_BUCKETS, NUM_NEGATIVES = 12, 4, 4, 5, 4
PROXIES = (*(Signal(f"proxy_{i}", "binary") for i in range(3)), Signal("proxy_count", "count"))
INTENTS = tuple(Signal(f"intent_{i}", "binary") for i in range(2))
_ARROW = {"bigint": pa.int64(), "int": pa.int32(), "float": pa.float32()}


def write(
    folder: Path, num_rows: int, row_group_sizes: Sequence[int] | None = None, max_touchpoints: int = 12, seed: int = 0
) -> ExampleSpec:
    """Write two Parquet files of training_examples rows; their spec. Default: 8 row groups of almost equal size."""
    columns = _columns(num_rows, max_touchpoints, np.random.default_rng(seed))
    table = pa.table({c.name: _arrow(columns[c.name], c.type) for c in tables.TRAINING_EXAMPLES.columns})
    sizes = list(row_group_sizes or [len(part) for part in np.array_split(np.arange(num_rows), min(8, num_rows))])
    assert sum(sizes) == num_rows, "row_group_sizes must add up to num_rows"
    folder.mkdir(parents=True, exist_ok=True)
    starts = np.cumsum([0, *sizes])
    half = (len(sizes) + 1) // 2
    for number, groups in enumerate((range(half), range(half, len(sizes)))):
        if groups:
            with pq.ParquetWriter(folder / f"part-{number:05d}.parquet", table.schema) as writer:
                for g in groups:
                    writer.write_table(table.slice(starts[g], sizes[g]), row_group_size=max(1, sizes[g]))
    return _spec(columns, max_touchpoints)


def _columns(num_rows: int, length: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    x_ND = rng.normal(size=(num_rows, NUM_COVARIATES))
    hidden_N = 0.3 * x_ND[:, 0] + rng.normal(size=num_rows)
    strength_K = np.maximum(0, rng.normal(0.4, 0.8, NUM_CLUSTERS))
    taste_KD = rng.normal(size=(NUM_CLUSTERS, NUM_COVARIATES))
    served_K = rng.normal(size=NUM_CLUSTERS)
    count_N = rng.integers(1, length + 1, num_rows)
    real_NL = np.arange(length) < count_N[:, None]
    score_NK = 0.5 * x_ND @ taste_KD.T + 0.6 * hidden_N[:, None] * served_K
    cluster_NL = np.argmax(score_NK[:, None] + rng.gumbel(size=(num_rows, length, NUM_CLUSTERS)), 2)
    age_NL = -np.sort(-rng.uniform(0.1, 24, (num_rows, length)), 1)
    stimulus_NL = real_NL * strength_K[cluster_NL] * 2 / (1 + np.exp(-x_ND[:, :1])) * 0.93**age_NL
    mediator_N = 1.4 * np.log1p(stimulus_NL.sum(1)) + 0.3 * x_ND[:, 1] - 1 + 0.8 * rng.normal(size=num_rows)
    outcome_N = rng.random(num_rows) < 1 / (1 + np.exp(3.2 - 1.1 * mediator_N - hidden_N))
    proxy_NJ = rng.random((num_rows, 3)) < 1 / (1 + np.exp([2.2, 1.6, 2.6] - np.outer(mediator_N, [1, 0.8, 1.1])))
    count_proxy_N = np.minimum(rng.poisson(np.exp(-1.4 + 0.6 * mediator_N)), 6)
    intent_NZ = rng.random((num_rows, 2)) < 1 / (1 + np.exp([1.0, 1.5] - np.outer(hidden_N, [1, 0.9])))
    match_N = np.where(outcome_N, np.argmax(stimulus_NL, 1), -1)
    content_KE = rng.normal(size=(NUM_CLUSTERS, CONTENT))
    matched_N = cluster_NL[np.arange(num_rows), np.maximum(match_N, 0)]
    upload_NE = content_KE[matched_N] + 0.3 * rng.normal(size=(num_rows, CONTENT))
    journey_id_N = rng.permutation(num_rows) * 7_919 - 3 * num_rows
    held_out_N = rng.random(num_rows) < 0.1
    item_NL = 100 * cluster_NL + rng.integers(0, 20, cluster_NL.shape)
    return {
        "journey_id": journey_id_N,
        "user_id": np.arange(num_rows),
        "is_validation": held_out_N,
        "outcome": outcome_N,
        "outcome_proxies": np.column_stack([proxy_NJ, count_proxy_N]),
        "intent_proxies": intent_NZ,
        "covariates": x_ND,
        "num_touches": count_N,
        "cluster_index": real_NL * cluster_NL,
        "item_id": real_NL * item_NL,
        "author_id": real_NL * (item_NL // 5),
        "item_touches": real_NL * np.bincount(item_NL[real_NL], minlength=2000)[item_NL],
        "author_touches": real_NL * np.bincount(item_NL[real_NL] // 5, minlength=2000)[item_NL // 5],
        "age_hours": real_NL * age_NL,
        "propensity_bucket": real_NL * rng.integers(0, NUM_BUCKETS, cluster_NL.shape),
        "touch_weight": real_NL * rng.uniform(0.5, 2, cluster_NL.shape),
        "match_position": match_N,
        "match_score": np.where(outcome_N, rng.uniform(0.7, 1, num_rows), 0),
        "has_upload_embedding": outcome_N,
        "upload_embedding": np.where(outcome_N[:, None], upload_NE, 0),
        "negative_cluster_index": np.where(
            outcome_N[:, None], rng.integers(0, NUM_CLUSTERS, (num_rows, NUM_NEGATIVES)), -1
        ),
        "touch_embedding": np.zeros((num_rows, 1)),
    }


def _arrow(values: np.ndarray, kind: str) -> pa.Array:
    """The values in the column's declared type; rows of a matrix become lists."""
    inner = kind.removeprefix("array<").removesuffix(">")
    flat = pa.array(values.reshape(-1).astype(_ARROW[inner].to_pandas_dtype()))
    if inner == kind:
        return flat
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, flat)


def _spec(columns: dict[str, np.ndarray], length: int) -> ExampleSpec:
    held_out = columns["is_validation"]
    return ExampleSpec(
        clusters=tuple(range(NUM_CLUSTERS)),
        max_touchpoints=length,
        outcome_proxies=PROXIES,
        intent_proxies=INTENTS,
        covariate_mean=(0.0,) * NUM_COVARIATES,
        covariate_scale=(1.0,) * NUM_COVARIATES,
        embedding_length=CONTENT,
        num_hard_negatives=NUM_NEGATIVES,
        touch_embeddings=False,
        num_buckets=NUM_BUCKETS,
        num_training=int((~held_out).sum()),
        num_validation=int(held_out.sum()),
        base_rate=float(columns["outcome"][~held_out].mean()),
    )
