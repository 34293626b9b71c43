"""What every job shares: arguments, the Spark session, and a Night that reads, writes and remembers what it did.

A stage's manifest (manifest.py) is what its Night remembers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from almmta_spark import config, java_home, log_lines, manifest, spark_metrics, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.manifest import NO_MATTER, NOTHING, Place, manifests, traced
from almmta_spark.night_log import Claim, ClaimLost
from almmta_spark.tables import Table

log = log_lines.log
set_up_logging = log_lines.set_up

AFTER_ALL = "9999-12-31"
"""A night after all others."""
SPARK_DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # Lists are collected over rows that a user's shuffle has sorted already; the hash form sorts them once more.
    "spark.sql.execution.useObjectHashAggregateExec": "false",
    # Names of bucketed tables are the session's own, and no table is kept by name (spark_tables.read_buckets).
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.warehouse.dir": tempfile.gettempdir(),
}
"""What a night's session has wherever spark-submit and conf.spark say nothing."""


def parser(description: str | None = None, needs_night: bool = True) -> argparse.ArgumentParser:
    """--conf FILE --ds DATE and --set key=value: what every job takes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--conf", default="conf/local.yaml", metavar="FILE", help="YAML settings (default: %(default)s)")
    made.add_argument("--ds", metavar="DATE", required=needs_night, help="the night, YYYY-MM-DD in UTC")
    made.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="key=value", help="override any config key"
    )
    return made


def session(conf: Config, name: str) -> SparkSession:
    """The Spark session of a job. spark-submit's settings stand; conf.spark fills what it leaves open."""
    java_home.ensure()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    from pyspark import SparkConf, SparkContext

    if "PYSPARK_GATEWAY_PORT" in os.environ:  # under spark-submit, whose settings SparkConf sees once it is connected
        SparkContext._ensure_initialized()
    submitted = SparkConf()
    builder = SparkSession.builder.appName(f"almmta {name}")
    for key, value in {**SPARK_DEFAULTS, **conf.spark}.items():
        if not submitted.contains(key):
            builder = builder.config(key, value)
    if not submitted.contains("spark.master") and "spark.master" not in conf.spark:
        builder = builder.master("local[*]")
    spark = builder.getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")  # the contract, whatever the submitter's machine says
    spark.sparkContext.setLogLevel("ERROR")
    return spark


