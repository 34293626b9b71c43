"""Where the machine's clock is set to does not matter, nor that its day had 23 hours."""

import json
import os
import subprocess
import sys

import pytest

from almmta_spark.training.main import _python_path

pytestmark = pytest.mark.slow

DS = "2026-03-09"
"""The day before is that on which New York's clocks go forward."""
NIGHT = """
import json, sys, time
from almmta_spark import config, manifest, runner
from jobs import build_journeys, fit_propensity, ingest, simulate
stages = {"simulate": simulate.run, "ingest": ingest.run, "build_journeys": build_journeys.run}
settings = [f"warehouse={sys.argv[1]}", "simulator.num_users=300", "ingest.user_buckets=2"]
conf = config.load("conf/test.yaml", settings)
spark = runner.session(conf, "zone")
done = [runner.run_stage(runner.Night(spark, conf, sys.argv[2], name), stage) for name, stage in stages.items()]
tables = {name: [table["rows"], table["checksum"]] for d in done[1:] for name, table in d["outputs"].items()}
print(json.dumps({"zone": time.tzname[0], "tables": tables, "accounting": done[-1]["notes"]["accounting"]}))
"""


def night_in(zone, warehouse):
    here = os.environ | {"TZ": zone, "PYTHONPATH": _python_path()}
    command = [sys.executable, "-c", NIGHT, str(warehouse), DS]
    done = subprocess.run(command, env=here, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_two_time_zones_and_a_day_of_23_hours_give_the_tables_of_utc(tmp_path):
    nights = {zone: night_in(zone, tmp_path / zone) for zone in ("UTC", "America/New_York", "Pacific/Kiritimati")}
    assert [n.pop("zone") for n in nights.values()] == ["UTC", "EST", "+14"], "the machine's clock was set"
    assert nights["America/New_York"] == nights["UTC"] == nights["Pacific/Kiritimati"]
    assert nights["UTC"]["tables"]["journeys"][0] > 100
