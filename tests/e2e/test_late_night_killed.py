"""Rows come late, the night that they belong to is run again before the next one, and that run is killed."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from almmta_spark import config, manifest, reruns, spark_tables, tables
from almmta_spark.simulator.write_logs import simulate
from jobs import nightly
from tests import quick_java

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # seven small nights

FIRST, SECOND = "2026-01-15", "2026-01-16"
LATE_DAY = "2026-01-14"
SETTINGS = (
    "env=late",
    "lateness_nights=1",
    "pool_nights=2",
    "simulator.num_users=800",
    "simulator.num_nights=5",
    "training.batch_size=128",
    "training.variants=[latent]",
    "training.placebos=[]",
    "training.ensemble.repeats=1",
    "attribution.baselines=[last_touch]",
    "gate.must_pass=[]",  # so small a night warns, and would have no champion
)
SECONDS = 600
fingerprints = runpy.run_path("docker/same_tables.py")["fingerprints"]


def settings_of(folder):
    return config.load("conf/test.yaml", [f"warehouse={folder}/warehouse", *SETTINGS])


def start(folder, ds, log):
    settings = [part for setting in (f"warehouse={folder}/warehouse", *SETTINGS) for part in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.nightly", "--conf", "conf/test.yaml", "--ds", ds, *settings]
    here = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    here["JAVA_TOOL_OPTIONS"] = quick_java.OPTIONS
    with open(folder / log, "w") as said:
        return subprocess.Popen(command, env=here, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)


def run(folder, ds, log):
    """What the command says, which must end well."""
    assert start(folder, ds, log).wait(SECONDS) == 0, (folder / log).read_text()[-3000:]
    return (folder / log).read_text()


def kill_in(folder, ds, stage, log):
    """Kills the command as soon as a stage of the night has begun to be made again."""
    manifest_of = Path(manifest.url(settings_of(folder), FIRST, stage))
    assert manifest_of.exists()
    job, give_up = start(folder, ds, log), time.monotonic() + SECONDS
    while manifest_of.exists():
        assert job.poll() is None and time.monotonic() < give_up, (folder / log).read_text()[-3000:]
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def models(folder, ds):
    """Which model speaks for a night, and whether its own passed."""
    made = json.loads(Path(manifest.url(settings_of(folder), ds, "gate")).read_text())["made"]
    return {look: found for look, found in made.items() if look.split(" ")[0] in ("served", "passed")}


@pytest.fixture(scope="module")
def logs(spark, tmp_path_factory):
    """A folder with a warehouse of logs, and the part of a day's exposures that comes late."""
    folder = tmp_path_factory.mktemp("logs")
    conf = settings_of(folder)
    plain = replace(conf.simulator, truth_share=0.0, withholding_share=0.0, randomised_users=0)
    for table, day, rows in simulate(spark, plain, conf.seed, SECOND):
        if table in tables.INPUTS:
            spark_tables.write_input(rows, conf, table, day)
    day = Path(spark_tables.folder(conf, tables.EXPOSURES, LATE_DAY))
    rows = pq.read_table(day)
    for file in day.glob("*.parquet"):
        file.unlink()
    cut = rows.num_rows * 9 // 10
    pq.write_table(rows.slice(0, cut), day / "a.parquet")
    pq.write_table(rows.slice(cut), folder / "late.parquet")
    return folder


def test_a_killed_rerun_of_a_late_night_is_taken_up_and_the_night_after_it_follows(logs, tmp_path):
    for name in ("live", "anew"):
        shutil.copytree(logs / "warehouse", tmp_path / name / "warehouse")
    live, anew = tmp_path / "live", tmp_path / "anew"
    late_day = Path("warehouse", tables.EXPOSURES.name, f"ds={LATE_DAY}", "late.parquet")
    shutil.copy(logs / "late.parquet", anew / late_day)
    for ds in (FIRST, SECOND):
        run(live, ds, f"{ds}.log"), run(anew, ds, f"{ds}.log")
    undisturbed = {ds: fingerprints(anew / "warehouse", ds) for ds in (FIRST, SECOND)}
    before = fingerprints(live / "warehouse", FIRST)
    assert before != undisturbed[FIRST]

    shutil.copy(logs / "late.parquet", live / late_day)
    kill_in(live, SECOND, "train", "killed.log")
    assert fingerprints(live / "warehouse", FIRST) == before, "readers see the night as it was"
    conf = settings_of(live)
    assert reruns.due(None, conf, SECOND) == {FIRST: reruns.UNFINISHED}

    said = run(live, SECOND, "again.log")
    assert f"night {FIRST} {reruns.UNFINISHED}" in said and "ingest: unchanged, skipped" in said
    assert {ds: fingerprints(live / "warehouse", ds) for ds in (FIRST, SECOND)} == undisturbed
    assert [models(live, ds) for ds in (FIRST, SECOND)] == [models(anew, ds) for ds in (FIRST, SECOND)]
    assert reruns.due(None, conf, SECOND) == {}
    last = run(live, SECOND, "once_more.log")
    assert all(f"{stage}: unchanged, skipped" in last for stage in nightly.STAGES)
