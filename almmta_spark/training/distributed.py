"""The processes of one training job: who am I, which device, how do we add numbers up, what does that cost in bytes."""

# No `from __future__ import annotations` here: DDP checks the types of a communication hook's arguments.

import os
import socket
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel


@dataclass
class Ranks:
    """This process among the others. With a world of 1 nothing is sent and no process group is needed."""

    rank: int
    world: int
    device: torch.device
    bytes_sent: int = 0
    """Payload this rank has handed to collectives so far; what the wire carries depends on the algorithm."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place; the same bits on every rank."""
        if self.world > 1:
            self.bytes_sent += values.nbytes
            dist.all_reduce(values)
        return values

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Means over ranks of many tensors, sent as one."""
        if self.world == 1 or not tensors:
            return [t.clone() for t in tensors]
        flat = self.sum(torch.cat([t.reshape(-1) for t in tensors])) / self.world
        return [part.view_as(t) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of every rank, by rank, as doubles (so integers below 2**53 are exact)."""
        mine = torch.tensor(values, dtype=torch.float64)
        if self.world == 1:
            return [mine.tolist()]
        everybody = [torch.empty_like(mine) for _ in range(self.world)]
        self.bytes_sent += mine.nbytes
        dist.all_gather(everybody, mine)
        return [one.tolist() for one in everybody]

    def broadcast(self, content: bytes) -> bytes:
        """Rank 0's bytes, on every rank; what others pass is ignored."""
        if self.world == 1:
            return content
        size = torch.tensor([len(content)])
        dist.broadcast(size, src=0)
        payload = torch.empty(int(size), dtype=torch.uint8)
        if self.is_main:
            payload = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else payload
            self.bytes_sent += len(content)
        if len(payload):
            dist.broadcast(payload, src=0)
        return bytes(payload.numpy().tobytes())


@contextmanager
def session(device: str | None = None) -> Iterator[Ranks]:
    """This rank of the job that torchrun's environment describes (none: a job of one process).

    Opens a process group where there is more than one rank and none is open yet: gloo for CPU tensors, NCCL for GPU
    ones. Inside, torch and Arrow use the machine's cores // its ranks threads and deterministic algorithms only; both
    are put back after.
    device: cpu or cuda; None takes the GPUs where every rank has one of its own.
    """
    opened = int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized()
    if opened:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    ranks = Ranks(0, 1, torch.device("cpu"))
    if dist.is_initialized():
        ranks = Ranks(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    try:
        local_rank, local_world, all_have_gpus = _neighbours(ranks)
        ranks.device = _choose_device(device, local_rank, all_have_gpus)
        with _reproducible(max(1, _cores() // local_world), ranks.device):
            yield ranks
    finally:
        if opened:
            dist.destroy_process_group()


def _neighbours(ranks: Ranks) -> tuple[int, int, bool]:
    """My place among the ranks on this machine, their number, and whether every rank of the job has a GPU of its own.

    Spark tasks on one machine are one "node" each to torchrun, so its LOCAL_WORLD_SIZE does not say.
    """
    host = zlib.crc32(socket.gethostname().encode())
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    everybody = ranks.gather([host, gpus, int(os.environ.get("LOCAL_WORLD_SIZE", 1))])
    together = [rank for rank, row in enumerate(everybody) if int(row[0]) == host]
    return together.index(ranks.rank), len(together), all(row[1] >= row[2] for row in everybody)


def _choose_device(name: str | None, local_rank: int, all_have_gpus: bool) -> torch.device:
    if name == "cuda" and not all_have_gpus:
        raise ValueError("device cuda was asked for and not every rank has a CUDA device of its own: ask for cpu")
    if name == "cpu" or not all_have_gpus:
        return torch.device("cpu")
    # Where Spark shows each task one GPU, every task calls it 0.
    index = int(os.environ.get("LOCAL_RANK", local_rank)) % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def replicate(model: nn.Module, ranks: Ranks, uses_all_parameters: bool) -> nn.Module:
    """The model with its gradients averaged over ranks at every backward (DDP); itself where there is one rank.

    uses_all_parameters: every batch reaches every parameter; where one may not, DDP must look at each step's graph.
    """
    if ranks.world == 1:
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 renames broadcast_buffers, which 2.6 needs
        wrapped = DistributedDataParallel(
            model,
            broadcast_buffers=False,  # they are constants
            gradient_as_bucket_view=True,
            find_unused_parameters=not uses_all_parameters,
        )

    def counted(group: dist.ProcessGroup, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        ranks.bytes_sent += bucket.buffer().nbytes
        return allreduce_hook(group, bucket)

    wrapped.register_comm_hook(dist.group.WORLD, counted)
    return wrapped


@contextmanager
def _reproducible(threads: int, device: torch.device) -> Iterator[None]:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    before = torch.get_num_threads(), pa.cpu_count(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    pa.set_cpu_count(threads)
    # On a GPU some operations have no deterministic form: there torch warns, and the bits may differ between runs.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        pa.set_cpu_count(before[1])
        torch.use_deterministic_algorithms(before[2])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
