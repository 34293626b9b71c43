"""Small hand-made tables of one night, for tests of the stages."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from almmta_spark import tables
from almmta_spark.spark_tables import Published

DS = "2026-01-15"
INDEX_TS = datetime(2026, 1, 15, tzinfo=UTC)


def written(night, table, rows, **meta):
    """What Night.write leaves behind, without Spark: a version of one row that says `rows`."""
    done = Published(table.name, night.ds, f"v{len(list(Path(night.place.conf.warehouse).rglob('*')))}", 1, rows, meta)
    card = Path(night.place.conf.warehouse, table.name, f"ds={night.ds}", f"version={done.version}.json")
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(json.dumps(asdict(done)))
    night.claim.draft[table.name] = done.version
    night.outputs[table.name] = {"rows": 1, "checksum": rows, "version": done.version}
    night.made[f"version {table.name} {night.ds} {done.version}"] = done.fingerprint


def touch(touch_id: int, item_id: int, cluster: int, hours: float = 1.0):
    return (INDEX_TS - timedelta(hours=hours), touch_id, item_id, item_id // 10, cluster, float(hours))


def journey(user_id: int, touches, uploads=(), covariates=(0.0, 1.0), proxies=(("camera", 1.0),), intents=()):
    """uploads: (upload_id, embedding or None)."""
    done = [(INDEX_TS + timedelta(hours=1), upload_id, embedding) for upload_id, embedding in uploads]
    return (
        user_id * 1000,
        user_id,
        list(touches),
        [float(x) if x is not None else None for x in covariates],
        int(bool(uploads)),
        list(proxies),
        list(intents),
        done,
    )


def journeys(spark, rows):
    return spark.createDataFrame(rows, tables.JOURNEYS.ddl)


def items(spark, rows):
    """rows: (item_id, cluster, embedding)."""
    return spark.createDataFrame([(i, i // 10, c, e) for i, c, e in rows], tables.ITEM_CLUSTERS.ddl)


def propensities(spark, users, clusters, buckets):
    """The same bucket per cluster for everybody."""
    width = len(clusters)
    rows = [
        (
            u * 1000,
            u,
            0,
            0,
            list(clusters),
            [True] * width,
            [0.5] * width,
            list(buckets),
            [1.0 + c for c in range(width)],
        )
        for u in users
    ]
    return spark.createDataFrame(rows, tables.PROPENSITIES.ddl)
