"""What every part of the benchmark shares: a process of its own, its peak memory, settings, machine and versions."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from almmta_spark import config, java_home, runner, spark_tables, tables
from almmta_spark.config import Config
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.summary import peak_memory

Record = dict[str, Any]
"""JSON-able figures of one part."""

DS = "2026-01-15"
EXPOSURES_PER_USER = 5.9
"""Of the default world; what a night really had is read from its logs."""
ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("pyspark", "pyarrow", "petastorm", "torch", "numpy")


def alone(part: str, function: Callable[..., Record], *args: Any) -> Record:
    """The function's record with peak_memory_gb, from a process of its own (with its JVM and workers)."""
    runner.log.info("== %s", part)
    clock = time.monotonic()
    context = multiprocessing.get_context("spawn")
    answer, question = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(question, function, args))
    process.start()
    question.close()  # so that the end of the process is the end of the pipe
    try:
        record: Record = answer.recv()
    except EOFError:
        raise RuntimeError(f"benchmark part {part!r} ended without a result: its error stands above") from None
    finally:
        process.join()
    runner.log.info("   %.1f s, peak memory %.2f GB", time.monotonic() - clock, record["peak_memory_gb"])
    return {"part": part} | record


def _measured(question: Connection, function: Callable[..., Record], args: Sequence[Any]) -> None:
    runner.set_up_logging()
    with peak_memory(0.5) as memory:
        record = function(*args)
    question.send(record | {"peak_memory_gb": round(memory["peak_gb"], 2)})


def settings(work: str, name: str, size: int) -> Config:
    """conf/local.yaml with `size` exposures in a warehouse of its own and room for 10M of them in 3 GB of heap."""
    overrides = [
        f"warehouse={work}/{name}/warehouse",
        f"simulator.num_users={max(1, round(size / EXPOSURES_PER_USER))}",
        "simulator.truth_share=0",
        "spark.spark.driver.memory=3g",
        'spark.spark.sql.shuffle.partitions="8"',
        "ingest.user_buckets=8",
        f"spark.spark.local.dir={work}/spark",
    ]
    return config.load(ROOT / "conf" / "local.yaml", overrides)


def training_table(conf: Config) -> tuple[str, ExampleSpec]:
    """(folder, spec) of the night's published training examples, without Spark."""
    where = (None, conf, tables.TRAINING_EXAMPLES, DS)
    return spark_tables.path(*where), ExampleSpec.from_dict(spark_tables.meta(*where)["spec"])


def seconds_of(action: Callable[[], object]) -> float:
    clock = time.perf_counter()
    action()
    return time.perf_counter() - clock


def machine() -> Record:
    """Cores, memory, versions, and how busy the machine was before the benchmark began."""
    java_home.ensure()
    packages = {name: version(name) for name in _PACKAGES}
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(terse=True),
        "load_before": round(os.getloadavg()[0], 2),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), "java": _java_version(), **packages},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _java_version() -> str:
    """What `java -version` says first: openjdk version "17.0.15" 2025-04-15."""
    said = subprocess.run([Path(os.environ["JAVA_HOME"], "bin", "java"), "-version"], capture_output=True, text=True)
    found = re.search(r'version "([^"]+)"', said.stderr)
    return found[1] if found else "unknown"
