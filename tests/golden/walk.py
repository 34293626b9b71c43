"""One user's journey through a night, step by step: what the golden files hold and the README shows.

`python -m tests.golden.walk WAREHOUSE DS` writes the files again from a night of conf/test.yaml on two ranks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import config, event_days, runner, spark_tables, tables
from almmta_spark.config import Config
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.logs.days import with_status
from almmta_spark.logs.rules import USED

USER = 153
FOLDER = Path(__file__).parent
MODELLED = "7_attribution.txt"
"""Depends on trained weights: compared within a tolerance, everything else to the letter."""

Read = Callable[[tables.Table], DataFrame]


def steps(spark: SparkSession, conf: Config, ds: str, user: int = USER) -> dict[str, str]:
    """File name -> text, one a stage."""

    def read(table: tables.Table) -> DataFrame:
        return spark_tables.read(spark, conf, table, ds).where(F.col("user_id") == user)

    spec = ExampleSpec.from_dict(spark_tables.meta(spark, conf, tables.TRAINING_EXAMPLES, ds)["spec"])
    raw = list(_raw(spark, conf, ds, user))
    return {
        "1_raw.txt": _text("what the platform logged", ["table", "ds", "event_ts", "what"], raw),
        "2_events.txt": _text(
            "events: accepted by ingest", ["source", "event_ts", "what"], list(_events(spark, conf, ds, user))
        ),
        "3_journey.txt": _journey(read),
        "4_propensities.txt": _propensities(read),
        "5_matched_pairs.txt": _pairs(read),
        "6_training_example.txt": _example(read, spec),
        MODELLED: _attribution(read),
    }


def _raw(spark: SparkSession, conf: Config, ds: str, user: int) -> Iterator[list[str]]:
    day_before, two_before = spark_tables.shift(ds, -1), spark_tables.shift(ds, -2)
    places = [
        (tables.EXPOSURES, day_before, "item {item_id}"),
        (tables.SIGNALS, two_before, "{signal}"),
        (tables.SIGNALS, day_before, "{signal}"),
        (tables.UPLOADS, ds, "upload {upload_id}"),
    ]
    for table, day, what in places:
        rows = spark_tables.read_day(spark, conf, table, day).where(F.col("user_id") == user)
        for row in sorted(rows.collect(), key=lambda r: (r["event_ts"], str(r))):
            yield [table.name, day, _time(row["event_ts"]), what.format(**row.asDict())]


def _events(spark: SparkSession, conf: Config, ds: str, user: int) -> Iterator[list[str]]:
    """Touches as event_days has them; signals that ingest's rules accept, of which it has the sums; uploads."""
    found = spark_tables.meta(spark, conf, tables.ACCEPTED_UPLOADS, ds)["event_days"]
    versions = [event_days.find(spark, conf, tables.EXPOSURES, day) for day in found[tables.EXPOSURES.name]]
    days = event_days.read(spark, conf, [v for v in versions if v]).where(
        (F.col("user_id") == user) & F.isnull("reason")
    )
    items = spark_tables.read(spark, conf, tables.ITEM_CLUSTERS, ds).select("item_id", "cluster")
    of_user = days.select(F.inline(F.arrays_zip("touch_ts", "touch_id", "item_id"))).join(items, "item_id").collect()
    for row in sorted(of_user, key=lambda r: (r["touch_ts"], r["touch_id"])):
        what = f"touch {row['touch_id']}: item {row['item_id']} of cluster {row['cluster']}"
        yield ["exposures", _time(row["touch_ts"]), what]
    for day in found[tables.SIGNALS.name]:
        raw = spark_tables.read_day(spark, conf, tables.SIGNALS, day).where(F.col("user_id") == user)
        accepted = with_status(raw, tables.SIGNALS).where(F.col("status") == USED)
        for row in accepted.orderBy("event_ts").collect():
            yield ["signals", _time(row["event_ts"]), f"{row['signal']} {_number(row['value'])}"]
    uploads = spark_tables.read(spark, conf, tables.ACCEPTED_UPLOADS, ds).where(F.col("user_id") == user)
    for row in uploads.orderBy("event_ts").collect():
        yield ["uploads", _time(row["event_ts"]), f"upload {row['upload_id']}"]


