"""One training job: the same function under TorchDistributor, under torchrun, and in a process of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

import almmta_spark
from almmta_spark.model import ensemble, saved
from almmta_spark.training import deferred_init, loader, structure
from almmta_spark.training.distributed import Ranks, session
from almmta_spark.training.folder import Folder
from almmta_spark.training.launcher import die_with_launcher
from almmta_spark.training.loop import Trainer
from almmta_spark.training.request import FitRequest, FitResult
from almmta_spark.training.shard import Shard
from almmta_spark.training.sharded_embedding import RowShardedEmbedding

log = logging.getLogger("almmta.training")


def run(*requests: str) -> list[str]:
    """What every rank of a job executes: fit the requests (FitRequest.to_json()) in turn; the models' digests.

    Rank 0 leaves each result in the request's output_dir: read it there (FitResult.load), since a launcher's return
    value is not reliable.
    """
    die_with_launcher()
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    with session():
        return [fit(FitRequest.from_json(request)).digest for request in requests]


def fit(request: FitRequest, device: str | None = None) -> FitResult:
    """Train one model; called in every rank. device: cpu or cuda, None takes GPUs where every rank has one.

    Rank 0 writes weights.pt, model.json, history.json and checkpoints to output_dir. The model kept is the average of
    the weights over the second half of the steps. Equal requests on equal data give equal weights, resumed or not.
    Where model.signed is null both structures are fitted, and the likelier is the request's (training/structure.py).
    """
    if request.model.signed is None and request.variant in structure.CHOSEN_FOR:
        return _fit_the_likelier(request, device)
    request = replace(request, model=replace(request.model, signed=bool(request.model.signed)))
    with session(device) as ranks:
        table = loader.open_table(request.dataset_url, request.spec)
        plan = request.training.ensemble
        shard = Shard.open(table, request.spec, request.training, ranks, request.seed, request.variant in plan.variants)
        build = partial(ensemble.build, request.variant, request.spec, request.model, plan, request.seed)
        size = deferred_init.footprint(build)
        if ranks.is_main:
            log.info(
                "training %s: %d journeys, %d to check it on, on %d rank(s) (%s), %d steps an epoch; %d parameters, "
                "%.1f kB with gradients, moments and average",
                request.variant, sum(shard.rows_by_rank), request.spec.num_validation, ranks.world,
                ranks.device, shard.num_steps, size.parameters, size.training / 1e3,
            )  # fmt: skip
        model = deferred_init.initialised(build, request.seed, ranks.device)
        _refuse_sharded_tables(model)
        deciding = f"{request.digest} {table.fingerprint} {_code_digest()} {ranks.world}"
        digest = hashlib.sha256(deciding.encode()).hexdigest()
        folder = Folder(request.output_dir)
        history = Trainer(model, shard, request.training, ranks, request.seed, folder, digest).fit()
        claimed = _mean_abs_effect(model, shard, ranks)
        return _finish(request, ranks, model, history, claimed | {"num_parameters": float(size.parameters)})


def _fit_the_likelier(request: FitRequest, device: str | None) -> FitResult:
    """The structure that the held-out journeys are for (training/structure.py), with the evidence in its metrics."""
    with session(device) as ranks:
        nonnegative, signed = structure.candidates(request)
        gain = structure.gain_nats(fit(nonnegative, device), fit(signed, device), request.spec.num_validation)
        likelier = signed if gain > structure.MARGIN_NATS else nonnegative
        evidence = {"signed_gain_nats": gain, "signed": float(likelier is signed)}
        if ranks.is_main:
            log.info("%s: %s, by %+.1f nats", request.variant, likelier.output_dir.rsplit("=", 1)[-1], gain)
        fitted = likelier
        if request.variant in request.training.ensemble.variants:
            fitted = replace(request, model=likelier.model)
            fit(fitted, device)
        if ranks.is_main:
            structure.keep(fitted.output_dir, request.output_dir, evidence)
        ranks.broadcast(b"")  # nobody reads before rank 0 has written
        return FitResult.load(request.output_dir)


def restarted(start: Callable[[], None], max_restarts: int) -> None:
    """start launches the ranks of a job and waits for them; where one dies it is called again, max_restarts times, and
    all ranks go on from their last checkpoint.

    ValueError, at once, where the ranks themselves have refused something, or their Python lacks a module: it would be
    so again.
    """
    for done in range(max_restarts + 1):
        try:
            start()
            return
        except Exception as error:
            refused = _REFUSED.findall(str(error))
            if refused:
                raise ValueError(refused[0].strip()) from error
            missing = _MISSING.search(str(error))
            if missing:
                raise ValueError(
                    f"training: the Python of the ranks has no module {missing[1]}: install the package and what it "
                    "needs on all workers, or ship both with the job (docker/pack-environment.sh)"
                ) from error
            if done == max_restarts:
                raise
            log.warning(
                "a rank died; all start again from the last checkpoint (%d of training.max_restarts = %d times)",
                done + 1, max_restarts,
            )  # fmt: skip


_REFUSED = re.compile(r"(?:^|\s)ValueError: (.*)$", re.MULTILINE)
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([^']*)'")


def launch(*requests: FitRequest, num_ranks: int = 1, timeout_seconds: float | None = None) -> list[FitResult]:
    """Train on this machine: in this process for one rank, else with torchrun. RuntimeError with its last lines where
    ranks die again and again, ValueError where they refuse something."""
    if num_ranks == 1:
        return [fit(request) for request in requests]

    def start() -> None:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                torchrun_command(requests, num_ranks, Path(folder)),
                env=os.environ | {"PYTHONPATH": _python_path()},
                timeout=timeout_seconds,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            raise RuntimeError(f"training with {num_ranks} ranks failed:\n{done.stdout[-10_000:]}")
        log.info("%s", done.stdout.strip())

    restarted(start, max(request.training.max_restarts for request in requests))
    return [FitResult.load(request.output_dir) for request in requests]


def torchrun_command(requests: Sequence[FitRequest], num_ranks: int, folder: Path) -> list[str]:
    """The command that trains the requests on this machine; their JSON is written to the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    command += ["-m", "almmta_spark.training", "--request"]
    for number, request in enumerate(requests):
        path = folder / f"request-{number}.json"
        path.write_text(request.to_json())
        command.append(str(path))
    return command