@dataclass
class Night:
    """One night, for one stage: reads and writes tables and remembers both, and which settings were read."""

    spark: SparkSession
    conf: Config
    """The settings; reading one is remembered."""
    ds: str
    stage: str = ""
    claim: Claim | None = None
    """What the stage writes is its draft until the claim publishes it; without one each table is published alone."""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    """Counts and warnings for the summary and MLflow: JSON-able, no ids."""
    looked: dict[str, str] = field(default_factory=dict)
    """What each look found (manifest.py)."""
    made: dict[str, str] = field(default_factory=dict)
    """Looks that find what the stage made."""

    def __post_init__(self) -> None:
        self._settings = self.conf
        self.conf = traced(self.conf, self._saw)

    def _saw(self, key: str) -> None:
        if key.split(".")[0] not in NO_MATTER:
            self.look("setting", key)

    @property
    def place(self) -> Place:
        return Place(self.spark, self._settings, {self.claim.ds: self.claim.draft} if self.claim else {})

    def look(self, *what: str) -> str:
        """What there is now, remembered as found."""
        found = self.place.find(" ".join(what))
        return self.looked.setdefault(" ".join(what), found)

    def read(self, table: Table, hours_back: float = 0.0, hours_ahead: float = 0.0) -> DataFrame:
        """A table of the night, or an input table's rows in a window about index_ts."""
        self._remember(table, spark_tables.window_days(table, self.ds, hours_back, hours_ahead))
        return spark_tables.read(self.spark, self._settings, table, self.ds, hours_back, hours_ahead, self.place.drafts)

    def days(self, table: Table, hours_back: float) -> list[str]:
        """Days of an input table that overlap the hours before the night, remembered as read."""
        days = spark_tables.window_days(table, self.ds, hours_back, 0.0)
        self._remember(table, days)
        return days

    def read_snapshot(self, table: Table, not_after_ds: str) -> DataFrame:
        """The newest snapshot of an input table that is not after a day."""
        self.look("snapshot", table.name, not_after_ds)
        self._remember(table, [spark_tables.snapshot_day(self.spark, self._settings, table, not_after_ds)])
        return spark_tables.read_snapshot(self.spark, self._settings, table, not_after_ds)

    def read_day(self, table: Table, day: str) -> DataFrame:
        """One day of an input table, or of a table the simulator writes."""
        self._remember(table, [day])
        return spark_tables.read_day(self.spark, self._settings, table, day)

    def pooled_nights(self, *pooled: Table) -> list[str]:
        """The nights to pool: of the newest pool_nights up to ds those for which every one of the tables is published.

        A night killed between two of the tables would be counted by one and joined away by the other. Notes which
        nights are left out and why; ds itself never is, so that reading it says what it lacks.
        """
        days = [spark_tables.shift(self.ds, -n) for n in reversed(range(self.conf.pool_nights))]
        lacks = {d: [t.name for t in pooled if self.published(t, d) is None] for d in days[:-1]}
        left_out = [f"{d} (without {', '.join(names)})" for d, names in lacks.items() if names]
        if left_out:
            self.note(nights_not_pooled=f"{'; '.join(left_out)}: run them again to have them pooled")
        return [d for d in days if not lacks.get(d)]

    def read_nights(self, table: Table, nights: Sequence[str]) -> DataFrame:
        """A table's published nights, with a column ds."""
        self._remember(table, nights)
        return spark_tables.read_nights(self.spark, self._settings, table, nights, self.place.drafts)

    def has_input(self, table: Table, ds: str, hours_back: float = 0.0) -> bool:
        """Whether an input table, or one that the simulator writes, has every day of a night's window. ValueError where
        it has some of them."""
        days = spark_tables.window_days(table, ds, hours_back, 0.0) if table in tables.INPUTS else [ds]
        self.look("days", table.name, *days)
        there = set(days) & set(spark_tables.input_days(self.spark, self._settings, table))
        if there:
            spark_tables.refuse_missing(self.spark, self._settings, table, days)
        return bool(there)

    def meta(self, table: Table) -> Mapping[str, Any]:
        """What a stage kept with a table of this night."""
        self.look("night", table.name, self.ds)
        return spark_tables.meta(self.spark, self._settings, table, self.ds, self.place.drafts)

    def path(self, table: Table) -> str:
        """Folder of a table's version of this night."""
        self.look("night", table.name, self.ds)
        return spark_tables.path(self.spark, self._settings, table, self.ds, self.place.drafts)

    def published(self, table: Table, ds: str = "") -> spark_tables.Published | None:
        """What this run sees of a table's night; None where it has none."""
        self.look("night", table.name, ds or self.ds)
        return spark_tables.published(self.spark, self._settings, table, ds or self.ds, self.place.drafts)

    def notes_of(self, stage: str, ds: str = "") -> Mapping[str, Any]:
        """What another stage of the night, or of an earlier one, noted; empty where it has not run."""
        self.look("notes", ds or self.ds, stage)
        found = manifest.read(self.spark, self._settings, ds or self.ds, stage)
        return found["notes"] if found else {}

    def other_manifests(self) -> list[dict[str, Any]]:
        """Of the night's other stages, in the order in which they ran."""
        self.look("others", self.ds, self.stage)
        return [m for m in manifests(self.spark, self._settings, self.ds) if m["stage"] != self.stage]

    def write(
        self,
        df: DataFrame,
        table: Table,
        meta: Mapping[str, Any] | None = None,
        options: Mapping[str, str] | None = None,
        check: Callable[[], object] | None = None,
    ) -> spark_tables.Published:
        """check: asserts what must hold before the table is published."""
        done = spark_tables.write(df, self._settings, table, self.ds, meta, options, check, self.claim)
        self.outputs[table.name] = {"rows": done.rows, "checksum": done.checksum, "version": done.version}
        self.made[f"version {table.name} {self.ds} {done.version}"] = done.fingerprint
        log.info("  %-24s %12s rows", table.name, f"{done.rows:,}")
        return done

    def model_folder(self, variant: str = "") -> str:
        """Where training leaves a model: to be written, and by trained_model to be read."""
        return manifest.model_folder(self._settings, self.ds, variant)

    def trained_model(self, variant: str) -> str:
        """Folder of a model that the night has trained. ValueError where it has not."""
        if self.look("model", self.ds, variant) == NOTHING:
            raise ValueError(f"there is no model {variant} of ds={self.ds}: run the job train for this night first")
        return self.model_folder(variant)

    def has_trained(self, variant: str) -> None:
        """Remembers a model as made by this stage."""
        made = f"model {self.ds} {variant}"
        self.made[made] = self.place.find(made)

    def champion(self, variant: str) -> tuple[str, str] | None:
        """The night that trained the champion before this night, and the model's folder; None where there is none."""
        found = self.look("champion", self.ds, variant)
        if found == NOTHING:
            return None
        ds, _ = _night_and_version(found)
        return ds, manifest.model_folder(self._settings, ds, variant)

    def is_champion(self, variant: str, version: str) -> bool:
        """Whether tonight's model is the champion of all nights there are so far. Not remembered: it will pass."""
        return self.place.champion(AFTER_ALL, variant) == f"{self.ds} {version}"

    def serve(self, variant: str, ds: str, version: str, passed: bool) -> None:
        """Names the model that speaks for the night, and whether the night's own passed; looks find both from the end
        of the stage on."""
        self.made[f"served {self.ds} {variant}"] = f"{ds} {version}"
        if passed:
            self.made[f"passed {self.ds} {variant}"] = version

    def served(self, variant: str) -> tuple[str, str] | None:
        """Night and version of the model that speaks; None where no gate has named one, as in a study."""
        found = self.look("served", self.ds, variant)
        return None if found == NOTHING else _night_and_version(found)

    def served_model(self, variant: str) -> str:
        """Folder of the model that speaks: tonight's own where there was no gate.

        ValueError where it is not the one that the gate has named any more.
        """
        named = self.served(variant)
        if named is None:
            return self.trained_model(variant)
        ds, version = named
        found = self.look("model", ds, variant)
        if found != version:
            raise ValueError(
                f"the gate of ds={self.ds} has named model {variant} {version[:12]} of ds={ds}, and there is now "
                f"{found[:12]}: run the job gate for this night again"
            )
        return manifest.model_folder(self._settings, ds, variant)

    def figures_folder(self) -> str:
        """Where the night's figures are."""
        return storage.join(self._settings.warehouse, "_figures", f"ds={self.ds}")

    def report_folder(self) -> str:
        """Folder of the night's page."""
        return storage.join(self._settings.warehouse, "_reports", f"ds={self.ds}")

    def note(self, **facts: Any) -> None:
        """Facts for the summary, said now as well."""
        self.notes.update(facts)
        for name, value in facts.items():
            if isinstance(value, (str, int, float)):
                log.info("  %s: %s", name, value)

    def _remember(self, table: Table, days: Sequence[str]) -> None:
        """Input days by fingerprint, nights of output tables by what was published; together with earlier reads."""
        if table not in tables.OUTPUTS:
            self.look("days", table.name, *days)
            self.look("pseudonyms")
        days = sorted({*days, *self.inputs.get(table.name, {"days": ()})["days"]})
        if table not in tables.OUTPUTS:
            digest = spark_tables.fingerprint(self.spark, self._settings, table, days)
            self.inputs[table.name] = {"days": list(days), "fingerprint": digest}
            return
        nights = {d: self.published(table, d) for d in days}
        there = {d: found for d, found in nights.items() if found}
        self.inputs[table.name] = {
            "days": sorted(there),
            "rows": sum(found.rows for found in there.values()),
            "checksums": [there[d].checksum for d in sorted(there)],
        }


