"""The processes of one training job: who am I, which device, how do we add numbers up, what does that cost in bytes."""

# No `from __future__ import annotations` here: DDP checks the types of a communication hook's arguments.

import os
import socket
import warnings
import zlib
from collections import Counter
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
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        dist.init_process_group(backend, store=_store(), rank=rank, world_size=world)
    ranks = Ranks(0, 1, torch.device("cpu"))
    if dist.is_initialized():
        ranks = Ranks(dist.get_rank(), dist.get_world_size(), torch.device("cpu"))
    try:
        here = _neighbours(ranks)
        ranks.device = _choose_device(device, here)
        with _reproducible(max(1, _cores() // here.ranks), ranks.device):
            yield ranks
    finally:
        if opened:
            dist.destroy_process_group()


def _store() -> dist.Store:
    """Where these ranks find each other: nothing that an earlier start of them wrote can be read there.

    torchrun --max-restarts keeps one store over all starts, in which a rank would find the address of one that died
    (pytorch issue 135712). Starts are numbered alike in all ranks of one machine only: where there are more, torchrun
    itself has to be told, by TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
    """
    store, _, _ = next(dist.rendezvous("env://"))
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    return dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


@dataclass(frozen=True)
class _Here:
    """A rank's place among the others."""

    ranks: int
    """Ranks on this machine."""
    gpu: int
    """Number, among the GPUs that this process sees, of the one that is this rank's own."""
    all_have_gpus: bool
    """Whether every rank of the job has a GPU of its own."""


def _neighbours(ranks: Ranks) -> _Here:
    """Who shares this machine, and its GPUs, with this rank.

    Spark tasks on one machine are one "node" each to torchrun, so its LOCAL_RANK and LOCAL_WORLD_SIZE do not say. Ranks
    that see the same GPUs share them out in order; Spark may also show each task one GPU, and every task calls it 0.
    """
    host = zlib.crc32(socket.gethostname().encode())
    seen = zlib.crc32(os.environ.get("CUDA_VISIBLE_DEVICES", "all").encode())
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return _place(ranks.rank, [(int(h), int(s), int(g)) for h, s, g in ranks.gather([host, seen, gpus])])


def _place(rank: int, everybody: Sequence[tuple[int, int, int]]) -> _Here:
    """everybody: by rank, its host, the set of GPUs it sees (as a hash) and their number."""
    host, seen, _ = everybody[rank]
    sharing = [other for other, row in enumerate(everybody) if row[:2] == (host, seen)]
    crowd = Counter(row[:2] for row in everybody)
    return _Here(
        ranks=sum(row[0] == host for row in everybody),
        gpu=sharing.index(rank),
        all_have_gpus=all(row[2] >= crowd[row[:2]] for row in everybody),
    )


def _choose_device(name: str | None, here: _Here) -> torch.device:
    if name == "cuda" and not here.all_have_gpus:
        raise ValueError("device cuda was asked for and not every rank has a CUDA device of its own: ask for cpu")
    if name == "cpu" or not here.all_have_gpus:
        return torch.device("cpu")
    torch.cuda.set_device(here.gpu)
    return torch.device("cuda", here.gpu)


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
            broadcast_buffers=False,  # constants, or rank 0's own: its copy is the one that is kept
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
