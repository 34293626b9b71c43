"""Two gloo processes started by torchrun, against one process on the same tables."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from almmta_spark.config import EnsembleConfig, ModelConfig, TrainingConfig
from almmta_spark.model import saved
from almmta_spark.training import distributed, main, sample_table
from almmta_spark.training.gpu_check import effects_of, rank_correlation
from almmta_spark.training.request import FitRequest, FitResult

pytestmark = pytest.mark.long

ROWS, UNEVEN_ROWS = 6_000, 700
SINGLE, FOUR = EnsembleConfig(variants=()), EnsembleConfig(repeats=2)
TRAINING = TrainingConfig(epochs=8, batch_size=256, num_ranks=2, ensemble=SINGLE)
FULL_BATCH = TrainingConfig(epochs=6, batch_size=2 * UNEVEN_ROWS, num_ranks=2, ensemble=SINGLE)
MEMBERS = dataclasses.replace(FULL_BATCH, ensemble=FOUR)
BY_ROW = ModelConfig(sparsity=0.0)
"""Every cost a mean over rows, as the sparsity cost is not: a concave function of a mean over the rows of a rank."""
SHORT = TrainingConfig(epochs=2, batch_size=256, num_ranks=2, ensemble=SINGLE)
SLOW = dataclasses.replace(TRAINING, slow_momentum_period=12, slow_momentum=0.4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """What each of two ranks has on two cores, for the one rank too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    even = sample_table.write(root / "even", ROWS)
    uneven = sample_table.write(root / "uneven", UNEVEN_ROWS, row_group_sizes=(400, 60, 190, 50), seed=5)
    poisoned = sample_table.write(root / "poisoned", UNEVEN_ROWS, seed=6)
    poison(root / "poisoned" / "part-00000.parquet", row_group=1)
    found = {"even": even, "uneven": uneven, "poisoned": poisoned}
    return {name: (str(root / name), spec) for name, spec in found.items()}


def poison(path: Path, row_group: int) -> None:
    """Make the covariates of one row group NaN; with two ranks an odd one is rank 1's."""
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    nan = pa.array([[math.nan] * sample_table.NUM_COVARIATES] * groups[row_group].num_rows, pa.list_(pa.float32()))
    position = groups[row_group].column_names.index("covariates")
    groups[row_group] = groups[row_group].set_column(position, file.schema_arrow.field("covariates"), nan)
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for group in groups:
            writer.write_table(group)


def request_for(tables, table: str, training: TrainingConfig, output: Path, variant: str = "latent") -> FitRequest:
    url, spec = tables[table]
    model = BY_ROW if table == "uneven" else ModelConfig()
    return FitRequest(url, spec, model, training, variant, 0, str(output))


@pytest.fixture(scope="module")
def job(tables, tmp_path_factory) -> tuple[dict[str, FitResult], str]:
    """Five requests on two ranks, in one job of torchrun that a sixth, poisoned one then ends; and what it said."""
    root = tmp_path_factory.mktemp("fits")
    wanted = {"plain": ("even", TRAINING), "full_batch": ("uneven", FULL_BATCH), "slow": ("even", SLOW)}
    wanted["members"] = ("uneven", MEMBERS)
    requests = {name: request_for(tables, *what, root / name) for name, what in wanted.items()}
    requests["paper"] = request_for(tables, "even", SHORT, root / "paper", "paper")
    requests["poisoned"] = request_for(tables, "poisoned", TRAINING, root / "poisoned")
    with pytest.raises(ValueError) as error:
        main.launch(*requests.values(), num_ranks=2, timeout_seconds=300)
    del requests["poisoned"]
    return {f"{name} on 2": FitResult.load(request.output_dir) for name, request in requests.items()}, str(error.value)


@pytest.fixture(scope="module")
def fits(job, tables, tmp_path_factory) -> dict[str, FitResult]:
    """What two ranks fitted, and one rank in this process."""
    wanted = {"plain": ("even", TRAINING), "full_batch": ("uneven", FULL_BATCH), "members": ("uneven", MEMBERS)}
    root = tmp_path_factory.mktemp("alone")
    alone = {name: main.launch(request_for(tables, *what, root / name))[0] for name, what in wanted.items()}
    return job[0] | {f"{name} on 1": result for name, result in alone.items()}


