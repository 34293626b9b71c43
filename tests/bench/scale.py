"""A whole night on a standalone cluster of two workers, at sizes ten times apart: `make scale`.

The driver is started as a user starts it (spark-submit with conf/spark/standalone.conf), training runs in the workers'
task slots, and every process of it all is counted into the peak of memory, the cluster's own and MLflow among them. The
night is the default one with one fit and one epoch. Writes scale.json and scale.md; the exit status is 1 where a night
fails or a time per row grows beyond its aim.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from almmta_spark import java_home, manifest, runner
from almmta_spark.summary import peak_memory
from tests.bench import etl
from tests.bench.measure import DS, ROOT, Record, alone, machine, settings

SIZES = (3_000_000, 30_000_000)
MEMORY_GB = 12.0
"""Aim: what all processes together take at most."""
PER_ROW = 1.15
"""Aim: the time per exposure at the largest size over that at the smallest."""
NIGHT = (
    "report_file=",
    "training.local_mode=false",
    "training.epochs=1",
    "training.batch_size=8192",
    "training.variants=[latent]",
    "training.placebos=[]",
    "training.ensemble.variants=[]",
    "model.signed=false",
    "attribution.baselines=[last_touch]",
    "ingest.user_buckets=32",
    "examples.num_row_groups=32",
)
SPARK = {
    "spark.driver.memory": "1g",
    "spark.executor.memory": "1500m",
    "spark.sql.shuffle.partitions": "48",
}
CLUSTER = {"WORKERS": "2", "CORES": "1", "MEMORY": "1500m"}
MARK = "ALMMTA_SCALE"
"""In the environment of all that runs: processes are found by it."""


def night(work: Path, size: int) -> Record:
    """Logs of about `size` exposures, and the night on a cluster that is started and stopped for it."""
    name = f"size-{size}"
    alone(f"logs of {size:,} exposures", etl.write_logs, str(work), name, size)
    conf = settings(str(work), name, size)
    runner.log.info("== the night of %s exposures", f"{size:,}")
    environment = {
        **os.environ,
        **CLUSTER,
        MARK: str(work),
        "BIN": str(Path(sys.executable).parent),
        "JAVA_HOME": str(java_home.ensure()),
        "CLUSTER_DIR": str(work / "cluster"),
        "SPARK_LOCAL_DIRS": str(work / "spark"),
        "PYTHONPATH": str(ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    run = [f"{environment['BIN']}/spark-submit", "--properties-file", "conf/spark/standalone.conf"]
    run += [part for key, value in SPARK.items() for part in ("--conf", f"{key}={value}")]
    run += ["jobs/nightly.py", "--conf", "conf/local.yaml", "--ds", DS]
    for setting in (f"warehouse={conf.warehouse}", *NIGHT):
        run += ["--set", setting]
    subprocess.run(["docker/start-cluster.sh"], cwd=ROOT, env=environment, check=True)
    clock, samples = time.monotonic(), list[tuple[float, float]]()
    try:
        with peak_memory(
            1.0, among=lambda: marked(str(work)), each=lambda gb: samples.append((time.time(), gb))
        ) as memory:
            subprocess.run(run, cwd=ROOT, env=environment, check=True)
    finally:
        seconds = time.monotonic() - clock
        subprocess.run(["docker/stop-cluster.sh"], cwd=ROOT, env=environment, check=False)
    made = manifest.manifests(None, conf, DS)
    rows = next(m["notes"]["rows"]["exposures"]["rows_in"] for m in made if m["stage"] == "ingest")
    return {
        "exposures": rows,
        "seconds": round(seconds, 1),
        "peak_memory_gb": round(memory["peak_gb"], 2),
        "stages": [
            {
                "stage": m["stage"],
                "seconds": m["seconds"],
                "peak_memory_gb": round(peak_of(m, samples), 2),
                **{what: m["spark"][f"{what}_bytes"] for what in ("shuffle_write", "spilled_memory", "spilled_disk")},
            }
            for m in made
        ],
    }


def peak_of(made: Mapping[str, Any], samples: Sequence[tuple[float, float]]) -> float:
    """The largest of the (time, GB) that were taken while the stage ran; 0 where none was."""
    began = datetime.fromisoformat(made["started"]).timestamp()
    return max((gb for time, gb in samples if began <= time <= began + made["seconds"]), default=0.0)


def marked(mark: str) -> Iterator[psutil.Process]:
    """The living processes with the mark in their environment."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:  # gone since, or the kernel's
            continue


