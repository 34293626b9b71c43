"""Two runs of one night at once, by clocks that agree and by clocks that do not; the first is a process of its own."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from almmta_spark import config, night_log, runner, spark_tables, tables
from almmta_spark.training.main import _python_path
from jobs import build_journeys, ingest, simulate
from tests import quick_java

pytestmark = pytest.mark.slow

DS = "2026-01-15"
SETTINGS = ["simulator.num_users=300", "ingest.user_buckets=2", "publishing.wait_minutes=10"]
STAGES = {"ingest": ingest.run, "build_journeys": build_journeys.run}
FIRST = """
import sys, time
from pathlib import Path
from almmta_spark import config, night_log, runner
from jobs import build_journeys, ingest
warehouse, ds, go, *settings = sys.argv[1:]
runner.set_up_logging()
conf = config.load("conf/test.yaml", [f"warehouse={warehouse}", *settings])
spark = runner.session(conf, "two runs")
try:
    with night_log.Claim(spark, conf, ds) as claim:
        for name, stage in {"ingest": ingest.run, "build_journeys": build_journeys.run}.items():
            runner.run_if_changed(runner.Night(spark, conf, ds, name, claim), stage)
        while not Path(go).exists():
            time.sleep(0.1)
        claim.publish()
except (ValueError, night_log.ClaimLost) as error:
    runner.fail(error)
"""


def settings_of(warehouse):
    return config.load("conf/test.yaml", [f"warehouse={warehouse}", *SETTINGS])


def run(spark, conf, ahead=0):
    """The night by a clock that is so many seconds fast; the stages that were not skipped."""
    clock = lambda: datetime.now(UTC) + timedelta(seconds=ahead)  # noqa: E731
    with night_log.Claim(spark, conf, DS, clock) as claim:
        nights = [runner.Night(spark, conf, DS, name, claim) for name in STAGES]
        ran = [night.stage for night in nights if runner.run_if_changed(night, STAGES[night.stage])]
        claim.publish()
    return ran


def fingerprints(conf):
    found = {table.name: spark_tables.published(None, conf, table, DS) for table in tables.OUTPUTS}
    return {name: there.fingerprint for name, there in found.items() if there}


@pytest.fixture(scope="module")
def logs(spark, tmp_path_factory):
    """A warehouse with the logs of a night, and what an undisturbed run makes of them."""
    root = tmp_path_factory.mktemp("two")
    conf = settings_of(root / "logs")
    runner.run_stage(runner.Night(spark, conf, DS, "simulate"), simulate.run)
    shutil.copytree(root / "logs", root / "alone")
    alone = settings_of(root / "alone")
    assert run(spark, alone) == list(STAGES)
    return root / "logs", fingerprints(alone)


@pytest.fixture
def first(logs, tmp_path):
    """A run that has claimed the night, and publishes it once a file `go` is there: its process and its log."""
    shutil.copytree(logs[0], tmp_path / "warehouse")
    command = [sys.executable, "-c", FIRST, str(tmp_path / "warehouse"), DS, str(tmp_path / "go"), *SETTINGS]
    here = os.environ | {"PYTHONPATH": _python_path(), "JAVA_TOOL_OPTIONS": quick_java.OPTIONS}
    log = tmp_path / "first.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=here, stdout=out, stderr=out)
    deadline = time.monotonic() + 600
    while "ingest: it has not run" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
    yield process, log
    process.kill()
    process.wait()


@pytest.mark.timeout(1800)
def test_a_second_run_waits_for_the_first_and_finds_all_done(spark, logs, first, tmp_path, caplog):
    (tmp_path / "go").write_text("")
    with caplog.at_level(logging.INFO, "almmta"):
        assert run(spark, settings_of(tmp_path / "warehouse")) == []
    assert f"night ds={DS} is being written by process {first[0].pid} on " in caplog.text
    assert first[0].wait(600) == 0, first[1].read_text()[-3000:]
    assert fingerprints(settings_of(tmp_path / "warehouse")) == logs[1]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ahead", [3600, -3600])
def test_by_a_clock_that_is_an_hour_wrong_the_second_run_takes_over_and_the_first_publishes_nothing(
    spark, logs, first, tmp_path, ahead
):
    conf = settings_of(tmp_path / "warehouse")
    run(spark, conf, ahead)
    seen, found = night_log.versions(None, conf, DS), fingerprints(conf)
    (tmp_path / "go").write_text("")
    assert first[0].wait(600) == 2
    assert f"error: night ds={DS} was taken over by another run, which has ended" in first[1].read_text()
    assert night_log.versions(None, conf, DS) == seen and found == fingerprints(conf) == logs[1]
    run(spark, conf)
    assert fingerprints(conf) == logs[1], "nor does what the first has left count later"
