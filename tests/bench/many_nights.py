"""Many nights: what a night costs that has earlier ones to build on, and whether late rows end where they would have.

`python -m tests.bench.many_nights` writes nights.json and nights.md, in two parts. The ETL of night 8, with a lookback
of 7 days, is measured on what the nights before it have kept, and from the same logs alone. Then logs of a simulated
platform are delivered night by night, rows of some days one or two nights late and some of these twice; each night runs
every stage but the log to MLflow, after the nights that are due; at the end all nights are built anew from the logs as
they are by then. Every table is compared with the one from the logs alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
from pyspark.sql import SparkSession

from almmta_spark import config, manifest, runner, spark_tables
from almmta_spark.config import Config
from jobs import nightly
from tests.bench import etl
from tests.bench.late_rows import (
    FIRST,
    LATENESS,
    LOOKBACK_DAYS,
    days_written,
    deliver,
    digests,
    logs_alone,
    night_after_night,
    nights,
    run,
    settings,
    write_logs,
)
from tests.bench.measure import Record, alone, machine

MEASURED = 8
"""Which of the nights is measured against one from nothing."""
PARTS = ("cost", "late")
LATE_DAYS = (0, 1, 3, 8)
"""Days, counted from FIRST, of which rows come late."""
WHOLE = {name: stage for name, stage in nightly.STAGES.items() if name != "publish"}
SMALL = (
    "pool_nights=2",
    "simulator.base_rate=0.1",
    "examples.num_row_groups=4",
    "training.num_ranks=1",
    "training.epochs=2",
    "training.batch_size=128",
    "training.variants=[latent]",
    "training.placebos=[]",
    "training.ensemble.folds=2",
    "training.ensemble.repeats=1",
    "model.signed=false",
    "attribution.baselines=[last_touch]",
    "evaluation.bootstrap_replicates=20",
    "evaluation.min_group_rows=10",
    "gate.must_pass=[]",  # so small a night warns, and would have no champion
)


# ---- what a night costs ---------------------------------------------------------------------------------------------


def cost(work: str, num_users: int) -> Record:
    """The ETL of a night on what earlier ones have kept, and from nothing."""
    conf, ds = settings(f"{work}/kept", num_users, MEASURED), nights(MEASURED)[-1]
    alone("logs, and what nights before the measured one keep", _nights_before, config.to_dict(conf))
    nothing = logs_alone(conf, f"{work}/nothing")
    made = {
        name: alone(
            f"night {MEASURED} {name}", _measured, config.to_dict(of), ds, f"{work}/events-{name.replace(' ', '-')}"
        )
        for name, of in (("on what was kept", conf), ("from nothing", nothing))
    }
    kept, anew = made["on what was kept"], made["from nothing"]
    ratios = {figure: round(kept[figure] / anew[figure], 3) for figure in FIGURES}
    return {"users": num_users, "lookback_days": LOOKBACK_DAYS, "night": ds, "measured": made, "ratios": ratios}


FIGURES = ("shuffled_mb", "shuffled_rows", "task_seconds", "cpu_seconds", "wall_seconds", "to_journeys_seconds")


def _nights_before(plain: Record) -> Record:
    conf = config.from_dict(plain)
    spark = runner.session(conf, "nights")
    write_logs(spark, conf, nights(MEASURED)[-1])
    for ds in nights(MEASURED)[:-1]:
        deliver(spark, conf, ds)
        run(spark, conf, ds, {"ingest": etl.STAGES["ingest"]})
    deliver(spark, conf, nights(MEASURED)[-1])
    return {}


def _measured(plain: Record, ds: str, events: str) -> Record:
    """Figures of a night's ETL in a session of its own, after a small night that warms the JVM up."""
    Path(events).mkdir(parents=True)
    logged = {"enabled": "true", "compress": "false", "dir": f"file://{Path(events).resolve()}"}
    logged = {f"spark.eventLog.{key}": value for key, value in logged.items()}
    conf = config.from_dict(plain)
    spark = runner.session(replace(conf, spark={**conf.spark, **logged}), "nights")
    _warm_up(spark, replace(conf, warehouse=f"{events}-warm-up/warehouse"))
    started, cpu, clock = 1000 * time.time(), _cpu_seconds(), time.perf_counter()
    run(spark, conf, ds, etl.STAGES)
    wall, cpu = time.perf_counter() - clock, _cpu_seconds() - cpu
    seconds = {m["stage"]: m["seconds"] for m in manifest.manifests(spark, conf, ds)}
    kept = {"days_written": days_written(spark, conf, ds), "digests": digests(spark, conf, ds)}
    spark.stop()
    return {
        **_tasks(events, started),
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "to_journeys_seconds": round(seconds["ingest"] + seconds["build_journeys"], 2),
        "stage_seconds": seconds,
        **kept,
    }


