"""Two gloo processes started by torchrun, against one process on the same tables."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from almmta_spark.config import ModelConfig, TrainingConfig
from almmta_spark.model import saved
from almmta_spark.training import main, sample_table
from almmta_spark.training.gpu_check import effects_of, rank_correlation
from almmta_spark.training.request import FitRequest, FitResult

ROWS, UNEVEN_ROWS = 6_000, 700
TRAINING = TrainingConfig(epochs=8, batch_size=256, num_ranks=2)
FULL_BATCH = TrainingConfig(epochs=6, batch_size=UNEVEN_ROWS, num_ranks=2)
SLOW = dataclasses.replace(TRAINING, slow_momentum_period=12, slow_momentum=0.4)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    even = sample_table.write(root / "even", ROWS)
    uneven = sample_table.write(root / "uneven", UNEVEN_ROWS, row_group_sizes=(400, 60, 190, 50), seed=5)
    return {"even": (str(root / "even"), even), "uneven": (str(root / "uneven"), uneven)}


def request_for(tables, table: str, training: TrainingConfig, output: Path) -> FitRequest:
    url, spec = tables[table]
    return FitRequest(url, spec, ModelConfig(), training, "latent", 0, str(output))


@pytest.fixture(scope="module")
def fits(tables, tmp_path_factory) -> dict[str, FitResult]:
    """Each request on one rank, in this process, and on two, in one job of torchrun."""
    root = tmp_path_factory.mktemp("fits")
    wanted = {"plain": ("even", TRAINING), "full_batch": ("uneven", FULL_BATCH), "slow": ("even", SLOW)}
    two = {name: request_for(tables, *what, root / f"{name}-2") for name, what in wanted.items()}
    results = main.launch(*two.values(), num_ranks=2, timeout_seconds=300)
    one = {name: request_for(tables, *wanted[name], root / f"{name}-1") for name in ("plain", "full_batch")}
    found = {f"{name} on 2": result for name, result in zip(two, results, strict=True)}
    return found | {f"{name} on 1": main.launch(request)[0] for name, request in one.items()}


def test_two_ranks_read_every_row_and_reach_the_loss_and_the_effects_of_one(fits, tables):
    one, two = fits["plain on 1"], fits["plain on 2"]
    assert one.metrics["rows_per_epoch"] == two.metrics["rows_per_epoch"] == ROWS
    assert two.metrics["num_ranks"] == 2
    assert two.metrics["held_out_loss"] == pytest.approx(one.metrics["held_out_loss"], rel=0.01)
    effects = [effects_of(result.output_dir, *tables["even"]) for result in (one, two)]
    agreement = rank_correlation(*effects)
    print(f"Spearman of removal effects, one rank against two: {agreement:.4f}")
    assert agreement >= 0.97


def test_on_uneven_ranks_the_gradient_is_that_of_the_global_batch(fits):
    """One step an epoch holds all rows, whoever has them: the weights must be those of one process."""
    one, two = (saved.load(fits[f"full_batch on {n}"].output_dir)[0].state_dict() for n in (1, 2))
    for name in one:
        torch.testing.assert_close(
            two[name], one[name], rtol=1e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    losses = [[entry["loss"]["loss"] for entry in fits[f"full_batch on {n}"].history] for n in (1, 2)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_slow_momentum_reaches_the_loss_with_a_fraction_of_the_bytes(fits):
    plain, slow = fits["plain on 2"], fits["slow on 2"]
    sent = [result.metrics["bytes_sent_per_epoch"] for result in (plain, slow)]
    losses = [result.metrics["held_out_loss"] for result in (plain, slow)]
    print(
        f"held-out loss {losses[0]:.4f} with {sent[0]:,.0f} bytes an epoch, SlowMo {losses[1]:.4f} with {sent[1]:,.0f}"
    )
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert sent[1] < 0.35 * sent[0]


def test_a_killed_rank_costs_no_bits(tables, fits, tmp_path):
    """kill -9 on one of the ranks after the first checkpoint, then the same command again."""
    request = request_for(tables, "even", TRAINING, tmp_path / "killed")
    command = main.torchrun_command([request], 2, tmp_path)
    environment = os.environ | {"PYTHONPATH": main._python_path()}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    job = subprocess.Popen(command, start_new_session=True, **quiet)
    checkpoint = Path(request.output_dir) / "checkpoint-0001.pt"
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(children_of(job.pid)[-1], signal.SIGKILL)
        assert job.wait(60) != 0
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert not (Path(request.output_dir) / "model.json").exists()
    subprocess.run(command, check=True, timeout=300, **quiet)
    resumed = FitResult.load(request.output_dir)
    assert resumed.digest == fits["plain on 2"].digest
    assert [e["loss"] for e in resumed.history] == [e["loss"] for e in fits["plain on 2"].history]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
