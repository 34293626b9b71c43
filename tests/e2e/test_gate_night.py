"""A night whose candidate is refused, killed between the gate and the attribution, and run again; every part real."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from almmta_spark import manifest, runner, spark_tables, tables
from jobs import attribute, nightly, simulate
from tests import spoilt
from tests.e2e.conftest import DS

pytestmark = pytest.mark.slow  # three minutes
SECOND = "2026-01-18"
KILLED_AT_ATTRIBUTE = """
import os
from jobs import nightly
nightly.STAGES["attribute"] = lambda night: os._exit(9)
nightly.main()
"""


@pytest.fixture(scope="module")
def conf(spark, night, tmp_path_factory):
    """The night of all end-to-end tests in a warehouse of its own, trained for longer and let through by a gate that
    minds no warning; and the logs of another, whose outcome proxies are joined to the wrong users."""
    warehouse = tmp_path_factory.mktemp("gate") / "warehouse"
    shutil.copytree(night.warehouse, warehouse)
    conf = replace(night, warehouse=str(warehouse), report_file="")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        longer = replace(conf.training, epochs=15, batch_size=128)
        first = nightly.run_night(spark, replace(conf, training=longer, gate=replace(conf.gate, must_pass=())), DS)
        assert first["gate"]["gate"] == "passed", first["gate"]["gate_reasons"]
        runner.run_stage(runner.Night(spark, conf, SECOND, "simulate"), simulate.run)
        spoilt.permute_proxies(spark, conf, SECOND)
        settings = [f"warehouse={warehouse}", f"training.num_ranks={conf.training.num_ranks}", "report_file="]
        options = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-c", KILLED_AT_ATTRIBUTE, "--conf", "conf/test.yaml", "--ds", SECOND, *options]
        assert subprocess.run(command, capture_output=True).returncode == 9
        assert spark_tables.published(spark, conf, tables.ATTRIBUTION, SECOND) is None
        done = nightly.run_night(spark, conf, SECOND)
    return conf, done


def test_after_the_kill_the_stages_up_to_the_gate_are_not_run_again(conf):
    skipped = [s["stage"] for s in conf[1]["stages"] if s["skipped"]]
    assert skipped == list(nightly.STAGES)[: list(nightly.STAGES).index("attribute")]


def test_the_champion_speaks_through_the_same_stage(spark, conf):
    conf, done = conf
    judged = done["gate"]
    assert judged["gate"] == "refused" and any("placebo_proxies" in reason for reason in judged["gate_reasons"])
    place = manifest.Place(spark, conf)
    champion, candidate = (place.model(ds, "latent") for ds in (DS, SECOND))
    assert judged["speaks"] == {"ds": DS, "model_version": champion} and champion != candidate
    rows = spark_tables.read(spark, conf, tables.ATTRIBUTION, SECOND)
    found = {(r["method"], r["model_version"]) for r in rows.select("method", "model_version").distinct().collect()}
    models = {pair for pair in found if pair[0] in conf.training.variants}
    assert models == {("latent", champion), ("backdoor", place.model(SECOND, "backdoor"))}
    touches = spark_tables.read(spark, conf, tables.JOURNEYS, SECOND).selectExpr("sum(size(touches))").first()[0]
    assert rows.where("method = 'latent'").count() == touches


def test_the_placebos_of_a_model_that_does_not_speak_are_no_checks_of_the_night(conf):
    assert not [d["name"] for d in conf[1]["diagnostics"] if d["name"].startswith("placebo")]


def test_a_night_that_was_never_killed_has_the_same_rows(spark, conf):
    conf, _ = conf
    before = {t: spark_tables.published(spark, conf, t, SECOND).checksum for t in (tables.GATE, tables.ATTRIBUTION)}
    for name in ("gate", "attribute"):
        runner.run_stage(runner.Night(spark, conf, SECOND, name), nightly.STAGES[name])
    assert {t: spark_tables.published(spark, conf, t, SECOND).checksum for t in before} == before
    assert attribute.speaking_models(runner.Night(spark, conf, SECOND, "attribute"))[0].version == (
        manifest.Place(spark, conf).model(DS, "latent")
    )


def test_the_run_and_the_page_say_the_reasons_and_the_champion_keeps_its_alias(conf):
    conf, done = conf
    mlflow.set_tracking_uri(done["mlflow"]["uri"])
    store = mlflow.MlflowClient(done["mlflow"]["uri"])
    tags = store.get_run(done["mlflow"]["run_id"]).data.tags
    reasons = done["gate"]["gate_reasons"]
    assert tags["gate"] == "refused" and [tags[f"gate_reason_{n + 1}"] for n in range(len(reasons))] == reasons
    assert tags["model_version"] == done["gate"]["speaks"]["model_version"] and tags["model_ds"] == DS
    nights = {alias: store.get_model_version_by_alias("almmta_test", alias).tags for alias in ("candidate", "champion")}
    assert (nights["candidate"]["data_date"], nights["champion"]["data_date"]) == (SECOND, DS)
    assert (nights["candidate"]["gate"], nights["champion"]["gate"]) == ("refused", "passed")
    assert nights["champion"]["model_version"] == done["gate"]["speaks"]["model_version"]
    text = Path(conf.warehouse, "_reports", f"ds={SECOND}", "report.html").read_text()
    header = " ".join(re.sub(r"<[^>]+>", " ", text.partition("</style>")[2].partition("</header>")[0]).split())
    assert f"the champion of {DS} speaks in its place" in header and f"(champion of {DS})" in header
    assert all(reason.partition(" (`")[0] in header for reason in reasons if "'" not in reason)
