"""Nobody's id leaves the warehouse: all that a whole night with pseudonyms wrote elsewhere is searched for ids."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from pyspark.sql import functions as F

from almmta_spark import config, runner, spark_tables, tables
from jobs import nightly, simulate
from tests.e2e.conftest import DS
from tests.pseudonyms import of

pytestmark = pytest.mark.slow  # a night of its own: three minutes

KEY = "a key that no other text of the night holds, 7160"
SECRET = "p4ssw0rd-of-a-store"
SMALL = (
    *("simulator.num_users=900", "simulator.truth_share=0", "simulator.randomised_users=0"),
    *("training.epochs=1", "training.variants=[latent]", "evaluation.bootstrap_replicates=5"),
    *("attribution.baselines=[last_touch]", "log_format=json", "report_file={root}/run.json"),
    *("warehouse={root}/warehouse", f"spark.spark.hadoop.fs.s3a.secret.key={SECRET}"),
)
NUMBER = re.compile(rb"-?\d{15,}")


def people(frame, *names):
    """Ids of people as platforms have them: any int64. Ours are hashes, so that finding one is no accident."""
    return frame.withColumns({name: F.xxhash64(F.lit(name), name) for name in names})


@pytest.fixture(scope="module")
def ran(spark, tmp_path_factory):
    """Logs whose users and authors have long ids, bad rows among them, and a night of them by the command that people
    type: its settings, what it said, and the raw ids."""
    root = tmp_path_factory.mktemp("names")
    settings = [setting.format(root=root) for setting in SMALL]
    conf = config.load("conf/test.yaml", settings)
    runner.run_stage(runner.Night(spark, conf, DS, "simulate"), simulate.run)
    raw = set()
    for table in tables.INPUTS:
        for day in spark_tables.input_days(spark, conf, table):
            names = [name for name in ("user_id", "author_id") if name in table.column_names]
            rows = people(spark_tables.read_day(spark, conf, table, day).drop("ds"), *names).localCheckpoint()
            if table == tables.EXPOSURES:
                rows = with_bad(rows)
            spark_tables.write_input(rows, conf, table, day)
            raw |= {row[0] for name in names for row in rows.select(name).distinct().collect()}
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.nightly", "--conf", "conf/test.yaml", "--ds", DS, *options]
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | {"ALMMTA_PSEUDONYM_KEY": KEY}
    said = watched([*command, "--set", "ingest.pseudonym_key=env:ALMMTA_PSEUDONYM_KEY"], environment, root / "said")
    assert said.status == 0, said.stderr[-3000:].decode()
    return conf, said, raw - {None}


class Said(NamedTuple):
    """A command that has ended."""

    status: int
    stdout: bytes
    stderr: bytes
    listened: set[tuple[str, str]]
    """(Program, address) of the sockets on which its processes waited for others, looked at twice a second."""


def watched(command, environment, folder):
    folder.mkdir()
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = psutil.Popen(command, env=environment, stdout=out, stderr=err)
        listened = set()
        while process.poll() is None:
            listened |= set(listening(process))
            time.sleep(0.5)
    content = [(folder / name).read_bytes() for name in ("out", "err")]
    shutil.rmtree(folder)
    return Said(process.returncode, *content, listened)


def listening(process):
    for one in [process, *process.children(recursive=True)]:
        try:
            sockets = one.net_connections("inet")
            yield from ((one.name(), s.laddr.ip) for s in sockets if s.status == psutil.CONN_LISTEN)
        except psutil.Error:  # it has ended meanwhile
            continue


def with_bad(rows):
    """Some rows that are refused, for reasons that are known before and after the look-up."""
    few = rows.limit(5).localCheckpoint()
    nobody = few.withColumn("user_id", F.xxhash64(F.lit("nobody"), "item_id", "event_ts"))
    return rows.unionByName(nobody).unionByName(few.withColumn("item_id", F.lit(None).cast("bigint")))


def written(folder):
    """Files below a folder, by their path there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def outside(conf, said):
    """What people and MLflow get to see, by its name: terminal, summary, review, figures, manifests, MLflow's store."""
    root = Path(conf.warehouse).parent
    beside = {name: content for name, content in written(root).items() if not name.startswith("warehouse/")}
    kept = {
        name: content
        for folder in ("_reports", "_figures", "_manifests", "_nights")
        for name, content in written(Path(conf.warehouse, folder)).items()
    }
    return {"stdout": said.stdout, "stderr": said.stderr, **beside, **kept}