def _night_and_version(found: str) -> tuple[str, str]:
    ds, version = found.split(" ")
    return ds, version


Stage = Callable[[Night], None]


def run_stage(night: Night, stage: Stage) -> dict[str, Any]:
    """Runs one stage, says so, and writes its manifest. Returns the manifest.

    Without a claim, the night is claimed for the stage, and the stage's tables are published together at its end.
    """
    if night.claim is not None:
        return _run(night, stage)
    with spark_tables.refused_by_name(), Claim(night.spark, night.place.conf, night.ds) as night.claim:
        done = _run(night, stage)
        night.claim.publish()
    night.claim = None
    return done


def _run(night: Night, stage: Stage) -> dict[str, Any]:
    conf = night.place.conf
    url = manifest.url(conf, night.ds, night.stage)
    assert night.claim is not None
    night.claim.renew()  # ClaimLost where the night is another run's by now: nothing of it may be touched
    storage.delete(night.spark, url)  # whatever is left half done from here on is done again
    started = datetime.now(UTC)
    meter = spark_metrics.Meter(night.spark)
    _say(night, "started", night.stage)
    night.look("code")
    try:
        with spark_tables.refused_by_name():
            stage(night)
    except BaseException as error:
        seconds, cost = meter.read()
        message = f"  failed after {seconds:.1f} s: {type(error).__name__}"
        _say(night, "failed", message, logging.ERROR, seconds=seconds, error=f"{type(error).__name__}: {error}", **cost)
        raise
    seconds, cost = meter.read()
    done: dict[str, Any] = {
        "stage": night.stage,
        "ds": night.ds,
        "started": started.isoformat(),
        "seconds": seconds,
        "spark": cost,
        "inputs": night.inputs,
        "outputs": night.outputs,
        "notes": night.notes,
        "looked": night.looked,
        "made": night.made,
        "config_sha": config.digest(conf),
        "code_version": manifest.code_version(),
    }
    night.claim.renew()
    storage.write_text(night.spark, url, json.dumps(done, indent=1))
    message = f"  done in {seconds:.1f} s{spark_metrics.told(cost)}"
    _say(night, "done", message, seconds=seconds, rows=_rows(done), **cost)
    return done