def per_row(nights: Sequence[Record]) -> dict[str, float]:
    """Seconds per exposure of the last night over those of the first: of each stage, and of all (`night`)."""
    first, last = nights[0], nights[-1]
    before = {s["stage"]: s["seconds"] / first["exposures"] for s in first["stages"]}
    after = {s["stage"]: s["seconds"] / last["exposures"] for s in last["stages"]}
    whole = {"night": last["seconds"] / last["exposures"] / (first["seconds"] / first["exposures"])}
    return {name: round(after[name] / before[name], 3) for name in before if name in after} | {
        name: round(ratio, 3) for name, ratio in whole.items()
    }


def missed(nights: Sequence[Record]) -> list[str]:
    """The aims that were not reached."""
    found, ratio = [], per_row(nights)["night"]
    if ratio > PER_ROW:
        found.append(f"time per exposure grew {ratio} times, aim {PER_ROW}")
    peak = max(n["peak_memory_gb"] for n in nights)
    if peak > MEMORY_GB:
        found.append(f"peak memory {peak} GB, aim {MEMORY_GB:.0f}")
    return found


def page(report: Record) -> str:
    """scale.md."""
    nights, grown = report["nights"], report["per_row"]
    sizes = [f"{n['exposures']:,}" for n in nights]
    heads = [
        *(f"{size}, seconds" for size in sizes),
        "per exposure, last over first",
        *(f"{size}, GB" for size in sizes),
    ]
    peaks = " | ".join(str(n["peak_memory_gb"]) for n in nights)
    told = " · ".join(missed(nights)) or "both aims are met"
    lines = [
        "# A night on a cluster of two workers",
        "",
        f"`{report['command']}`, {report['machine']['started']}. {report['machine']['cores']} cores "
        f"({report['machine']['processor']}), load before {report['machine']['load_before']}.",
        "",
        "Every process counts: master, workers, executors and their Python, driver, training. One fit of one epoch",
        f"(`{' '.join(NIGHT)}`).",
        "",
        f"Aims: {MEMORY_GB:.0f} GB, and a time per exposure at most {PER_ROW} times that of the smallest size: {told}.",
        "",
        f"| | {' | '.join(heads)} |",
        f"| --- |{' ---: |' * len(heads)}",
        f"| whole night | {' | '.join(str(n['seconds']) for n in nights)} | {grown['night']} | {peaks} |",
    ]
    for number, stage in enumerate(s["stage"] for s in nights[-1]["stages"]):
        of_each = [n["stages"][number] for n in nights]
        cells = [*(f"{s['seconds']:.1f}{_spilled(s)}" for s in of_each), str(grown.get(stage, ""))]
        cells += [str(s["peak_memory_gb"]) for s in of_each]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _spilled(stage: Record) -> str:
    disk = stage["spilled_disk"]
    return f" ({disk / 1e9:.1f} GB spilled)" if disk else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="exposures, ascending")
    parser.add_argument("--report", type=Path, default=Path("reports"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--work", metavar="DIR", help="where warehouses go, one at a time (default: a temporary folder)"
    )
    args = parser.parse_args()
    runner.set_up_logging()
    report: Record = {"command": " ".join(["python -m tests.bench.scale", *sys.argv[1:]]), "machine": machine()}
    work = Path(tempfile.mkdtemp(prefix="almmta-scale-", dir=args.work))
    try:
        nights = []
        for size in args.sizes:
            nights.append(night(work, size))
            shutil.rmtree(work / f"size-{size}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report |= {"nights": nights, "per_row": per_row(nights)}
    args.report.mkdir(parents=True, exist_ok=True)
    (args.report / "scale.json").write_text(json.dumps(report, indent=1) + "\n")
    (args.report / "scale.md").write_text(page(report))
    print(page(report))
    sys.exit("\n".join(missed(nights)) or None)


if __name__ == "__main__":
    main()
