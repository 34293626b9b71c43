"""Executors killed and a worker lost on a standalone cluster of two workers: `make cluster-faults`. Everything real,
from logs to MLflow, with training in task slots.

One night is left undisturbed, and its folder (warehouse, MLflow's store and artifacts) is copied before and after it. A
case starts the night again by spark-submit: from the logs, or from the end with one stage forgotten, which must then
make the same again. In it, an executor is killed with SIGKILL as it holds shuffle files of that stage (of the training:
once there is a checkpoint), or a worker with its executor, for good. The night must end by itself. What stands there
then is compared with the undisturbed night by docker/same_tables.py.

Writes reports/cluster_faults.{json,md}; cases that are in it by the same code are not run again. Ends with an error
where one differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from almmta_spark import config, java_home, manifest, runner, spark_tables, storage, tables
from almmta_spark.config import Config
from jobs import nightly
from tests import fault_table, quick_java

DS = "2026-01-15"
USERS = 1500
CONF = "conf/test.yaml"
SETTINGS = (
    "env=cluster-faults",
    "report_file=",
    f"simulator.num_users={USERS}",
    "training.num_ranks=2",
    "training.local_mode=false",
    "training.epochs=8",
    "training.batch_size=128",
    "training.placebos=[]",
    "training.variants=[latent]",
    "training.ensemble.repeats=1",
    "attribution.baselines=[last_touch]",
    "gate.must_pass=[]",  # so small a night warns
)
CORES = 2
"""Of a worker and of its one executor: what one worker alone has is enough for the ranks."""
FOLDER, REPORTS = Path("runs/cluster_faults"), Path("reports")
TRIES = 3
TIMEOUT_SECONDS = 1800.0

EXECUTOR, WORKER = "an executor", "a worker, for good"
same_tables = runpy.run_path("docker/same_tables.py")


@dataclass(frozen=True)
class Case:
    killed: str
    stage: str

    @property
    def whole(self) -> bool:
        """Whether the night begins with its logs: the first stage would otherwise use the days that it has kept."""
        return self.killed == WORKER or self.stage == "ingest"

    def __str__(self) -> str:
        return f"{self.killed}, in {self.stage}"


# ---- where nights run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder in which one night runs again and again, with its copies beside it, and the cluster's own."""

    folder: Path
    settings: Sequence[str] = SETTINGS

    @property
    def night(self) -> Path:
        return self.folder / "night"

    @property
    def before(self) -> Path:
        return self.folder / "before"

    @property
    def undisturbed(self) -> Path:
        return self.folder / "undisturbed"

    @property
    def overrides(self) -> list[str]:
        return [f"warehouse={self.night}/warehouse", *self.settings]

    @cached_property
    def conf(self) -> Config:
        return config.load(CONF, self.overrides)

    def put_back(self, copy: Path) -> None:
        """The night as it was copied."""
        shutil.rmtree(self.night, ignore_errors=True)
        shutil.copytree(copy, self.night)

    def forget(self, stage: str) -> None:
        """The stage is to be run again; a training from its beginning."""
        storage.delete(None, manifest.url(self.conf, DS, stage))
        if stage == "train":
            storage.delete(None, manifest.model_folder(self.conf, DS))

    def start(self, *command: str, log: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A job as a user starts it, in a group of its own; what it says goes to a file."""
        options = [part for setting in self.overrides for part in ("--set", setting)]
        with (self.folder / log).open("w") as out:
            return subprocess.Popen(
                [*command, "--conf", CONF, "--ds", DS, *options],
                stdout=out,
                stderr=out,
                env={**os.environ, **env},
                process_group=0,
            )

    def last_lines(self, log: str) -> str:
        return "\n".join((self.folder / log).read_text().splitlines()[-15:])


@dataclass(frozen=True)
class Cluster:
    """A master and two workers, started by docker/start-cluster.sh."""

    folder: Path
    env: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path) -> Cluster:
        """Ports that are free; everything that it writes below the folder."""
        where = {"CLUSTER_DIR": f"{folder}/daemons", "BIN": str(Path(sys.executable).parent), "PORT": _free_port()}
        scratch = {"SPARK_LOCAL_DIRS": f"{folder}/scratch", "TMPDIR": f"{folder}/scratch", "UI_PORT": _free_port()}
        java = {"JAVA_HOME": str(java_home.ensure()), "JAVA_TOOL_OPTIONS": quick_java.OPTIONS}
        python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
        size = {"CORES": str(CORES), "MEMORY": "1536m", "MLFLOW_DISABLE_TELEMETRY": "true"}
        python["PYTHONPATH"] = str(Path.cwd())
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        return cls(folder, {**where, **scratch, **java, **python, **size})

    @contextlib.contextmanager
    def running(self) -> Iterator[Cluster]:
        try:
            self._script("start-cluster.sh")
            yield self
        finally:
            self._script("stop-cluster.sh")

    @property
    def submit(self) -> list[str]:
        """spark-submit jobs/nightly.py, on this cluster."""
        master = f"spark://127.0.0.1:{self.env['PORT']}"
        options = ["--properties-file", "conf/spark/standalone.conf", "--conf", f"spark.executor.cores={CORES}"]
        return [f"{self.env['BIN']}/spark-submit", "--master", master, *options, "jobs/nightly.py"]

    def workers(self) -> list[psutil.Process]:
        pids = [int(path.read_text()) for path in sorted((self.folder / "daemons").glob("worker-*.pid"))]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def executors(self) -> Iterator[Executor]:
        """Those that live."""
        for worker in self.workers():
            with contextlib.suppress(psutil.Error):
                for process in worker.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if "org.apache.spark.executor.CoarseGrainedExecutorBackend" in process.cmdline():
                            folders = process.environ().get("SPARK_EXECUTOR_DIRS", "").split(":")
                            yield Executor(process, worker, Path(folders[0]))

    def _script(self, name: str) -> None:
        done = subprocess.run([f"docker/{name}"], env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")


@dataclass(frozen=True)
class Executor:
    process: psutil.Process
    worker: psutil.Process
    folder: Path

    def shuffle_files(self) -> set[str]:
        """Names of those that it has written and not yet cleared away."""
        return {path.name for path in self.folder.rglob("shuffle_*.data")}

    def kill(self, what: str) -> None:
        """The executor's process with SIGKILL; where a worker is to go, that one first, so that it starts no other."""
        if what == WORKER:
            self.worker.kill()
        self.process.kill()


def _free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def leave_undisturbed(place: Place, cluster: Cluster) -> None:
    """Logs, one whole night on the cluster, and copies of what was before and after it."""
    for copy in (place.night, place.before, place.undisturbed):
        shutil.rmtree(copy, ignore_errors=True)
    for copy, command in ((place.before, [sys.executable, "-m", "jobs.simulate"]), (place.undisturbed, cluster.submit)):
        print(f"== {' '.join(command[-2:])}", flush=True)
        if place.start(*command, log="undisturbed.log", env=cluster.env).wait() != 0:
            raise RuntimeError(place.last_lines("undisturbed.log"))
        shutil.copytree(place.night, copy)


# ---- killing --------------------------------------------------------------------------------------------------------


def cases(place: Place) -> list[Case]:
    """An executor in every stage that shuffles and in the training; a worker in the middle of the night."""
    shuffles = [stage for stage in nightly.STAGES if _undisturbed(place, stage)["spark"].get("shuffle_write_bytes")]
    of_executors = [Case(EXECUTOR, stage) for stage in ["train", *shuffles]]
    return [*sorted(of_executors, key=lambda case: case.whole), Case(WORKER, "build_journeys")]


def _undisturbed(place: Place, stage: str) -> dict[str, Any]:
    """The manifest that the stage of the undisturbed night has left."""
    found: dict[str, Any] = json.loads((place.undisturbed / f"warehouse/_manifests/ds={DS}/{stage}.json").read_text())
    return found


@dataclass
class Watch:
    """One stage of a night that runs, seen from outside: its log, and its executors' shuffle files."""

    place: Place
    cluster: Cluster
    case: Case
    share: float
    """Of the seconds of the undisturbed stage, before which nobody is killed."""
    began: float | None = None
    """When the log said that the stage runs, in seconds of the monotonic clock."""
    earlier: frozenset[str] = frozenset()
    """Shuffle files of the stages before."""

    @property
    def seconds(self) -> float:
        """Since the stage began; 0 before that."""
        if (
            self.began is None
            and f" {self.case.stage}: it has not run" in (self.place.folder / "night.log").read_text()
        ):
            self.began = time.monotonic()
            self.earlier = frozenset(name for executor in self.cluster.executors() for name in executor.shuffle_files())
        return 0.0 if self.began is None else time.monotonic() - self.began

    @property
    def ended(self) -> bool:
        return self.began is not None and Path(manifest.url(self.place.conf, DS, self.case.stage)).exists()

    def victim(self) -> tuple[Executor, str] | None:
        """Whom to kill now, and what it holds; None while it is too early."""
        seconds = self.seconds
        if not seconds or seconds < self.share * _undisturbed(self.place, self.case.stage)["seconds"]:
            return None
        if self.case.stage == "train":
            done = sorted(Path(manifest.model_folder(self.place.conf, DS)).rglob("checkpoint-*.pt"))
            found = [(e, done[-1].name) for e in self.cluster.executors() if done and _ranks(e.process)]
            return found[0] if found else None
        held = {e: len(e.shuffle_files() - self.earlier) for e in self.cluster.executors()}
        executor = max(held, key=held.__getitem__, default=None)
        return (executor, f"{held[executor]} shuffle file(s)") if executor and held[executor] else None


def _ranks(executor: psutil.Process) -> int:
    """Processes of the training below an executor."""
    found = 0
    for process in executor.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += "LOCAL_RANK" in process.environ()
    return found


@dataclass(frozen=True)
class Run:
    killed_at: str
    seconds: float
    wrong: Sequence[str]
    """What was not as it should be; empty where the night ended by itself, with its tables."""


def disturbed(place: Place, cluster: Cluster, case: Case) -> Run:
    """The night with the case's fault; where its stage ended before anybody was killed, once more and earlier."""
    for share in [0.4 * 0.3**tries for tries in range(TRIES)]:
        place.put_back(place.before if case.whole else place.undisturbed)
        if not case.whole:
            place.forget(case.stage)
        watch, killed_at, began = Watch(place, cluster, case, share), "", time.monotonic()
        night = place.start(*cluster.submit, log="night.log", env=cluster.env)
        try:
            while night.poll() is None and not killed_at and not watch.ended:
                found = watch.victim()
                if found:
                    found[0].kill(case.killed)
                    killed_at = f"{watch.seconds:.1f} s into the stage, holding {found[1]}"
                time.sleep(0.02)
            if killed_at or night.poll() is not None:
                status = night.wait(TIMEOUT_SECONDS)
                wrong = [] if status == 0 else [f"the night ended with {status}: {place.last_lines('night.log')}"]
                if killed_at or wrong:
                    return Run(killed_at, time.monotonic() - began, wrong)
        except subprocess.TimeoutExpired:
            return Run(killed_at, time.monotonic() - began, [f"the night did not end in {TIMEOUT_SECONDS:g} s"])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(night.pid, signal.SIGKILL)
            night.wait()
    return Run("", 0.0, [f"{case.stage} ended {TRIES} times before anybody could be killed"])


# ---- comparing ------------------------------------------------------------------------------------------------------


def differences(place: Place) -> list[str]:
    """Tables that are not those of the undisturbed night."""
    one, two = (same_tables["fingerprints"](folder / "warehouse", DS) for folder in (place.undisturbed, place.night))
    assert one, "the undisturbed night has published nothing"
    found: list[str] = same_tables["differences"](one, two)
    return found


def num_lost(place: Place, different: Sequence[str]) -> int:
    """Rows of the undisturbed night's tables that the night does not have."""
    undisturbed = config.load(CONF, [*place.overrides, f"warehouse={place.undisturbed}/warehouse"])
    return sum(
        sum((_rows(undisturbed, name) - _rows(place.conf, name)).values())
        for name in different
        if name in tables.BY_NAME
    )


def _rows(conf: Config, name: str) -> Counter[str]:
    table = tables.BY_NAME[name]
    there = spark_tables.exists(None, conf, table, DS)
    return (
        Counter(map(repr, pq.read_table(spark_tables.path(None, conf, table, DS)).to_pylist())) if there else Counter()
    )


def what_spark_did(place: Place, case: Case) -> str:
    """How the driver took it: executors that it lost, and tasks of the stage beside those of the undisturbed one."""
    lost = (place.folder / "night.log").read_text().count("Lost executor ")
    made = manifest.read(None, place.conf, DS, case.stage)
    tasks = [m["spark"].get("tasks", 0) if m else 0 for m in (made, _undisturbed(place, case.stage))]
    return f"the driver lost {lost} executor(s); {tasks[0]} tasks, undisturbed {tasks[1]}"


# ---- all cases ------------------------------------------------------------------------------------------------------


def main(folder: Path = FOLDER, reports: Path = REPORTS) -> list[str]:
    """Runs the cases that have not been run by this code, and writes the reports; the cases that differ."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    place = Place(folder.resolve())
    place.folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster.of(place.folder)
    code = hashlib.sha256(f"{manifest.code_version()} {SETTINGS}".encode()).hexdigest()[:16]
    stamp, written = place.folder / "code", reports / "cluster_faults.json"
    if not stamp.exists() or stamp.read_text() != code:
        with cluster.running():
            leave_undisturbed(place, cluster)
        stamp.write_text(code)
    wanted = cases(place)
    found = [r for r in (json.loads(written.read_text()) if written.exists() else []) if r["code"] == code]
    for case in [c for c in wanted if str(c) not in {r["case"] for r in found}]:
        found.append({**run(place, cluster, case), "code": code})
        reports.mkdir(parents=True, exist_ok=True)
        written.write_text(json.dumps(found, indent=1) + "\n")
        (reports / "cluster_faults.md").write_text(page(found, len(wanted)))
        said = "identical" if found[-1]["identical"] else f"DIFFERS ({found[-1]['note']})"
        print(f"{len(found):3}/{len(wanted)}  {case}: {said}, {found[-1]['seconds']:.0f} s", flush=True)
    return [f"{r['case']}: {r['note']}" for r in found if not r["identical"]]


def run(place: Place, cluster: Cluster, case: Case) -> dict[str, Any]:
    """One case on a cluster of its own: disturbed, and compared."""
    with cluster.running():
        done = disturbed(place, cluster, case)
    different = differences(place)
    wrong = [*done.wrong, *different]
    return {
        "case": str(case),
        "killed_at": done.killed_at,
        "seconds": round(done.seconds, 1),
        "identical": not wrong,
        "lost_rows": num_lost(place, different),
        "note": "; ".join([what_spark_did(place, case), *wrong]),
    }


def page(found: Sequence[Mapping[str, Any]], num_cases: int) -> str:
    """reports/cluster_faults.md."""
    same, lost = sum(r["identical"] for r in found), sum(r["lost_rows"] for r in found)
    run_so_far = f"All {num_cases} cases" if len(found) == num_cases else f"{len(found)} of {num_cases} cases"
    told = (
        f"`make cluster-faults`: a night of {USERS:,} users on a standalone cluster of two workers, every part real, "
        "training in task slots. An executor is killed with SIGKILL as it holds shuffle files of a stage (of the "
        "training: once there is a checkpoint), or a worker with its executor, for good. The night must end by itself, "
        "and its tables are compared with those of an undisturbed night by row counts and checksums "
        "(`docker/same_tables.py`). A night begins with its logs where `ingest` is disturbed or a worker goes, else "
        "with that stage, and stages after it run where they would find other rows. "
        f"{run_so_far} have run: {same} identical, {len(found) - same} different, {lost:,} rows lost."
    )
    lines = [
        "# Executors killed and a worker lost, on a cluster",
        "",
        *textwrap.wrap(told, 120, break_on_hyphens=False),
        "",
        "| killed | when | seconds | identical | lost rows | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *fault_table.rows(found, "seconds"), ""])


if __name__ == "__main__":
    runner.set_up_logging()
    sys.exit("\n".join(main()) or None)