def _warm_up(spark: SparkSession, conf: Config) -> None:
    """Every code path once, unmeasured and unsaid."""
    runner.log.setLevel(logging.WARNING)
    small = replace(conf, simulator=replace(conf.simulator, num_users=1000, base_rate=0.2, num_nights=9))
    write_logs(spark, small, FIRST)
    deliver(spark, small, FIRST)
    run(spark, small, FIRST, etl.STAGES)
    runner.log.setLevel(logging.INFO)


def _cpu_seconds() -> float:
    """Of this process, its JVM and their workers."""
    me = psutil.Process()
    times = [p.cpu_times() for p in [me, *me.children(recursive=True)]]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def _tasks(events: str, since_ms: float) -> Record:
    """Sums over the tasks launched since, from Spark's event log."""
    sums = dict.fromkeys(("tasks", "task_seconds", "shuffled_mb", "shuffled_rows"), 0.0)
    logs = [path for path in Path(events).rglob("*") if path.is_file() and path.suffix != ".crc"]
    lines = (line for path in logs for line in path.read_text().splitlines())
    for event in (json.loads(line) for line in lines if line.startswith('{"Event":"SparkListenerTaskEnd"')):
        if event["Task Info"]["Launch Time"] >= since_ms:
            metrics = event["Task Metrics"]
            sums["tasks"] += 1
            sums["task_seconds"] += metrics["Executor Run Time"] / 1e3
            sums["shuffled_mb"] += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"] / 1e6
            sums["shuffled_rows"] += metrics["Shuffle Write Metrics"]["Shuffle Records Written"]
    return {name: round(total, 2) for name, total in sums.items()}


# ---- many nights against all of them anew ---------------------------------------------------------------------------


def late(work: str, num_users: int, num_nights: int) -> Record:
    """Nights with late rows, then all of them anew; which tables are equal."""
    conf = settings(f"{work}/live", num_users, num_nights, *SMALL)
    live = alone("nights with late rows", _live, config.to_dict(conf), nights(num_nights))
    anew = logs_alone(conf, f"{work}/anew")
    rebuilt = alone("all nights anew", _anew, config.to_dict(anew), nights(num_nights))
    compared = [
        {"night": ds, "table": table, "equal": live["digests"][ds].get(table) == digest}
        for ds, of_night in rebuilt["digests"].items()
        for table, digest in of_night.items()
    ]
    return {"users": num_users, "nights": live["nights"], "compared": compared}


def _live(plain: Record, wanted: Sequence[str]) -> Record:
    conf = config.from_dict(plain)
    spark = runner.session(conf, "nights")
    write_logs(spark, conf, wanted[-1])
    late_days = [spark_tables.shift(FIRST, n) for n in LATE_DAYS]
    done = list(night_after_night(spark, conf, wanted, WHOLE, late_days))
    return {"nights": done, "digests": {ds: digests(spark, conf, ds) for ds in wanted}}


def _anew(plain: Record, wanted: Sequence[str]) -> Record:
    conf = config.from_dict(plain)
    spark = runner.session(conf, "nights")
    for ds in wanted:
        run(spark, conf, ds, WHOLE)
    return {"digests": {ds: digests(spark, conf, ds) for ds in wanted}}


# ---- the report -----------------------------------------------------------------------------------------------------


def page(report: Record) -> str:
    """The record for people: the parts that there are."""
    return "\n".join(["# Many nights", "", *_cost_lines(report), *_late_lines(report)]) + "\n"


