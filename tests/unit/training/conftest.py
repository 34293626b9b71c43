"""Small training tables, a model of three parameters, and ranks that are threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from almmta_spark.config import TrainingConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.training import distributed, loader, sample_table
from almmta_spark.training.distributed import Ranks
from almmta_spark.training.folder import Folder
from almmta_spark.training.loop import Trainer
from almmta_spark.training.shard import Shard


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """For jobs too, which take all cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_cores", lambda: 1)
        yield


@dataclass(frozen=True)
class Sample:
    url: str
    spec: ExampleSpec

    def open(self) -> loader.TrainingTable:
        return loader.open_table(self.url, self.spec)

    def shard(
        self,
        ranks: Ranks | None = None,
        seed: int = 0,
        buffer_bytes: int = 1 << 30,
        learns_from_all: bool = False,
        **settings: Any,
    ) -> Shard:
        training = TrainingConfig(**({"batch_size": 64} | settings))
        return Shard.open(self.open(), self.spec, training, ranks or alone(), seed, learns_from_all, buffer_bytes)


def alone() -> Ranks:
    return Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """600 rows in 8 equal row groups of two files."""
    folder = tmp_path_factory.mktemp("training") / "ds=2026-01-31"
    return Sample(str(folder), sample_table.write(folder, 600))


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """600 rows in 5 row groups of very different sizes."""
    folder = tmp_path_factory.mktemp("uneven")
    return Sample(str(folder), sample_table.write(folder, 600, row_group_sizes=(300, 20, 150, 70, 60)))


class Regression(nn.Module):
    """Predicts the outcome proxies' sum from X: a forward with the contract of the real models, convex and quick."""

    def __init__(self, width: int = sample_table.NUM_COVARIATES) -> None:
        super().__init__()
        self.slope = nn.Linear(width, 1)
        self.level_K = nn.Parameter(torch.zeros(sample_table.NUM_CLUSTERS))
        self.leak = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.slope.weight)
        nn.init.zeros_(self.slope.bias)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"dense": list(self.slope.parameters()), "sparse": [self.level_K], "leak": [self.leak]}

    def project(self) -> None:
        pass

    def forward(self, batch: Any, progress: float) -> dict[str, torch.Tensor]:
        level_B = (self.level_K[batch.cluster_BL] * batch.mask_BL).sum(1)
        guess_B = self.slope(batch.covariates_BD)[:, 0] + 0.1 * level_B + self.leak * batch.outcome_B
        squared_B = (guess_B - batch.outcome_proxies_BJ.sum(1)) ** 2
        return {"loss": squared_B.mean(), "progress": torch.tensor(progress)}


def trainer(sample: Sample, output: Path, model: nn.Module | None = None, **settings: Any) -> Trainer:
    """A trainer of one rank on the sample; checkpoints go to output."""
    training = TrainingConfig(**({"batch_size": 64, "epochs": 4} | settings))
    shard = Shard.open(sample.open(), sample.spec, training, alone(), seed=0)
    return Trainer(model or Regression(), shard, training, alone(), 0, Folder(str(output)), digest="request")


class ThreadRanks(Ranks):
    """Ranks that are threads: what gloo does between processes, for laws that need no process."""

    def __init__(self, rank: int, world: int, board: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(rank, world, torch.device("cpu"))
        self.board, self.barrier = board, barrier

    def _exchange(self, value: Any) -> list[Any]:
        self.board[self.rank] = value
        self.barrier.wait()
        everybody = list(self.board)
        self.barrier.wait()
        return everybody

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self.bytes_sent += values.nbytes
        return values.copy_(torch.stack(self._exchange(values.clone())).sum(0))

    def gather(self, values: Any) -> list[list[float]]:
        return self._exchange([float(v) for v in values])

    def broadcast(self, content: bytes) -> bytes:
        return self._exchange(content)[0]


@pytest.fixture
def on_ranks() -> Callable[[int, Callable[[Ranks], Any]], list[Any]]:
    """Run a function of the ranks on each of `world` ranks; their results by rank. Where one fails, so do all."""

    def run(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
        board, barrier = [None] * world, threading.Barrier(world, timeout=20)

        def one(rank: int) -> Any:
            try:
                return work(ThreadRanks(rank, world, board, barrier))
            except BaseException:
                barrier.abort()
                raise

        with ThreadPoolExecutor(world) as pool:
            futures = [pool.submit(one, rank) for rank in range(world)]
            errors = [e for f in futures if (e := f.exception())]
            real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
            if errors:
                raise (real or errors)[0]
            return [f.result() for f in futures]

    return run
