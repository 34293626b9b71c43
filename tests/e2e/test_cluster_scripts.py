"""The scripts of docker/: a cluster that starts, registers its workers and stops; two warehouses that are the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from almmta_spark import java_home
from almmta_spark.config import Config
from almmta_spark.night_log import Claim

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def script(name: str, folder: Path, **env: object) -> subprocess.CompletedProcess[str]:
    settings = {"CLUSTER_DIR": folder, "BIN": Path(sys.executable).parent, "MEMORY": "512m", **env}
    return subprocess.run(
        [DOCKER / name],
        env={**os.environ, **{k: str(v) for k, v in settings.items()}},
        capture_output=True,
        text=True,
        timeout=240,
    )


LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def listens_on(pid: str) -> set[str]:
    """Addresses on which a process waits for others."""
    sockets = psutil.Process(int(pid)).net_connections("inet")
    return {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}


def is_running(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.spark
def test_a_cluster_starts_with_its_workers_registered_and_stops_without_a_trace(tmp_path):
    ports = {"PORT": free_port(), "UI_PORT": free_port()}
    started = script("start-cluster.sh", tmp_path, WORKERS=1, **ports)
    pids = [p.read_text().strip() for p in tmp_path.glob("*.pid")]
    try:
        assert started.returncode == 0, started.stderr
        assert f"spark://127.0.0.1:{ports['PORT']} with 1 workers of 1 core(s)" in started.stdout
        assert len(pids) == 2
        assert all(map(is_running, pids))
        assert all(listens_on(pid) and listens_on(pid) <= LOOPBACK for pid in pids)
        again = script("start-cluster.sh", tmp_path, WORKERS=1, **ports)
        assert (again.returncode, "run stop-cluster.sh first" in again.stderr) == (1, True)
    finally:
        assert script("stop-cluster.sh", tmp_path).returncode == 0
    assert not any(map(is_running, pids))
    assert not list(tmp_path.glob("*.pid"))


@pytest.mark.parametrize("which", ["PORT", "UI_PORT"])
def test_a_taken_port_is_said_and_nothing_is_started(tmp_path, which):
    """Another cluster, say, whose workers would be taken for the ones that are waited for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"PORT": free_port(), "UI_PORT": free_port(), which: taken.getsockname()[1]}
        started = script("start-cluster.sh", tmp_path, WORKERS=1, **ports)
    assert started.returncode == 1
    assert f"start-cluster: port {ports[which]} of 127.0.0.1 is taken" in started.stderr
    assert not list(tmp_path.iterdir())


def publish(warehouse: Path, checksums: dict[str, str]) -> None:
    """A night's log and the cards of its tables, without files."""
    conf = replace(Config(), warehouse=str(warehouse))
    with Claim(None, conf, "2026-01-15") as claim:
        for table, checksum in checksums.items():
            card = warehouse / table / "ds=2026-01-15" / "version=v.json"
            card.parent.mkdir(parents=True)
            card.write_text(json.dumps({"table": table, "rows": 3, "checksum": checksum}))
            claim.draft[table] = "v"
        claim.publish()


@pytest.mark.parametrize(
    ("checksum", "status", "said"),
    [("7", 0, "all 2 tables are the same"), ("8", 1, "1 of 2 tables")],
)
def test_two_warehouses_are_compared_table_by_table(tmp_path, checksum, status, said):
    for name, last in (("one", "7"), ("two", checksum)):
        publish(tmp_path / name, {"journeys": "5", "attribution": last})
    command = [sys.executable, DOCKER / "same_tables.py", tmp_path / "one", tmp_path / "two", "2026-01-15"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True)


READ_SETTINGS = """
from almmta_spark import config, runner
spark = runner.session(config.load("conf/test.yaml"), "settings")
print([spark.conf.get(f"spark.{key}") for key in ("master", "sql.shuffle.partitions", "default.parallelism")])
"""


@pytest.mark.spark
def test_what_spark_submit_is_told_stands_and_conf_fills_the_rest(tmp_path):
    """Above all the master: a night meant for a cluster would run on the machine that submits it."""
    job = tmp_path / "job.py"
    job.write_text(READ_SETTINGS)
    submit = Path(sys.executable).with_name("spark-submit")
    command = [submit, "--master", "local[3]", "--conf", "spark.sql.shuffle.partitions=7", job]
    env = {**os.environ, "JAVA_HOME": str(java_home.ensure()), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert "['local[3]', '7', '4']" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What executors import, packed into a file."""
    file = tmp_path_factory.mktemp("packed") / "environment.tar.gz"
    env = {**os.environ, "BIN": str(Path(sys.executable).parent)}
    done = subprocess.run([DOCKER / "pack-environment.sh", file], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return file


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("workers", ["the same Python", "a Python without packages"])
def test_a_night_on_a_standalone_cluster_writes_the_tables_of_a_local_one_to_the_last_bit(tmp_path, request, workers):
    command = [
        DOCKER / "night_on_cluster.sh",
        "--set",
        "training.epochs=2",
        "--set",
        "evaluation.bootstrap_replicates=10",
    ]
    ports = {"PORT": str(free_port()), "UI_PORT": str(free_port())}
    settings = {"CLUSTER_DIR": str(tmp_path), "BIN": str(Path(sys.executable).parent), "NUM_USERS": "2000", **ports}
    if workers == "a Python without packages":
        settings["ENVIRONMENT"] = str(request.getfixturevalue("environment"))
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Started distributed training with 2 executor processes" in done.stdout  # spark-submit joins the two streams
    assert "tables are the same" in done.stdout