def test_tables_have_pseudonyms_and_no_id_that_came_in(spark, ran):
    conf, _, raw = ran
    known = {of(KEY.encode(), i) for i in raw}
    for table in (tables.JOURNEYS, tables.ATTRIBUTION, tables.TRAINING_EXAMPLES, tables.ACCEPTED_UPLOADS):
        found = {row[0] for row in spark_tables.read(spark, conf, table, DS).select("user_id").distinct().collect()}
        assert found and found <= known
    items = spark_tables.read(spark, conf, tables.ITEM_CLUSTERS, DS).select("author_id").distinct().collect()
    assert {row[0] for row in items} <= known
    refused = spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).collect()
    assert {row.reason for row in refused} >= {"null_item_id", "unknown_user"}
    ids = {json.loads(row.row)["user_id"] for row in refused}
    assert ids and ids <= known


def test_no_id_of_a_user_is_in_anything_that_leaves_the_warehouse(spark, ran):
    conf, said, raw = ran
    seen = outside(conf, said)
    assert {"stdout", "stderr", "run.json", "mlflow.db", "ds=2026-01-15/report.html"} <= set(seen)
    assert any(name.endswith("report.html") and name.startswith("mlartifacts") for name in seen)
    assert any(name.endswith("attribution_by_author.csv") for name in seen)
    attribution = spark_tables.read(spark, conf, tables.ATTRIBUTION, DS)
    users, journeys, touches = (
        {row[0] for row in attribution.select(name).distinct().collect()}
        for name in ("user_id", "journey_id", "touch_id")
    )
    assert min(map(len, (users, journeys, touches, raw))) > 500
    names = {str(i).encode() for ids in (raw, users, journeys, touches) for i in ids if abs(i) > 10**14}
    found = {name: hits for name, content in seen.items() if (hits := set(NUMBER.findall(content)) & names)}
    assert not found
    authors = {str(of(KEY.encode(), i)).encode() for i in raw}
    assert any(set(NUMBER.findall(content)) & authors for content in seen.values())  # what is looked for can be found


def test_neither_the_key_nor_a_secret_is_anywhere(ran):
    conf, said, _ = ran
    everything = {**outside(conf, said), **written(Path(conf.warehouse))}
    for secret in (KEY, SECRET):
        assert not [name for name, content in everything.items() if secret.encode() in content]


def test_every_line_on_stderr_that_is_ours_is_an_object_and_every_stage_is_done(ran):
    _, said, _ = ran
    lines = [json.loads(line) for line in said.stderr.decode().splitlines() if line.startswith("{")]
    done = [line["stage"] for line in lines if line.get("event") == "stage_done"]
    assert done == list(nightly.STAGES)
    cost = {line["stage"]: line for line in lines if line.get("event") == "stage_done"}
    assert cost["ingest"]["tasks"] > 0 and cost["build_journeys"]["rows"]["journeys"] > 500
    planned = [line["stage"] for line in lines if line.get("event") == "plan"]
    assert planned == list(nightly.STAGES)


def test_the_same_night_without_its_key_is_refused_before_anything_is_read(spark, ran, monkeypatch):
    conf, _, _ = ran
    monkeypatch.delenv("ALMMTA_PSEUDONYM_KEY", raising=False)
    wanted = replace(conf, ingest=replace(conf.ingest, pseudonym_key="env:ALMMTA_PSEUDONYM_KEY"))
    with pytest.raises(ValueError, match="the environment variable ALMMTA_PSEUDONYM_KEY must hold a key"):
        runner.Night(spark, wanted, DS, "ingest").read(tables.EXPOSURES, 24.0)


def test_sparks_driver_listens_on_loopback_alone(ran):
    """Torch's rendezvous cannot be told where to listen (README, Security)."""
    addresses = {address.removeprefix("::ffff:") for program, address in ran[1].listened if program == "java"}
    assert addresses == {"127.0.0.1"}
