"""A tracking server that is killed at the beginning, in the middle and at the end of what a night has to do with it."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from almmta_spark import config, night_log, runner, tracking
from jobs import nightly, simulate
from tests import quick_java
from tests.e2e.conftest import DS
from tests.mlflow_server import Server

pytestmark = pytest.mark.slow  # two small nights
SETTINGS = (
    "report_file=",
    "simulator.num_users=800",
    "training.batch_size=128",
    "training.variants=[latent]",
    "training.placebos=[]",
    "training.ensemble.repeats=1",
    "attribution.baselines=[last_touch]",
)
fingerprints = runpy.run_path("docker/same_tables.py")["fingerprints"]


def settings_of(folder, *settings):
    return config.load("conf/test.yaml", [f"warehouse={folder}/warehouse", *SETTINGS, *settings])


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """A small night that nothing has disturbed; its logs alone lie in a folder beside it."""
    root = tmp_path_factory.mktemp("undisturbed")
    conf = settings_of(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runner.run_stage(runner.Night(spark, conf, DS, "simulate"), simulate.run)
        shutil.copytree(conf.warehouse, root / "logs")
        nightly.run_night(spark, conf, DS)
    return conf


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


def runs(conf):
    """Names and states of the night's runs in MLflow, stages not among them, the oldest first."""
    client = mlflow.MlflowClient(conf.tracking.uri)
    experiment = client.get_experiment_by_name(f"almmta/{conf.env}/nightly")
    found = client.search_runs([experiment.experiment_id], "tags.verdict != ''", order_by=["attributes.start_time"])
    return [(run.info.run_name, run.info.status) for run in found]


def pointed_at(conf, alias):
    return tracking.Tracker.connect(conf).pointed_at(tracking.model_name(conf), alias)


@pytest.mark.parametrize(
    ("killed_at", "left", "ended"), [("log_stages", "RUNNING", "KILLED"), ("register_model", "FINISHED", "FINISHED")]
)
def test_a_night_that_mlflow_has_a_part_of_is_logged_whole_by_the_next_run(
    spark, night, tmp_path, server, monkeypatch, killed_at, left, ended
):
    """In the middle of its run, and at its end, when MLflow has all of it and we have not heard so."""
    shutil.copytree(night.warehouse, tmp_path / "warehouse")
    conf = settings_of(tmp_path, f"tracking.uri={server.uri}")
    seen = night_log.versions(spark, conf, DS)
    log = getattr(tracking, killed_at)

    def dies(*args):
        if killed_at == "register_model":
            log(*args)
        server.kill()
        return log(*args)

    with monkeypatch.context() as patch:
        patch.setattr(tracking, killed_at, dies)
        done = nightly.run_night(spark, conf, DS)
    assert [s["stage"] for s in done["stages"] if not s["skipped"]] == ["simulate"] and done["mlflow"] is None
    assert night_log.versions(spark, conf, DS) == seen and tracking.waiting(spark, conf) == [DS]

    nightly.log_waiting(spark, conf, [])  # still down: said, and no night is kept from running
    assert tracking.waiting(spark, conf) == [DS]
    server.start()
    assert runs(conf) == [(f"night {DS}", left)]
    nightly.log_waiting(spark, replace(conf, lateness_nights=3), [])
    assert runs(conf) == [(f"night {DS}", ended), (f"night {DS}", "FINISHED")]
    assert tracking.waiting(spark, conf) == [] and night_log.versions(spark, conf, DS) == seen
    whole = tracking.night_run(conf, DS)
    assert whole.data.tags["config_sha"] == config.digest(conf), "the settings that it ran with"
    assert whole.data.metrics == tracking.night_run(night, DS).data.metrics
    assert pointed_at(conf, tracking.CANDIDATE)["model_ds"] == DS


def test_an_earlier_night_that_is_logged_late_does_not_become_the_candidate(spark, night, tmp_path, server):
    shutil.copytree(night.warehouse, tmp_path / "warehouse")
    conf = settings_of(tmp_path, f"tracking.uri={server.uri}")
    nightly.run_night(spark, conf, DS)
    name, client = tracking.model_name(conf), mlflow.MlflowClient(server.uri)
    client.set_model_version_tag(name, "1", "model_ds", "2026-01-16")  # as a later night leaves it
    tracking.wait(spark, conf, DS, {"config_sha": "as it was", "settings": {"seed": 0}})
    nightly.log_waiting(spark, conf, [])
    assert [v.version for v in client.search_model_versions(f"name = '{name}'")] == ["2", "1"]
    assert client.get_model_version_by_alias(name, tracking.CANDIDATE).version == "1"
    assert tracking.night_run(conf, DS).data.params == {"seed": "0"}


def test_a_night_whose_server_dies_as_it_begins_has_the_undisturbed_tables_and_is_logged_by_the_rerun(
    spark, night, tmp_path, server, monkeypatch
):
    shutil.copytree(Path(night.warehouse).with_name("logs"), tmp_path / "warehouse")
    conf = settings_of(tmp_path, f"tracking.uri={server.uri}")

    def dies(stage, ingest=nightly.STAGES["ingest"]):
        server.kill()
        ingest(stage)

    with monkeypatch.context() as patch:
        patch.setitem(nightly.STAGES, "ingest", dies)
        assert nightly.run_night(spark, conf, DS)["mlflow"] is None
    tables = fingerprints(Path(night.warehouse), DS)
    assert tables and fingerprints(Path(conf.warehouse), DS) == tables
    assert tracking.waiting(None, conf) == [DS]

    first = rerun(conf)
    assert f"night {DS}: its tables are published; MLflow at {server.uri} has not taken the night's log" in first
    assert "MLflow   did not take this night's log" in first
    server.start()
    again = rerun(conf)
    skipped = [stage for stage in nightly.STAGES if f" {stage}: unchanged, skipped" in again]
    assert skipped == [stage for stage in nightly.STAGES if stage != "publish"]
    assert tracking.night_run(conf, DS).data.metrics == tracking.night_run(night, DS).data.metrics
    assert fingerprints(Path(conf.warehouse), DS) == tables and tracking.waiting(None, conf) == []


def rerun(conf):
    """The night by its command, which must end well; what it says."""
    settings = [f"warehouse={conf.warehouse}", f"tracking.uri={conf.tracking.uri}", *SETTINGS]
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.nightly", "--conf", "conf/test.yaml", "--ds", DS, *options]
    here = os.environ | {"JAVA_TOOL_OPTIONS": quick_java.OPTIONS}
    done = subprocess.run(command, env=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout
