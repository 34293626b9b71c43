"""docker/examples: each against the library it is written for, its arguments against the job's own parser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubeflow_spark_api.models.spark_v1beta2_spark_application import SparkV1beta2SparkApplication

from almmta_spark import runner
from almmta_spark.config import Config
from jobs import nightly
from tests.e2e.test_cluster_scripts import DOCKER, ROOT, free_port

AIRFLOW = ROOT / ".venv-airflow" / "bin" / "python"


def settings(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Config]:
    """Nights and settings as jobs/nightly.py takes them."""
    monkeypatch.setattr("sys.argv", ["jobs/nightly.py", *arguments])
    args = nightly.parse_args()
    return nightly.nights(args), runner.settings(args)


@pytest.fixture
def application():
    return yaml.safe_load((DOCKER / "examples" / "spark-application.yaml").read_text())


def test_the_application_is_what_the_operators_own_models_read(application):
    """They skip what they do not know, so nothing may be missing in what they hold."""
    assert SparkV1beta2SparkApplication.from_dict(application).to_dict() == application
    application["spec"]["driver"]["kores"] = 1
    assert SparkV1beta2SparkApplication.from_dict(application).to_dict() != application


def test_the_application_submits_a_night_that_the_job_takes_with_a_slot_a_rank(application, monkeypatch):
    spec = application["spec"]
    nights, conf = settings(spec["arguments"], monkeypatch)
    assert nights == ["2026-01-31"] and application["metadata"]["name"].endswith(nights[0])
    assert not conf.training.local_mode
    assert conf.training.num_ranks <= spec["executor"]["instances"] * spec["executor"]["cores"]
    assert all(conf.warehouse.startswith(spec[pod]["volumeMounts"][0]["mountPath"]) for pod in ("driver", "executor"))


def test_the_application_names_what_is_in_the_image(application):
    home = re.search(r"WORKDIR (\S+)", (DOCKER / "Dockerfile").read_text())[1]
    script = application["spec"]["mainApplicationFile"].removeprefix(f"local://{home}/")
    assert (ROOT / script).is_file()
    pins = (ROOT / "conf" / "constraints.txt").read_text().split()
    assert f"pyspark=={application['spec']['sparkVersion']}" in pins


def entrypoint(*command: str, **env: object) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "BIN": str(Path(sys.executable).parent), **{k: str(v) for k, v in env.items()}}
    script = [DOCKER / "entrypoint.sh", *command]
    return subprocess.run(script, env=settings, capture_output=True, text=True, timeout=300)


def test_the_images_entrypoint_runs_any_command():
    assert entrypoint("echo", "a command").stdout == "a command\n"


@pytest.mark.spark
def test_the_images_entrypoint_starts_the_driver_that_kubernetes_asks_for(tmp_path):
    submitted = ["--conf", "spark.master=local[1]", "jobs/nightly.py", "--conf", "conf/test.yaml", "--dry-run"]
    nowhere = ["--ds", "2026-01-15", "--set", f"warehouse={tmp_path}/warehouse"]
    done = entrypoint("driver", *submitted, *nowhere, SPARK_DRIVER_BIND_ADDRESS="127.0.0.1")
    assert done.returncode == 0 and "1 night(s), 2026-01-15 to 2026-01-15" in done.stdout + done.stderr


@pytest.mark.spark
def test_the_images_entrypoint_starts_an_executor_that_looks_for_its_driver():
    port = free_port()
    told = {"MEMORY": "300m", "CORES": 1, "ID": 1, "POD_IP": "127.0.0.1", "POD_NAME": "pod"}
    asked = {f"SPARK_EXECUTOR_{k}": v for k, v in told.items()} | {"SPARK_RESOURCE_PROFILE_ID": 0}
    driver = {"SPARK_DRIVER_URL": f"spark://CoarseGrainedScheduler@127.0.0.1:{port}", "SPARK_APPLICATION_ID": "app"}
    done = entrypoint("executor", **asked, **driver, SPARK_JAVA_OPT_0="-Dspark.rpc.askTimeout=5s")
    assert done.returncode != 0 and f"127.0.0.1:{port}" in done.stderr, done.stderr


READ_DAG = """
import json, sys, pendulum
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
dag = bag.dags["almmta_nightly"]
task = dag.get_task("night")
info = dag.timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 2, 1, 3, 0))
context = {"data_interval_start": info.start, "data_interval_end": info.end}
print(json.dumps([task.render_template(task.bash_command, context), task.cwd, task.retries, dag.max_active_runs]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not AIRFLOW.is_file(), reason="no Airflow in .venv-airflow: make airflow")
def test_airflow_reads_the_dag_whose_command_is_a_night_that_the_job_takes(tmp_path, monkeypatch):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path), "ALMMTA_HOME": str(ROOT)}
    env["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    command = [AIRFLOW, "-c", READ_DAG, DOCKER / "examples" / "airflow_dag.py"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rendered, folder, retries, at_once = yaml.safe_load(done.stdout.splitlines()[-1])
    script, *arguments = rendered.split()
    assert os.access(Path(folder) / script, os.X_OK) and (retries, at_once) == (2, 1)
    nights, _ = settings(arguments, monkeypatch)
    assert nights == ["2026-01-31"]  # the day that was complete at 03:00 of the next