def _journey(read: Read) -> str:
    row = read(tables.JOURNEYS).collect()[0]
    touches = [
        [str(t["touch_id"]), str(t["cluster"]), _time(t["touch_ts"]), _number(t["age_hours"])] for t in row["touches"]
    ]
    signals = ["outcome_proxies", "intent_proxies"]
    facts = [f"journey_id {row['journey_id']}   outcome {row['outcome']}"]
    facts += [f"{n}: " + ", ".join(f"{s['signal']} {_number(s['value'])}" for s in row[n]) for n in signals]
    facts += ["covariates: " + ", ".join(map(_number, row["covariates"]))]
    head = "journeys: one shuffle by user, index_ts = ds 00:00 UTC"
    return _text(head, ["touch_id", "cluster", "touch_ts", "age_hours"], touches) + "\n".join(facts) + "\n"


def _propensities(read: Read) -> str:
    row = read(tables.PROPENSITIES).collect()[0]
    at = [i for i, exposed in enumerate(row["exposed"]) if exposed]
    columns = ("cluster", "propensity", "propensity_bucket", "stabilized_weight")
    rows = [[_number(row[c][i]) for c in columns] for i in at]
    head = f"propensities: P(the journey holds the cluster | X), by the models that never saw fold {row['fold']}"
    return _text(head, list(columns), rows)


def _pairs(read: Read) -> str:
    rows = sorted(read(tables.MATCHED_PAIRS).collect(), key=lambda r: r["match_rank"])
    columns = ["upload_id", "touch_id", "match_score", "match_rank", "negative_cluster"]
    shown = [[_number(r[c]) if c != "negative_cluster" else str(r[c]) for c in columns] for r in rows]
    return _text("matched_pairs: touches whose content resembles the upload", columns, shown)


def _example(read: Read, spec: ExampleSpec) -> str:
    row = read(tables.TRAINING_EXAMPLES).collect()[0].asDict()
    count = row["num_touches"]
    rows = []
    for column in tables.TRAINING_EXAMPLES.columns:
        value = row[column.name]
        if isinstance(value, list):
            a_touch = spec.embedding_length if column.name == "touch_embedding" else 1
            shown = value[: count * a_touch] if len(value) == spec.max_touchpoints * a_touch else value
            rows.append([column.name, " ".join(map(_number, shown))])
        else:
            rows.append([column.name, _number(value)])
    return _text(
        f"training_examples: lists cut to the {count} real of {spec.max_touchpoints} entries", ["column", "value"], rows
    )


def _attribution(read: Read) -> str:
    rows = read(tables.ATTRIBUTION).where(F.col("method").isin("latent", "last_touch", "linear")).collect()
    columns = [
        "method",
        "touch_id",
        "cluster",
        "age_hours",
        "removal_effect",
        "attribution_share",
        "p_outcome",
        "p_outcome_deleted",
    ]
    ordered = sorted(rows, key=lambda r: (r["method"] != "latent", r["method"], -r["age_hours"]))
    shown = [[r[c] if c == "method" else _number(r[c]) for c in columns] for r in ordered]
    return _text("attribution: what deleting each touch changes", columns, shown)


def _text(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [list(header), *map(list, rows)]
    widths = [max(len(r[i]) for r in table) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in table]
    return "\n".join([title, *lines]) + "\n"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}"


def main(warehouse: str, ds: str) -> None:
    conf = replace(config.load("conf/test.yaml"), warehouse=warehouse)
    for name, text in steps(runner.session(conf, "walk"), conf, ds).items():
        (FOLDER / name).write_text(text)
        print(text)


if __name__ == "__main__":
    main(*sys.argv[1:3])
