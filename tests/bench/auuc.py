"""AUUC of one score with intervals, through the Spark front, beside causalml's and scikit-uplift's without.

`make bench-auuc`, or python -m tests.bench.auuc --help. Of theirs only the function is timed, on columns that are in
memory already; of ours everything from the Parquet files on, in a session that has run once on few rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import config, runner
from almmta_spark.evaluation import ranking
from almmta_spark.summary import peak_memory
from tests.bench import report
from tests.bench.measure import ROOT, Record, alone, machine, seconds_of

SIZES = (1_000_000, 10_000_000, 50_000_000)
WARM_UP = 50_000
REPLICATES = 200
REPEATS = 3
"""Runs of each method on each size: the median counts."""
HEAP = "512m"
PEERS = ("causalml", "scikit-uplift")
MEMORY_SHARE = 0.8
"""Of the memory that is free before a peer begins: what it may take."""
ROWS_PER_USER = 3


def main() -> None:
    args = _arguments()
    runner.set_up_logging()
    with tempfile.TemporaryDirectory(prefix="almmta-bench-", dir=args.work) as work:
        measured = {"command": _command(), **run(args.rows, work, args.peers)}
    paths = report.write_auuc(measured, args.report)
    print(report.auuc_page(measured))
    print("written: " + ", ".join(map(str, paths)), file=sys.stderr)


def run(sizes: list[int], work: str, peers_python: str) -> Record:
    """The whole report but for the command."""
    clock, facts, found = time.monotonic(), machine(), []
    alone(f"{WARM_UP:,} rows", write_rows, work, WARM_UP)
    for size in sizes:
        alone(f"{size:,} rows", write_rows, work, size)
        ours = alone(f"ours, {size:,} rows", ours_on, work, size)
        peers = {name: peer_on(peers_python, name, rows_of(work, size), size) for name in PEERS}
        found.append({"rows": size, "ours": ours, "peers": peers})
    return {
        "machine": facts,
        "seconds": round(time.monotonic() - clock, 1),
        "replicates": REPLICATES,
        "repeats": REPEATS,
        "heap": HEAP,
        "sizes": found,
        "growth": [round(report.growth_per_row(*pair), 3) for pair in itertools.pairwise(found)],
    }


def rows_of(work: str, size: int) -> str:
    """Where write_rows puts them."""
    return str(Path(work, f"rows-{size}"))


def write_rows(work: str, size: int) -> Record:
    """Randomised rows as Parquet: user_id, score without ties, treated, outcome; better scores are helped more."""
    spark = _session(work)
    drawn = [F.xxhash64(F.lit(0), F.lit(name), "id") for name in ("score", "treated", "outcome")]
    score, treated, chance = [F.shiftrightunsigned(bits, 11) * F.lit(2.0**-53) for bits in drawn]
    rows = spark.range(size, numPartitions=max(2, size // 2_500_000)).select(
        F.xxhash64(F.pmod("id", F.lit(max(1, size // ROWS_PER_USER)))).alias("user_id"),
        score.alias("score"),
        (treated < 0.5).cast("byte").alias("treated"),
        (chance < 0.03 + 0.04 * score * (treated < 0.5).cast("int")).cast("byte").alias("outcome"),
    )
    return {"seconds": round(seconds_of(lambda: rows.write.parquet(rows_of(work, size))), 2)}


def ours_on(work: str, size: int) -> Record:
    """Seconds, figures and peak memory: of the driver (its Python and its JVM, where tasks run too) and of all."""
    spark = _session(work)
    _evaluate(spark.read.parquet(rows_of(work, WARM_UP)))
    rows, figures, seconds = spark.read.parquet(rows_of(work, size)), {}, []
    with peak_memory(0.2, _is_driver) as driver:
        for _ in range(REPEATS):
            seconds.append(seconds_of(lambda: figures.update(_evaluate(rows))))
    return {
        "seconds": round(statistics.median(seconds), 3),
        "runs": [round(s, 3) for s in seconds],
        "driver_memory_gb": round(driver["peak_gb"], 3),
        **{name: figures[name] for name in ("uplift", "auuc", "auuc_lower", "auuc_upper", "auuc_normalised")},
    }


def peer_on(python: str, name: str, rows: str, size: int) -> Record:
    """Of another library in its own environment: what peers.py prints; or error, with what became of it."""
    limit_gb = psutil.virtual_memory().available * MEMORY_SHARE / 1e9
    runner.log.info("== %s, %s rows, at most %.1f GB", name, f"{size:,}", limit_gb)
    command = [python, str(ROOT / "tests" / "bench" / "peers.py"), name, rows, str(REPEATS), f"{limit_gb:.2f}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        found: Record = json.loads(done.stdout.splitlines()[-1])
        runner.log.info("   %.1f s, peak memory %.2f GB", found["seconds"], found["memory_gb"])
        return found
    last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    out_of_memory = done.returncode < 0 or "MemoryError" in last
    error = f"out of memory at {limit_gb:.1f} GB" if out_of_memory else last
    runner.log.info("   %s", error)
    return {"error": error}


def _evaluate(rows: DataFrame) -> Record:
    return ranking.evaluate(rows, ["score"], replicates=REPLICATES)["score"]


def _session(work: str) -> SparkSession:
    """conf/local.yaml's, in a small heap."""
    conf = config.load(ROOT / "conf" / "local.yaml")
    settings = {"spark.driver.memory": HEAP, "spark.local.dir": f"{work}/spark"}
    return runner.session(replace(conf, spark={**conf.spark, **settings}), "bench auuc")


def _is_driver(process: psutil.Process) -> bool:
    """This process or its JVM, not that one's Python workers."""
    return process.pid == os.getpid() or process.name() == "java"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.auuc", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", default=list(SIZES), help="default: %(default)s")
    parser.add_argument("--peers", required=True, metavar="PYTHON", help="a Python with tests/bench/peers.txt")
    parser.add_argument("--report", metavar="DIR", default="reports", help="default: %(default)s")
    parser.add_argument("--work", metavar="DIR", help="where the rows go for the while (default: a temp folder)")
    args = parser.parse_args()
    args.rows = sorted(args.rows)
    return args


def _command() -> str:
    return " ".join(["python -m tests.bench.auuc", *sys.argv[1:]])


if __name__ == "__main__":
    main()
