"""Logging a night to a real MLflow tracking store."""

import socket
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest

from almmta_spark import config, redaction, tables, tracking
from almmta_spark.tracking import Tracker

MANIFEST = {
    "stage": "train",
    "ds": "2026-01-15",
    "started": "2026-01-16T01:00:00+00:00",
    "seconds": 12.5,
    "spark": {"tasks": 9, "shuffle_write_bytes": 5_000, "skew": None},
    "inputs": {"exposures": {"days": ["2026-01-14"], "fingerprint": "abc"}},
    "outputs": {"journeys": {"rows": 7, "checksum": "1", "version": "v"}},
    "notes": {"history": {"latent": [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}]}},
}


DIES_AMONG_THE_STATEMENTS_THAT_MAKE_THE_STORE = """
import os, sys
from dataclasses import replace
from sqlalchemy import event
from sqlalchemy.engine import Engine
from almmta_spark import config, tracking
seen = []

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    if seen and seen[-1].startswith("ALTER") and "alembic_version" in statement:  # changed, and not told yet
        os._exit(9)
    seen.append(statement.strip())

tracking.Tracker.connect(replace(config.Config(), warehouse=sys.argv[1]))
"""


@pytest.fixture(scope="module")
def tracker(tmp_path_factory):
    """One SQLite store for the module: making its tables takes MLflow seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        root = tmp_path_factory.mktemp("tracking")
        yield Tracker.connect(replace(config.Config(), warehouse=str(root / "warehouse"), env="test"))


def test_a_night_is_a_parent_with_a_child_run_a_stage(tracker):
    with tracker.run("night", {"data_date": "2026-01-15"}) as parent:
        tracking.log_stages(tracker, parent, [MANIFEST], {"data_date": "2026-01-15"})
        parent.end()
    runs = tracker.client.search_runs([tracker.experiment_id])
    (child,) = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.run_id]
    assert (child.info.run_name, child.info.status) == ("train", "FINISHED")
    assert child.info.end_time - child.info.start_time == 12_500
    assert child.data.metrics["rows_out/journeys"] == 7
    cost = {name: value for name, value in child.data.metrics.items() if name.startswith("spark/")}
    assert cost == {"spark/tasks": 9, "spark/shuffle_write_bytes": 5_000}
    losses = tracker.client.get_metric_history(child.info.run_id, "latent/loss")
    assert [(m.step, m.value) for m in losses] == [(0, 2.0), (1, 1.0)]


def test_the_attribution_table_is_a_dataset_without_rows(tracker):
    with tracker.run("night", {}) as run:
        run.dataset(tables.ATTRIBUTION, "/warehouse/attribution", rows=5, digest="d" * 50)
        run.end()
    inputs = tracker.client.get_run(run.run_id).inputs.dataset_inputs
    assert [i.dataset.name for i in inputs] == ["attribution"]
    assert '"num_rows": 5' in inputs[0].dataset.profile and "removal_effect" in inputs[0].dataset.schema


def test_undefined_figures_are_left_out_not_zero(tracker):
    with tracker.run("night", {}) as run:
        run.metrics({"known": 1.5, "none": None, "nan": float("nan")})
        run.table("auuc", pd.DataFrame({"a": [1]}))
        run.end()
    assert tracker.client.get_run(run.run_id).data.metrics == {"known": 1.5}
    assert [a.path for a in tracker.client.list_artifacts(run.run_id, "tables")] == ["tables/auuc.csv"]


def test_a_run_that_breaks_is_failed(tracker):
    with pytest.raises(RuntimeError), tracker.run("night", {}) as run:
        raise RuntimeError("boom")
    assert tracker.client.get_run(run.run_id).info.status == "FAILED"


def test_what_a_killed_run_left_open_is_ended_and_another_nights_run_is_not(tracker):
    def left_open(ds):
        return tracker.client.create_run(tracker.experiment_id, tags={"data_date": ds}).info.run_id

    killed, elsewhere = left_open("2026-01-17"), left_open("2026-01-18")
    with tracker.run("night", {"data_date": "2026-01-17"}) as whole:
        whole.end()
    tracker.end_dead_runs("2026-01-17")
    statuses = [tracker.client.get_run(run_id).info.status for run_id in (killed, whole.run_id, elsewhere)]
    assert statuses == ["KILLED", "FINISHED", "RUNNING"]


@pytest.mark.long
def test_a_store_that_a_kill_kept_from_being_made_is_made_by_the_next_run(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    warehouse = str(tmp_path / "warehouse")
    command = [sys.executable, "-c", DIES_AMONG_THE_STATEMENTS_THAT_MAKE_THE_STORE, warehouse]
    assert subprocess.run(command, capture_output=True).returncode == 9
    assert not (tmp_path / "mlflow.db").exists()
    tracker = Tracker.connect(replace(config.Config(), warehouse=warehouse))
    assert tracker.client.get_experiment(tracker.experiment_id).name == "almmta/local/nightly"
    assert [path.name for path in tmp_path.glob("*mlflow*")] == ["mlflow.db"]


def test_settings_are_flat_as_params():
    settings = {"spark": {"fs.s3a.secret.key": "abc"}, "uri": "postgresql://me:pw@host/db", "seed": 1, "signals": {}}
    shown = tracking.flat(redaction.redacted(settings))
    assert shown == {
        "spark.fs.s3a.secret.key": "***",
        "uri": "postgresql://***@host/db",
        "seed": "1",
        "signals": "{}",
    }


@pytest.mark.parametrize(
    "key",
    [
        "fs.s3a.access.key",
        "fs.s3a.secret.key",
        "fs.azure.account.key.logs.dfs.core.windows.net",
        "fs.azure.sas.container.logs.blob.core.windows.net",
        "fs.azure.account.oauth2.client.secret",
        "fs.gs.auth.service.account.private.key",
        "spark.some.api-key",
    ],
)
def test_a_clouds_secrets_are_hidden_in_settings_and_in_messages(key):
    assert redaction.redacted({"spark": {f"spark.hadoop.{key}": "abc"}, "key": "uploads"}) == {
        "spark": {f"spark.hadoop.{key}": "***"},
        "key": "uploads",
    }
    assert redaction.text(f"cannot set {key}=abc, try again") == f"cannot set {key}=***, try again"


def test_signatures_and_bearers_are_hidden_in_messages():
    said = "https://logs.blob.core.windows.net/days?sv=2024&sig=a%2Bb%3D&se=1: 403, Authorization: Bearer ey.J-x_ sent"
    hidden = "https://logs.blob.core.windows.net/days?sv=2024&sig=***&se=1: 403, Authorization: Bearer *** sent"
    assert redaction.text(said) == hidden


def test_a_tracking_uri_is_shown_without_credentials_and_without_the_machines_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking.shown(f"sqlite:///{tmp_path}/runs/local/mlflow.db") == "sqlite:///runs/local/mlflow.db"
    assert tracking.shown("sqlite:////elsewhere/mlflow.db") == "sqlite:////elsewhere/mlflow.db"
    assert tracking.shown("http://mlflow.example:5000") == "http://mlflow.example:5000"
    assert tracking.shown("postgresql://me:p@ss@host:5432/db") == "postgresql://***@host:5432/db"
    assert tracking.shown("mysql://host/db?user=me&password=pw&ssl=1") == "mysql://host/db?user=me&password=***&ssl=1"


def test_equal_nights_have_equal_tags_and_another_input_changes_them():
    conf = config.Config()
    other = {**MANIFEST, "inputs": {"exposures": {"days": ["2026-01-14"], "fingerprint": "xyz"}}}
    sha = config.digest(conf)
    first, again, changed = (tracking.night_tags(sha, "2026-01-15", [m]) for m in (MANIFEST, MANIFEST, other))
    assert first == again and first["input_manifest_sha"] != changed["input_manifest_sha"]


def test_a_nights_run_is_found_by_its_date_the_newest_whole_one(tracker, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.uri)
    conf = replace(config.Config(), env="test")
    night = {"data_date": "2026-01-20", "verdict": "pass"}
    for name, start in (("first", 1), ("second", 2)):
        with tracker.run(name, night, start=start) as run:
            tracking.log_stages(tracker, run, [MANIFEST], {"data_date": "2026-01-20"})
            run.end()
    with pytest.raises(RuntimeError), tracker.run("half", night, start=3):
        raise RuntimeError("the server went away")
    assert tracking.night_run(conf, "2026-01-20").info.run_name == "second"
    with pytest.raises(ValueError, match=r"almmta/test/nightly has no run of night ds=2026-01-21: .*publish"):
        tracking.night_run(conf, "2026-01-21")
    with pytest.raises(ValueError, match=r"almmta/elsewhere/nightly has no run"):
        tracking.night_run(replace(conf, env="elsewhere"), "2026-01-20")
    assert tracker.client.get_experiment_by_name("almmta/elsewhere/nightly") is None  # it makes none


# ---- nights that wait ------------------------------------------------------------------------------------------------


def test_a_night_waits_with_its_settings_until_it_is_logged(tmp_path):
    conf = replace(config.Config(), warehouse=str(tmp_path))
    assert tracking.waiting(None, conf) == []
    for ds in ("2026-01-16", "2026-01-15"):
        tracking.wait(None, conf, ds, {"config_sha": ds})
    (tmp_path / "_unlogged" / ".ds=2026-01-17.json.0f").write_text("")  # left by a death while it was written
    assert tracking.waiting(None, conf) == ["2026-01-15", "2026-01-16"]
    assert tracking.waits_with(None, conf, "2026-01-15") == {"config_sha": "2026-01-15"}
    tracking.waits_no_more(None, conf, "2026-01-15")
    assert tracking.waiting(None, conf) == ["2026-01-16"]
    with pytest.raises(ValueError, match=r"ds=2026-01-15 does not wait to be logged: run jobs/publish\.py"):
        tracking.waits_with(None, conf, "2026-01-15")


def test_a_server_that_does_not_answer_is_said_without_its_password(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    said = rf"^MLflow at http://\*\*\*@127\.0\.0\.1:{port} has not taken the night's log \(.*refused"
    with pytest.raises(tracking.NotLogged, match=said) as refused, tracking.taken(config.Config()):
        Tracker.connect(config.Config())
    assert "secret" not in str(refused.value)


def test_what_a_store_or_a_disk_refuses_is_not_logged_and_our_own_mistakes_are_errors():
    for error, expected in ((OSError("No space left on device"), tracking.NotLogged), (TypeError(), TypeError)):
        with pytest.raises(expected), tracking.taken(config.Config()):
            raise error


def test_an_alias_points_at_the_version_that_it_was_given(tracker):
    assert tracker.pointed_at("nothing", "candidate") == {}
    tracker.client.create_registered_model("a model")
    assert tracker.pointed_at("a model", "candidate") == {}
    made = tracker.client.create_model_version("a model", "file:///nowhere", tags={"model_ds": "2026-01-15"})
    tracker.client.set_registered_model_alias("a model", "candidate", made.version)
    assert tracker.pointed_at("a model", "candidate") == {"model_ds": "2026-01-15"}