def _say(night: Night, what: str, message: str, level: int = logging.INFO, **fields: Any) -> None:
    """An event of a stage."""
    log_lines.event(f"stage_{what}", message, level, night=night.ds, stage=night.stage, **fields)


def _rows(done: Mapping[str, Any]) -> dict[str, int]:
    """Rows of each table that a stage has written, from its manifest."""
    return {name: out["rows"] for name, out in done["outputs"].items()}


def run_if_changed(night: Night, stage: Stage) -> bool:
    """Runs a stage of a claimed night, unless it would make again what it made last: its tables then join the draft.

    Says which it was. Returns whether it ran.
    """
    assert night.claim is not None
    found = manifest.read(night.spark, night.place.conf, night.ds, night.stage)
    why = manifest.verdict(found, night.place)
    if found is not None and not why:
        night.claim.draft.update(manifest.made_by(found))
        _say(night, "skipped", f"{night.stage}: unchanged, skipped", rows=_rows(found))
        return False
    log.info("%s: %s", night.stage, why)
    run_stage(night, stage)
    return True


def storage_session(conf: Config, name: str) -> SparkSession | None:
    """For jobs that only look at small files: a session where the warehouse is not on this machine's disks."""
    return None if storage.local_path(conf.warehouse) else session(conf, name)


def settings(args: argparse.Namespace) -> Config:
    """What the command line says is to be done; from here on messages have the format that it says."""
    conf = config.load(args.conf, args.overrides)
    set_up_logging(conf.log_format)
    return conf


def main(stage_name: str, stage: Stage, description: str | None) -> None:
    """The body of a job that is one stage."""
    set_up_logging()
    args = parser(description).parse_args()
    try:
        conf = settings(args)
        spark_tables.index_ts(args.ds)
        run_stage(Night(session(conf, stage_name), conf, args.ds, stage_name), stage)
    except (ValueError, ClaimLost, ConnectionError) as error:
        fail(error)


def fail(error: Exception) -> None:
    """Ends the job with the error's own words; they say what to do."""
    log.error("error: %s", error)
    sys.exit(2)
