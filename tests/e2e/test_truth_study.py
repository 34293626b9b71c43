"""`make truth` end to end on a small night: killed in the middle, gone on with, not repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from almmta_spark.study import records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = ("simulator.base_rate=0.1", "simulator.randomised_users=300", "training.epochs=2", "training.num_ranks=1")
METHODS = ("latent", "linear", "latent:sparsity=0")
SECONDS = 1500


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    settings = [
        *SMALL,
        "evaluation.bootstrap_replicates=20",
        "evaluation.min_group_rows=10",
        f"warehouse={folder}/runs",
    ]
    command = [sys.executable, "-m", "jobs.truth", "--worlds", "leak_y", "--seeds", "1", "--n", "2000"]
    command += ["--methods", *METHODS, "--report", f"{folder}/reports"]
    command += [word for setting in settings for word in ("--set", setting)]
    return subprocess.Popen(
        [*command, *more],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, *more: str) -> str:
    job = start(folder, *more)
    said, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, said[-5000:]
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def resumed(folder):
    """What the second run said, after the first was killed once journeys were built."""
    job, give_up = start(folder), time.monotonic() + SECONDS
    while not list(folder.glob("runs/nights/*/_manifests/*/build_journeys.json")):
        assert job.poll() is None and time.monotonic() < give_up
        time.sleep(0.5)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    return run(folder)


def test_a_killed_study_goes_on_with_the_stages_that_are_left(resumed):
    assert "fit_propensity;" in resumed
    assert "simulate;" not in resumed and "build_journeys;" not in resumed


def test_the_report_holds_every_method_and_the_stability_of_the_fit(resumed, folder):
    found = records.read(folder / "reports" / "truth.json")
    errors = {r.method for r in found if r.metric == "relative_rmse"}
    assert errors == {*METHODS, "latent:"}
    assert {r.metric for r in found if r.method == "latent"} >= {"seed_stability", "seed_stability_cluster"}
    assert all(r.value is not None and r.value > 0 for r in found if r.metric == "relative_rmse")
    page = (folder / "reports" / "truth.md").read_text()
    assert "## leak_y: 2,000 users, seed 1" in page and "## With and without" in page


def test_the_tables_of_a_finished_night_are_gone_and_its_results_stay(resumed, folder):
    assert not list((folder / "runs" / "nights").iterdir())
    assert len(list((folder / "runs" / "results").iterdir())) == 1


def test_what_is_done_is_not_run_again(resumed, folder):
    before = (folder / "reports" / "truth.json").read_text()
    said = run(folder)
    assert "nights: 1, of which 1 are done" in said and "night 1 of" not in said
    assert (folder / "reports" / "truth.json").read_text() == before
