"""docker/compose.yaml: what it says, and its commands without containers, all on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.e2e.test_cluster_scripts import DOCKER, ROOT, free_port

FILE = DOCKER / "compose.yaml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def commands(service: dict[str, Any]) -> list[str]:
    """What a container runs: entrypoint or command; its healthcheck."""
    return [*service.get("entrypoint", ()), *service.get("command", ())]


def test_the_file_is_what_the_compose_specification_asks_for():
    schema = resources.files("check_jsonschema.builtin_schemas.vendor").joinpath("compose-spec.json").read_text()
    jsonschema.validate(COMPOSE, json.loads(schema))


def test_every_service_runs_a_script_of_this_folder_that_may_be_run():
    for name, service in SERVICES.items():
        script = ROOT / commands(service)[0]
        assert script.parent == DOCKER and os.access(script, os.X_OK), name


def test_every_service_but_the_night_has_a_healthcheck_and_is_started_again():
    for name, service in SERVICES.items():
        is_daemon = name != "night"
        assert ("healthcheck" in service) == is_daemon and (service.get("restart") == "unless-stopped") == is_daemon
        assert set(service.get("depends_on", ())) <= set(SERVICES)


def test_ports_are_published_on_loopback_alone():
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 2 and all(port.startswith("127.0.0.1:") for port in published)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_volumes_that_are_mounted_are_named_and_all_see_one_warehouse():
    mounts = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert {v.partition(":")[0] for of_service in mounts.values() for v in of_service} == set(COMPOSE["volumes"])
    assert all("warehouse:/warehouse" in mounts[name] for name in ("worker-1", "worker-2", "night"))
    owned = re.search(r"install -d -o almmta (.*)", (DOCKER / "Dockerfile").read_text())[1].split()
    assert {v.partition(":")[2] for of_service in mounts.values() for v in of_service} <= set(owned)


def test_no_secret_is_in_the_file():
    assert re.findall(r"PGPASSWORD: (\S+)", FILE.read_text()) == ['"${PGPASSWORD:?}"}', '"${PGPASSWORD:?}"']


# ---- the same commands and settings, with this machine in place of the containers ------------------------------------


def on_this_machine(folder: Path) -> dict[str, dict[str, Any]]:
    """The services with loopback for their names, free ports and folders for volumes."""
    text = FILE.read_text().replace("${PGPASSWORD:?}", "secret")
    for port in ("5432", "5000", "7077", "8077"):
        text = text.replace(port, str(free_port()))
    services: dict[str, dict[str, Any]] = {}
    for name in SERVICES:  # workers have the same port in containers of their own
        parsed = yaml.safe_load(text.replace("8078", str(free_port())))["services"][name]
        names = "|".join(SERVICES)
        local = json.dumps(parsed)
        local = re.sub(rf'("(?:HOST|PGHOST)": |"--host", )"(?:{names})"', r'\1"127.0.0.1"', local)
        local = re.sub(rf"//(?:{names}):", "//127.0.0.1:", local)
        local = re.sub(r'"/(warehouse|artifacts|postgres)', rf'"{folder}/\1', local)
        local = local.replace(".venv/bin/python", sys.executable)
        services[name] = json.loads(local)
    return services


def environment(service: dict[str, Any], folder: Path, name: str) -> dict[str, str]:
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "MLFLOW_", "PYSPARK_"))}
    here = {"BIN": str(Path(sys.executable).parent), "CLUSTER_DIR": str(folder / name), "TIMEOUT": "400"}
    return outside | here | service["environment"] | ({"MEMORY": "1g"} if "worker" in name else {})


def is_healthy(service: dict[str, Any], folder: Path) -> bool:
    command = service["healthcheck"]["test"][1:]
    return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not shutil.which("pg_isready"), reason="there is no PostgreSQL here: apt-get install postgresql")
def test_the_services_become_healthy_one_after_the_other_and_a_job_runs_on_them():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # the user postgres comes by
    running: dict[str, subprocess.Popen[bytes]] = {}
    services = on_this_machine(folder)
    try:
        for name in ("postgres", "mlflow", "master", "worker-1", "worker-2"):
            assert set(services[name].get("depends_on", ())) <= set(running)
            running[name] = subprocess.Popen(
                commands(services[name]),
                cwd=ROOT,
                env=environment(services[name], folder, name),
                stdout=(folder / f"{name}.log").open("w"),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            deadline = time.monotonic() + 400
            while not is_healthy(services[name], folder):
                said = (folder / f"{name}.log").read_text()[-2000:]
                assert running[name].poll() is None and time.monotonic() < deadline, said
                time.sleep(0.5)
        env = environment(services["night"], folder, "night") | {"JOB": "jobs/simulate.py"}
        asked = ["--conf", "conf/test.yaml", "--ds", "2026-01-15", "--set", "simulator.num_users=200"]
        command = [*commands(services["night"]), *asked, "--set", "simulator.randomised_users=0"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-2000:]
        assert list((folder / "warehouse" / "tables" / "exposures").rglob("*.parquet"))
        work = [folder / name / "work" for name in ("worker-1", "worker-2")]
        assert any(any(w.glob("app-*/*")) for w in work), "no executor ran on the workers"
    finally:
        for process in reversed(running.values()):
            os.killpg(process.pid, signal.SIGINT if process is running.get("postgres") else signal.SIGTERM)
        for process in running.values():
            process.wait(60)
        shutil.rmtree(folder)