def test_two_ranks_read_every_row_and_reach_the_loss_and_the_effects_of_one(fits, tables):
    one, two = fits["plain on 1"], fits["plain on 2"]
    assert one.metrics["rows_per_epoch"] == two.metrics["rows_per_epoch"] == ROWS
    assert two.metrics["num_ranks"] == 2
    assert two.metrics["held_out_loss"] == pytest.approx(one.metrics["held_out_loss"], rel=0.01)
    effects = [effects_of(result.output_dir, *tables["even"]) for result in (one, two)]
    agreement = rank_correlation(*effects)
    print(f"Spearman of removal effects, one rank against two: {agreement:.4f}")
    assert agreement >= 0.97


@pytest.mark.parametrize("what", ["full_batch", "members"])
def test_on_uneven_ranks_the_gradient_is_that_of_the_global_batch(fits, what):
    """One step an epoch holds all rows, whoever has them: the weights must be those of one process, of every member.

    They move by about .1. Over nine seeds they ended within 9e-5 of each other, over four in float64 within 4e-14: what
    Adam makes of rounding. The sparsity cost, left out here, makes 3e-3; a mean of the ranks' means makes .1.
    """
    one, two = (saved.load(fits[f"{what} on {n}"].output_dir)[0].state_dict() for n in (1, 2))
    for name in one:
        torch.testing.assert_close(
            two[name], one[name], rtol=0, atol=5e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    losses = [[entry["loss"]["loss"] for entry in fits[f"{what} on {n}"].history] for n in (1, 2)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_what_paper_compares_with_on_two_ranks_are_journeys_trained_on(fits, tables):
    """Its reference journeys come from training rows alone, each once, and give effects where there are touches."""
    model = saved.load(fits["paper on 2"].output_dir)[0]
    url, _ = tables["even"]
    read = pq.read_table(url, columns=["journey_id", "is_validation"]).to_pandas()
    trained_on = set(read.loc[read.is_validation == 0, "journey_id"])
    kept = model.bank.journey_id_M[: int(model.bank.filled)].tolist()
    assert len(set(kept)) == len(kept) == len(model.bank.bucket_M) and set(kept) <= trained_on
    effects = effects_of(fits["paper on 2"].output_dir, *tables["even"])
    assert np.isfinite(effects).all() and np.abs(effects).max() > 0


def test_slow_momentum_reaches_the_loss_with_a_fraction_of_the_bytes(fits):
    plain, slow = fits["plain on 2"], fits["slow on 2"]
    sent = [result.metrics["bytes_sent_per_epoch"] for result in (plain, slow)]
    losses = [result.metrics["held_out_loss"] for result in (plain, slow)]
    print(
        f"held-out loss {losses[0]:.4f} with {sent[0]:,.0f} bytes an epoch, SlowMo {losses[1]:.4f} with {sent[1]:,.0f}"
    )
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert sent[1] < 0.35 * sent[0]


def test_a_loss_that_is_not_finite_on_one_rank_stops_both(job):
    said = (
        r"^training stopped before the optimiser step, not finite in epoch 1: rank 1 of 2, step \d of 3, \d+ journeys"
    )
    assert re.match(said, job[1])


def test_a_killed_rank_costs_no_bits(tables, fits, tmp_path):
    """kill -9 on one of the ranks after the first checkpoint, then the same command again."""
    request = request_for(tables, "even", TRAINING, tmp_path / "killed")
    (tmp_path / "request.json").write_text(request.to_json())
    first, second = start_ranks(tmp_path / "request.json")
    wait_for(Path(request.output_dir) / "checkpoint-0001.pt", first)
    second.send_signal(signal.SIGKILL)
    assert first.wait(60) != 0, "the other rank must notice, not wait"
    assert not (Path(request.output_dir) / "model.json").exists()
    assert [rank.wait(120) for rank in start_ranks(tmp_path / "request.json")] == [0, 0]
    resumed = FitResult.load(request.output_dir)
    assert resumed.digest == fits["plain on 2"].digest
    assert [e["loss"] for e in resumed.history] == [e["loss"] for e in fits["plain on 2"].history]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun, started again", "torchrun, elastic", "TorchDistributor"])
def test_ranks_start_again_by_themselves_when_one_is_killed(tables, fits, tmp_path, how):
    """kill -9 on rank 1 in mid-epoch, after the first checkpoint; nobody does anything."""
    request = request_for(tables, "even", TRAINING, tmp_path / "killed")
    (tmp_path / "request.json").write_text(request.to_json())
    starts = {
        "torchrun, started again": STARTED_AGAIN,
        "torchrun, elastic": ELASTIC,
        "TorchDistributor": UNDER_SPARK,
    }
    common = os.environ | {"PYTHONPATH": main._python_path(), "OMP_NUM_THREADS": "1", "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "-c", starts[how], str(tmp_path / "request.json")]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(command, env=common, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(Path(request.output_dir) / "checkpoint-0002.pt", job)
        killed = rank_of(job.pid, 1)
        os.kill(killed, signal.SIGKILL)
        assert job.wait(400) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert "resumed after epoch" in (tmp_path / "log").read_text()
    resumed = FitResult.load(request.output_dir)
    assert resumed.digest == fits["plain on 2"].digest
    assert [e["loss"] for e in resumed.history] == [e["loss"] for e in fits["plain on 2"].history]


STARTED_AGAIN = """
import logging, sys
from pathlib import Path
from almmta_spark.training import main
from almmta_spark.training.request import FitRequest
logging.basicConfig(level=logging.INFO)
main.launch(FitRequest.from_json(Path(sys.argv[1]).read_text()), num_ranks=2)
"""
ELASTIC = """
import subprocess, sys
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
sys.exit(subprocess.run([*torchrun, "-m", "almmta_spark.training", "--request", sys.argv[1]]).returncode)
"""
UNDER_SPARK = """
import logging, sys
from pathlib import Path
from almmta_spark import config, runner
from almmta_spark.training.request import FitRequest
from dataclasses import replace
from jobs import train
logging.basicConfig(level=logging.INFO)
settings = {"spark.master": "local[2]", "spark.ui.enabled": "false"}
request = FitRequest.from_json(Path(sys.argv[1]).read_text())
spark = runner.session(replace(config.Config(), spark=settings), "kill")
train.fit(spark, [request], request.training)
"""


def rank_of(parent: int, rank: int) -> int:
    """Process id of a training rank among the descendants of a process."""
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            started = process.environ()
            if started.get("RANK") == str(rank) and "LOCAL_RANK" in started and "TORCHELASTIC_RUN_ID" in started:
                return process.pid
    raise AssertionError(f"no rank {rank} among the processes of {parent}")


@pytest.mark.slow
def test_a_broken_row_group_of_the_training_table_is_named_and_no_model_is_left(tables, tmp_path):
    shutil.copytree(tables["uneven"][0], tmp_path / "spoilt")
    path = max((tmp_path / "spoilt").glob("*.parquet"))
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 20_000 + content[20_004:])
    url, spec = str(tmp_path / "spoilt"), tables["uneven"][1]
    request = FitRequest(url, spec, BY_ROW, FULL_BATCH, "latent", 0, str(tmp_path / "model"))
    with pytest.raises(ValueError, match=rf"^training_examples: row group 0 of {path} cannot be read .*build the exam"):
        main.launch(request, num_ranks=2, timeout_seconds=300)
    assert not (tmp_path / "model" / "model.json").exists()


def start_ranks(request: Path) -> list[subprocess.Popen[bytes]]:
    """What torchrun starts, without torchrun, which would end the others itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    command = [sys.executable, "-m", "almmta_spark.training", "--request", str(request)]
    common = os.environ | meeting | {"PYTHONPATH": main._python_path(), "OMP_NUM_THREADS": "1"}
    places = [{"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"} for r in (0, 1)]
    return [subprocess.Popen(command, env=common | place, stdout=subprocess.DEVNULL) for place in places]


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