def _cost_lines(report: Record) -> list[str]:
    if "cost" not in report:
        return []
    found = report["cost"]
    kept, anew = found["measured"]["on what was kept"], found["measured"]["from nothing"]
    return [
        "## What a night costs that has earlier ones to build on",
        "",
        _measured_by(found),
        "",
        f"ETL (ingest to training examples) of night {MEASURED}, {found['night']}: {found['users']:,} users, lookback",
        f"of {found['lookback_days']} days. It wrote {len(kept['days_written'])} days of exposures or signals; from",
        f"nothing {len(anew['days_written'])}. CPU is that of all processes; task seconds are Spark's, Python in them.",
        "",
        "| figure | on what was kept | from nothing | ratio |",
        "| --- | ---: | ---: | ---: |",
        *[f"| {name} | {kept[name]:,} | {anew[name]:,} | {ratio:.3f} |" for name, ratio in found["ratios"].items()],
        *[_stage_row(stage, kept, anew) for stage in anew["stage_seconds"]],
        "",
        f"Tables with equal rows: {sum(kept['digests'][t] == d for t, d in anew['digests'].items())} of "
        f"{len(anew['digests'])}.",
        "",
    ]


def _late_lines(report: Record) -> list[str]:
    if "late" not in report:
        return []
    found = report["late"]
    same = [row for row in found["compared"] if row["equal"]]
    return [
        "## Late rows",
        "",
        _measured_by(found),
        "",
        f"{len(found['nights'])} nights of {found['users']:,} users, every stage but the log to MLflow,",
        f"two nights pooled; rows of {len(LATE_DAYS)} days up to {LATENESS} nights late, some of these twice;",
        "against all nights anew from the logs as they are at the end:",
        f"{len(same)} of {len(found['compared'])} tables of a night have equal rows.",
        "",
        "| night | earlier days that grew | nights run again | days it wrote |",
        "| --- | --- | --- | --- |",
        *[
            f"| {n['night']} | {', '.join(n['days_grown']) or '-'} | {', '.join(n['nights_again']) or '-'} | "
            f"{', '.join(n['written']) or '-'} |"
            for n in found["nights"]
        ],
    ]


def _measured_by(found: Record) -> str:
    about = found["machine"]
    cores = f"{about['cores']} cores ({about['processor']}), load before {about['load_before']}"
    return f"`{found['command']}`, {about['started']}. {cores}."


def _stage_row(stage: str, kept: Record, anew: Record) -> str:
    pair = [of["stage_seconds"][stage] for of in (kept, anew)]
    return f"| seconds of {stage} | {pair[0]} | {pair[1]} | {pair[0] / pair[1]:.3f} |"


def _command(args: argparse.Namespace) -> str:
    """What was asked for, without where things go."""
    asked = {"users": args.users, "late-users": args.late_users, "nights": args.nights, "only": args.only}
    return " ".join(["python -m tests.bench.many_nights", *(f"--{k} {v}" for k, v in asked.items() if v is not None)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.many_nights", description=__doc__)
    parser.add_argument("--users", type=int, default=60_000, help="of the measured night (default: %(default)s)")
    parser.add_argument("--late-users", type=int, default=1_000, help="of those with late rows (default: %(default)s)")
    parser.add_argument("--nights", type=int, default=10, help="with late rows (default: %(default)s)")
    parser.add_argument(
        "--report", default="reports", metavar="DIR", help="where nights.{json,md} go (default: reports)"
    )
    parser.add_argument("--only", choices=PARTS, help="this part anew, the other as the report has it")
    parser.add_argument("--work", metavar="DIR", help="where warehouses go, and stay (default: a temporary folder)")
    args = parser.parse_args()
    runner.set_up_logging()
    written = Path(args.report, "nights.json")
    kept: Record = json.loads(written.read_text()) if args.only and written.exists() else {}
    found: Record = {part: kept[part] for part in PARTS if part in kept}
    with nullcontext(args.work) if args.work else tempfile.TemporaryDirectory(prefix="almmta-nights-") as work:
        for part in [args.only] if args.only else PARTS:
            about = {"command": _command(args), "machine": machine()}
            if part == "cost":
                found[part] = about | cost(f"{work}/cost", args.users)
            else:
                found[part] = about | late(f"{work}/late", args.late_users, args.nights)
    Path(args.report).mkdir(parents=True, exist_ok=True)
    written.write_text(json.dumps(found, indent=1) + "\n")
    Path(args.report, "nights.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
