"""A night logged by HTTP to MLflow's server on a real PostgreSQL, both killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import mlflow
import psutil
import pytest

from almmta_spark import config, runner, tracking
from jobs import nightly, publish
from tests.e2e.conftest import DS
from tests.e2e.test_cluster_scripts import DOCKER, LOOPBACK, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("postgres") or any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
        reason="there is no PostgreSQL here: apt-get install postgresql",
    ),
]


class Server:
    """The server of docker/start-mlflow.sh, in a folder that the user postgres can reach, unlike pytest's."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"MLFLOW_DIR": folder, "BIN": Path(sys.executable).parent, "MLFLOW_PORT": self.port}
        own = {
            "PGPORT": free_port(),
            "MLFLOW_WORKERS": 1,
            "TIMEOUT": 400,
            "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow:*,127.0.0.1:*",
        }
        kept = {k: v for k, v in os.environ.items() if k != "PGHOST"}
        self.env = kept | {k: str(v) for k, v in (settings | own).items()}

    def script(self, name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([DOCKER / name], env=self.env, capture_output=True, text=True, timeout=500)

    def start(self) -> None:
        done = self.script("start-mlflow.sh")
        assert done.returncode == 0, done.stderr
        assert f"{self.url} on PostgreSQL at 127.0.0.1" in done.stdout

    def processes(self) -> list[psutil.Process]:
        daemons = [psutil.Process(int((self.folder / f"{name}.pid").read_text())) for name in ("mlflow", "postgres")]
        return [p for daemon in daemons for p in (daemon, *daemon.children(recursive=True))]

    def kill(self) -> None:
        """SIGKILL of everything at once: nothing is written down any more."""
        killed = self.processes()
        for process in killed:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(killed, 60)
        assert self.script("stop-mlflow.sh").returncode == 0  # takes the pid files away


@pytest.fixture(scope="module")
def server():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    made = Server(folder)
    try:
        made.start()
        yield made
    finally:
        made.script("stop-mlflow.sh")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def logged(spark, night, server, tmp_path_factory):
    """The night's settings on a copy of its warehouse, published by HTTP; then its model once more, as a champion."""
    warehouse = tmp_path_factory.mktemp("copy") / "warehouse"
    shutil.copytree(night.warehouse, warehouse)
    conf = replace(night, warehouse=str(warehouse))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.url)
        runner.run_stage(runner.Night(spark, conf, DS, "publish"), publish.run)
        folder = Path(runner.Night(spark, conf, DS).model_folder("latent"))
        tracker = tracking.Tracker.connect(conf)
        with tracker.run("champion", {}) as run:
            tracking.register_model(tracker, run, conf, folder, {"data_date": DS}, [tracking.CHAMPION])
            run.end()
        yield conf


def content(url: str, conf: config.Config, folder: Path) -> dict[str, object]:
    """All that a server knows of the night: its runs, artifacts, and the models that the aliases name."""
    client = mlflow.MlflowClient(url)
    (experiment,) = [e for e in client.search_experiments() if e.name == f"almmta/{conf.env}/nightly"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    night = runs[f"night {DS}"]
    mlflow.artifacts.download_artifacts(run_id=night.info.run_id, dst_path=str(folder), tracking_uri=url)
    name = f"{conf.tracking.registered_model}_{conf.env}"
    aliases = {a: client.get_model_version_by_alias(name, a) for a in (tracking.CANDIDATE, tracking.CHAMPION)}
    return {
        "runs": {name: (run.data.params, run.data.metrics, run.data.tags) for name, run in runs.items()},
        "inputs": [i.dataset.digest for i in night.inputs.dataset_inputs],
        "aliases": {alias: (v.version, v.tags, v.source) for alias, v in aliases.items()},
        "artifacts": {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()},
    }


@pytest.mark.timeout(1800)
def test_a_night_logged_by_http_is_all_there_after_server_and_database_were_killed(server, logged, tmp_path):
    before = content(server.url, logged, tmp_path / "before")
    stages = {"simulate", *nightly.STAGES} - {"publish"}
    assert set(before["runs"]) == {f"night {DS}", "champion", *stages}
    assert {alias: version for alias, (version, _, _) in before["aliases"].items()} == {
        "candidate": "1",
        "champion": "2",
    }
    assert {"report.html", "config.yaml", "figures/overlap.png", "tables/diagnostics.csv"} <= set(before["artifacts"])
    server.kill()
    assert not mlflow_is_up(server.url)
    server.start()
    assert content(server.url, logged, tmp_path / "after") == before


def mlflow_is_up(url: str, host: str = "127.0.0.1") -> bool:
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30) as page:
            return page.status == 200
    except urllib.error.HTTPError as error:
        assert error.code == 403
        return False
    except OSError:
        return False


def test_the_model_that_an_alias_names_is_loaded_by_http(server, logged):
    mlflow.set_tracking_uri(server.url)
    model = mlflow.pyfunc.load_model(f"models:/{logged.tracking.registered_model}_{logged.env}@champion")
    assert "removal_effect" in model.metadata.signature.outputs.input_names()


def test_neither_server_nor_database_is_reached_but_by_loopback(server):
    listening = [c for p in server.processes() for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.port for c in listening} >= {server.port, int(server.env["PGPORT"])}
    assert {c.laddr.ip for c in listening} <= LOOPBACK
    known = [a for of_card in psutil.net_if_addrs().values() for a in of_card if a.family == socket.AF_INET]
    others = {a.address for a in known} - LOOPBACK | {"127.0.0.2"}  # the latter is this machine too
    for address in others:
        for port in (server.port, int(server.env["PGPORT"])):
            with socket.socket(socket.AF_INET) as knock:
                knock.settimeout(10)
                assert knock.connect_ex((address, port)) != 0


def test_only_hosts_that_are_allowed_by_name_are_answered(server):
    """A page of another site, opened in a browser that reaches the server, asks under that site's name."""
    assert mlflow_is_up(server.url, f"mlflow:{server.port}") and not mlflow_is_up(server.url, "example.com")


def test_the_password_is_in_no_list_of_processes(server):
    password = (server.folder / "password").read_text().strip()
    assert len(password) == 32 and (server.folder / "password").stat().st_mode & 0o077 == 0
    assert not [p for p in server.processes() if password in " ".join(p.cmdline())]


def test_a_database_that_does_not_answer_is_said_by_name(tmp_path):
    nowhere = {"PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGPASSWORD": "x", "TIMEOUT": "2"}
    settings = {"MLFLOW_DIR": str(tmp_path), "BIN": str(Path(sys.executable).parent)}
    command = [DOCKER / "mlflow-server.sh"]
    done = subprocess.run(
        command, env={**os.environ, **settings, **nowhere}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "no answer from PostgreSQL" in done.stderr and "refused" in done.stderr
