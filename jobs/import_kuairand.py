"""Writes a KuaiRand-Pure download as the input tables, and says what was in it.

spark-submit jobs/import_kuairand.py --data DIR --conf conf/kuairand.yaml
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from almmta_spark import runner, spark_tables, storage
from almmta_spark.config import Config
from almmta_spark.importers import kuairand
from almmta_spark.importers.kuairand import files, log, report
from almmta_spark.tables import Table


def import_kuairand(spark: SparkSession, conf: Config, folder: str, content_days: int, last: str) -> dict[str, Any]:
    """Writes the tables and returns the counts, which lie in <warehouse>/_import/kuairand.json too."""
    raw = files.read(spark, folder)
    accepted = log.tidy(raw.log)
    counts = report.dirt(raw, accepted)
    refuse(files.rejected(raw), counts, conf)
    written = []
    for table, day, frame in kuairand.input_tables(raw, conf.seed, content_days, last):
        spark_tables.write_input(frame, conf, table, day)
        runner.log.info("  %-10s %s", table.name, day)
        written += [table] if table not in written else []
    found = {"files": counts, "rows": {t.name: rows_by_day(spark, conf, t) for t in written}}
    storage.write_text(spark, storage.join(conf.warehouse, "_import", "kuairand.json"), json.dumps(found, indent=1))
    return found


def rows_by_day(spark: SparkSession, conf: Config, table: Table) -> dict[str, int]:
    """Rows that were written, by day. One scan."""
    counted = spark.read.parquet(spark_tables.folder(conf, table)).groupBy("ds").count().collect()
    return {str(r["ds"]): r["count"] for r in sorted(counted)}


def refuse(rejected: DataFrame, counts: dict[str, int], conf: Config) -> None:
    """Keeps the refused rows under <warehouse>/_import/rejected; too many stop the import before a table is written."""
    url = storage.join(conf.warehouse, "_import", "rejected")
    rejected.coalesce(1).write.mode("overwrite").json(url)
    refused, limit = counts["log rows refused"], conf.ingest.max_rejected_rate * counts["log rows"]
    if refused > limit:
        raise ValueError(
            f"{files.LOG_FILE}: at most {limit:,.0f} of {counts['log rows']:,} rows may be refused "
            f"(ingest.max_rejected_rate), {refused:,} were: see {url}"
        )


def main() -> None:
    """Imports a download into the input tables: --help says from where."""
    runner.set_up_logging()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ALMMTA_KUAIRAND", "../shared/data/kuairand")
    parser.add_argument("--data", default=default, metavar="DIR", help="folder of the download (default: %(default)s)")
    parser.add_argument("--conf", default="conf/kuairand.yaml", metavar="FILE")
    parser.add_argument("--ds", default="9999-12-31", metavar="DATE", help="last day to write (default: all)")
    parser.add_argument("--content-days", type=int, default=7, metavar="N", help="first days contents are learned from")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="key=value")
    args = parser.parse_args()
    try:
        conf = runner.settings(args)
        spark_tables.index_ts(args.ds)
        spark = runner.session(conf, "import_kuairand")
        found = import_kuairand(spark, conf, args.data, args.content_days, args.ds)
        for what, number in found["files"].items():
            runner.log.info("  %10s  %s", f"{number:,}", what)
        for table, rows in found["rows"].items():
            runner.log.info("  %-10s %s", table, ", ".join(f"{day} {n:,}" for day, n in rows.items()))
    except ValueError as error:
        runner.fail(error)


if __name__ == "__main__":
    main()