def _python_path() -> str:
    """Where this package lies goes first, so that it need not be installed."""
    root = str(Path(almmta_spark.__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


def _finish(
    request: FitRequest, ranks: Ranks, model: nn.Module, history: list[dict[str, Any]], facts: dict[str, float]
) -> FitResult:
    """Write the model on rank 0, model.json last: a folder that has it is complete."""
    last = history[-1]
    metrics = {
        **{f"train_{name}": value for name, value in last["loss"].items()},
        **{f"held_out_{name}": value for name, value in last["held_out"].items()},
        "journeys_per_second": sum(e["journeys_per_second"] for e in history) / len(history),
        "data_wait_share": sum(e["data_wait_share"] for e in history) / len(history),
        "bytes_sent_per_epoch": sum(e["bytes_sent"] for e in history) / len(history),
        "rows_per_epoch": float(last["rows"]),
        "num_ranks": float(ranks.world),
        **facts,
    }
    digest = ""
    if ranks.is_main:
        folder = Folder(request.output_dir)
        with tempfile.TemporaryDirectory() as local:
            digest = saved.save(model.cpu(), request.spec, request.model, request.variant, local, metrics)
            folder.write("weights.pt", (Path(local) / "weights.pt").read_bytes())
            folder.write("history.json", json.dumps(history).encode())
            folder.write("model.json", (Path(local) / "model.json").read_bytes())
    digest = ranks.broadcast(digest.encode()).decode()
    return FitResult(request.variant, digest, request.output_dir, metrics, history)


def _mean_abs_effect(model: nn.Module, shard: Shard, ranks: Ranks) -> dict[str, float]:
    """Mean |removal_effect| of the held-out touches of all ranks, as a metric; none where there are none."""
    model.eval()
    size = touches = 0.0
    for batch in shard.validation_batches():
        here = batch.to(ranks.device)
        size += float(model.effects(here).removal_effect_BL.abs().double().sum())  # type: ignore[operator]
        touches += float(here.mask_BL.sum())
    size, touches = (sum(column) for column in zip(*ranks.gather([size, touches]), strict=True))
    return {"held_out_mean_abs_effect": size / touches} if touches else {}


def _refuse_sharded_tables(model: nn.Module) -> None:
    tables = [name for name, module in model.named_modules() if isinstance(module, RowShardedEmbedding)]
    if tables:
        raise ValueError(
            f"model.{tables[0]} is sharded by rows over the ranks, and a checkpoint holds one rank's state: "
            "use nn.Embedding in models trained by this loop"
        )


def _code_digest() -> str:
    """SHA-256 of the code that decides the weights: a checkpoint is not resumed by another version of it."""
    root = Path(almmta_spark.__file__).parent
    files = sorted(path for package in ("model", "training") for path in (root / package).glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
