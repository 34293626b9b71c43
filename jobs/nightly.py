"""The whole night: ingest, journeys, propensity, pairs, examples, train, gate, attribute, evaluate, report, publish.

Stages that would make again what they made last are skipped; nights run in order, after those before them that are due
to run again: rows came late for them or for a night that they read, or their last run did not end. Where MLflow is down
a night is published all the same, and the next run logs it. The plan is printed first, and with --dry-run nothing else
is done.

spark-submit jobs/nightly.py --conf conf/prod.yaml --ds 2026-01-31
spark-submit jobs/nightly.py --conf conf/prod.yaml --from 2026-01-01 --to 2026-01-31
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyspark.sql import SparkSession

from almmta_spark import (
    config,
    log_lines,
    manifest,
    night_log,
    reruns,
    runner,
    spark_tables,
    storage,
    summary,
    tracking,
)
from almmta_spark.night_log import Claim, ClaimLost
from jobs import (
    attribute,
    build_examples,
    build_journeys,
    build_pairs,
    evaluate,
    fit_propensity,
    gate,
    ingest,
    publish,
    report,
    train,
)

STAGES: dict[str, runner.Stage] = {
    "ingest": ingest.run,
    "build_journeys": build_journeys.run,
    "fit_propensity": fit_propensity.run,
    "build_pairs": build_pairs.run,
    "build_examples": build_examples.run,
    "train": train.run,
    "gate": gate.run,
    "attribute": attribute.run,
    "evaluate": evaluate.run,
    "report": report.run,
    "publish": publish.run,
}


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = runner.parser(__doc__, needs_night=False)
    parser.add_argument("--from", dest="first", metavar="DATE", help="first night of several")
    parser.add_argument("--to", dest="last", metavar="DATE", help="last night of several")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser.parse_args()


def nights(args: argparse.Namespace) -> list[str]:
    """The nights asked for, in order."""
    if bool(args.ds) == bool(args.first or args.last) or bool(args.first) != bool(args.last):
        raise ValueError("nightly takes --ds DATE, or --from DATE and --to DATE together")
    first, last = args.first or args.ds, args.last or args.ds
    num_days = (spark_tables.index_ts(last) - spark_tables.index_ts(first)).days + 1
    if num_days < 1:
        raise ValueError(f"--from {first} must not be after --to {last}")
    return [spark_tables.shift(first, n) for n in range(num_days)]


def show_plan(spark: storage.Spark, conf: config.Config, due: Mapping[str, str], wanted: list[str]) -> None:
    """Says what will be done, as far as it can be told before anything runs."""
    runner.log.info("%d night(s), %s to %s: %s", len(wanted), wanted[0], wanted[-1], " > ".join(STAGES))
    for ds, why in due.items():
        log_lines.event("plan", f"  {ds}  {why}", night=ds, will=why)
    runs = [*reruns.certain(due), *wanted]
    for ds in _waiting(spark, conf, runs):
        log_lines.event("plan", f"  {ds}  waits to be logged to MLflow", night=ds, will="is logged")
    for ds, stage, what in manifest.plan(spark, conf, runs, list(STAGES)):
        log_lines.event("plan", f"  {ds}  {stage:<16}{what}", night=ds, stage=stage, will=what)


def _waiting(spark: storage.Spark, conf: config.Config, wanted: list[str]) -> list[str]:
    """Published nights that MLflow does not have yet; those that are wanted log themselves."""
    left = [ds for ds in tracking.waiting(spark, conf) if ds not in wanted]
    return [ds for ds in left if night_log.latest(spark, conf, ds).current.number]


def log_waiting(spark: SparkSession, conf: config.Config, wanted: list[str]) -> None:
    """Logs the nights that wait, oldest first; whatever keeps one of them from it keeps no night from running."""
    at_once = replace(conf, publishing=replace(conf.publishing, wait_minutes=0.0))
    for ds in _waiting(spark, conf, wanted):
        try:
            with Claim(spark, at_once, ds) as claim:
                runner.run_stage(runner.Night(spark, conf, ds, "publish", claim), publish.log_again)
        except (tracking.NotLogged, ClaimLost, ValueError) as error:
            _say_that_it_waits(ds, error)
            if isinstance(error, tracking.NotLogged):  # nor will it take the others
                return


def _run_if_changed(night: runner.Night) -> bool:
    """Whether the stage ran. MLflow may be down: the night, published by then, waits to be logged."""
    try:
        return runner.run_if_changed(night, STAGES[night.stage])
    except tracking.NotLogged as error:
        _say_that_it_waits(night.ds, error)
        return True


def _say_that_it_waits(ds: str, error: Exception) -> None:
    message = f"night {ds}: its tables are published; {error}: the next run of nightly, or jobs/publish.py, logs it"
    log_lines.event("not_logged", message, logging.WARNING, night=ds, error=str(error))


def run_night(spark: SparkSession, conf: config.Config, ds: str, later: Sequence[str] = ()) -> dict[str, Any]:
    """The night's stages as far as anything has changed, and its tables published; its summary. later: nights that the
    same command comes to after this one."""
    with spark_tables.refused_by_name(), summary.peak_memory() as memory, Claim(spark, conf, ds) as claim:
        reruns.begin(spark, conf, ds, later)
        of_stages = [runner.Night(spark, conf, ds, name, claim) for name in STAGES]
        skipped = [n.stage for n in of_stages if not _run_if_changed(n)]
        claim.publish()  # where publish was skipped too, what was rolled back comes back
        reruns.end(spark, conf, ds)
    return summary.collect(spark, conf, ds, memory, skipped)


def run_nights(
    spark: SparkSession, conf: config.Config, due: Mapping[str, str], wanted: Sequence[str]
) -> dict[str, Exception]:
    """The nights that are due, then those asked for, each under one claim; what kept which of the due ones from it."""
    all_of_them, done = [*due, *wanted], list[dict[str, Any]]()

    def run(ds: str) -> None:
        number = all_of_them.index(ds)
        runner.log.info("night %s (%d of %d)", ds, number + 1, len(all_of_them))
        done.append(run_night(spark, conf, ds, all_of_them[number + 1 :]))
        summary.write(spark, conf, done)
        summary.show(conf, done[-1])

    failed = reruns.run(spark, conf, due, run)
    for ds in wanted:
        run(ds)
    return failed


def main() -> None:
    """Runs the wanted nights, oldest first, each under one claim."""
    runner.set_up_logging()
    args = parse_args()
    try:
        conf = runner.settings(args)
        looking = runner.storage_session(conf, "nightly")
        wanted = nights(args)
        due = reruns.due(looking, conf, wanted[0])
        show_plan(looking, conf, due, wanted)
        if args.dry_run:
            return
        spark = runner.session(conf, "nightly")
        log_waiting(spark, conf, [*reruns.certain(due), *wanted])
        failed = run_nights(spark, conf, due, wanted)
        spark.stop()
        if failed:
            raise ValueError(
                f"what was asked for is done; {', '.join(failed)} before it could not run again and stays as it was "
                "published: mend what is said of it above, and run nightly once more"
            )
    except (ValueError, ClaimLost) as error:
        runner.fail(error)


if __name__ == "__main__":
    main()
