"""The training loop: epochs of equal steps on every rank, an average of the weights, held-out loss, checkpoints."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from almmta_spark.config import TrainingConfig
from almmta_spark.model.ensemble import Ensemble
from almmta_spark.training import checkpoint, optimiser, slow_momentum
from almmta_spark.training.distributed import Ranks, replicate
from almmta_spark.training.folder import Folder
from almmta_spark.training.shard import Shard, Step, to_device

log = logging.getLogger("almmta.training")


class Trainer:
    """Trains one model, or an ensemble as one, on this rank's shard, in step with the other ranks."""

    def __init__(
        self,
        model: nn.Module,
        shard: Shard,
        training: TrainingConfig,
        ranks: Ranks,
        seed: int,
        folder: Folder,
        digest: str,
    ) -> None:
        self.model, self.shard, self.training, self.ranks, self.seed = model, shard, training, ranks, seed
        self.folder, self.digest = folder, digest
        """digest: of all that decides the weights; a checkpoint with another one is not resumed from."""
        self.num_steps = training.epochs * shard.num_steps
        self.steps_done = 0
        self.history: list[dict[str, Any]] = []
        self.optimiser = optimiser.adamw(model, training)
        self.schedule = optimiser.schedule(self.optimiser, self.num_steps)
        self.num_members = model.plan.members if isinstance(model, Ensemble) else None
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.average = optimiser.WeightAverage(self.parameters, training.ema_decay)
        self.slow: slow_momentum.SlowMomentum | None = None
        self.forward = model
        if training.slow_momentum_period:
            self.slow = slow_momentum.SlowMomentum(
                self.optimiser, ranks, training.slow_momentum_period, training.slow_momentum, training.slow_momentum_lr
            )
        else:
            self.forward = replicate(model, ranks, ranks.world == 1 or self._always_uses_all_parameters())
        self.use_bf16 = training.precision == "bf16" or (training.precision == "auto" and ranks.device.type == "cuda")
        self.terms: list[str] = []
        """Names of what the model's forward returns."""
        self.failure: tuple[int, int, float, float] | None = None
        """What was not finite on this rank: step, rows, loss, gradient norm. With SlowMo others hear of it later."""

    def fit(self) -> list[dict[str, Any]]:
        """All epochs, from the newest checkpoint of this request on; the model then holds the averaged weights."""
        for epoch in range(self._resume() + 1, self.training.epochs + 1):
            self.history.append(self._epoch(epoch))
            if self._keeps(epoch):
                self._checkpoint(epoch)
        self.average.swap()
        return self.history

    def _epoch(self, epoch: int) -> dict[str, Any]:
        torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch, self.ranks.rank)).generate_state(1)[0]))
        self.model.train()
        started, waited, sent = time.perf_counter(), 0.0, self.ranks.bytes_sent
        sums = _TermSums()
        steps = to_device(self.shard.training_steps(epoch), self.ranks.device)
        with contextlib.closing(steps):
            while True:
                asked = time.perf_counter()
                step = next(steps, None)
                waited += time.perf_counter() - asked
                if step is None:
                    break
                sums.add(self._step(step, epoch), step.num_rows)
        if self.slow is not None:
            self._meet(epoch)
        seconds = time.perf_counter() - started
        self.terms = sorted(sums.sums)
        terms = sums.means(self.ranks, self.terms)
        return self._summary(epoch, terms, seconds, waited, self.ranks.bytes_sent - sent)

    def _step(self, step: Step, epoch: int) -> dict[str, Tensor]:
        """Forward, backward, clip, optimiser, average: nothing is applied anywhere once a loss is not finite."""
        with self._precision():
            terms: dict[str, Tensor] = self.forward(step.batch, self.steps_done / self.num_steps)
        loss = terms["loss"].float()
        # A loss that is not finite poisons every gradient, so that all ranks see it in theirs without another message.
        healthy = torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan)
        self.optimiser.zero_grad(set_to_none=True)
        # The loss is the members' mean: times their number, each member's gradient is that of its own loss.
        (loss * (self.num_members or 1) * step.weight * healthy).backward()
        norm = optimiser.clip_gradients(self.parameters, self.training.clip_norm, self.num_members)
        self._refuse_non_finite(float(norm), loss.detach(), step.num_rows, epoch)
        if self.failure is None:
            self.optimiser.step()
        if self.slow is not None and self.slow.num_steps + 1 == self.slow.period:
            self._report_failures(epoch)
        if self.slow is not None:
            self.slow.step()
        self.schedule.step()
        self.steps_done += 1
        if self.steps_done > self.num_steps / 2:
            self.average.update()
        self.model.project()  # type: ignore[operator]
        return {name: term.detach() for name, term in terms.items()}

    def _refuse_non_finite(self, norm: float, loss: Tensor, num_rows: int, epoch: int) -> None:
        if math.isfinite(norm) or self.failure is not None:
            return
        self.failure = (self.steps_done % self.shard.num_steps + 1, num_rows, float(loss), norm)
        if self.slow is None:
            self._report_failures(epoch)

    def _report_failures(self, epoch: int) -> None:
        """Meet the other ranks; ValueError on all of them where any has failed."""
        everybody = self.ranks.gather([self.failure is not None, *(self.failure or (0, 0, 0.0, 0.0))])
        failed = {rank: row[1:] for rank, row in enumerate(everybody) if row[0]}
        # Gradients are shared, losses are not: where a loss is at fault, its rank is.
        guilty = {rank: row for rank, row in failed.items() if not math.isfinite(row[2])} or failed
        if guilty:
            facts = "; ".join(
                f"rank {rank} of {self.ranks.world}, step {step:.0f} of {self.shard.num_steps}, {rows:.0f} journeys: "
                f"loss {loss}, gradient norm {norm}"
                for rank, (step, rows, loss, norm) in guilty.items()
            )
            raise ValueError(
                f"training stopped before the optimiser step, not finite in epoch {epoch}: {facts}. Lower "
                "training.dense_lr and training.sparse_lr, or look for extreme values in training_examples"
            )

    def _meet(self, epoch: int) -> None:
        """SlowMo's end of an epoch: one last averaging, and whatever is evaluated or kept made equal on all ranks."""
        assert self.slow is not None
        self._report_failures(epoch)
        self.slow.average()
        if self._keeps(epoch):
            slow_momentum.average_moments(self.optimiser, self.ranks)
        for value, mean in zip(self.average.values, self.ranks.mean(self.average.values), strict=True):
            value.copy_(mean)

    @torch.no_grad()
    def _held_out(self) -> dict[str, float]:
        """Loss terms on the held-out rows of all ranks under the weights that would be kept now; empty without rows."""
        self.model.eval()
        self.average.swap()
        sums = _TermSums()
        for batch in self.shard.validation_batches():
            with self._precision():
                terms = self.model(batch.to(self.ranks.device), self.steps_done / self.num_steps)
            sums.add(terms, batch.size)
        self.average.swap()
        return sums.means(self.ranks, self.terms)

    def _summary(self, epoch: int, terms: dict[str, float], seconds: float, waited: float, sent: int) -> dict[str, Any]:
        held_out = self._held_out()
        rows = self.shard.check_epoch(epoch)
        trained = sum(self.shard.rows_by_rank)
        slowest = max(row[0] for row in self.ranks.gather([waited / seconds]))
        entry = {
            "epoch": epoch,
            "loss": terms,
            "held_out": held_out,
            "rows": rows,
            "journeys_per_second": trained / seconds,
            "data_wait_share": slowest,
            "bytes_sent": sent,
        }
        if self.ranks.is_main:
            others = " ".join(f"{name} {value:.4f}" for name, value in terms.items() if name != "loss")
            log.info(
                "epoch %d/%d  loss %.4f (%s)  held-out %.4f  %d journeys/s  %.0f%% waiting for data",
                epoch, self.training.epochs, terms["loss"], others, held_out.get("loss", math.nan),
                trained / seconds, 100 * slowest,
            )  # fmt: skip
        return entry

    def _always_uses_all_parameters(self) -> bool:
        """Whether even a batch without pairs, before any ramp, gives every parameter a gradient.

        In eval mode, so that a model that remembers what it was trained on does not count this.
        """
        self.model.eval()
        self.model(self.shard.plain_batch().to(self.ranks.device), 0.0)["loss"].backward()
        used = all(p.grad is not None for p in self.parameters)
        self.optimiser.zero_grad(set_to_none=True)
        return all(row[0] for row in self.ranks.gather([used]))

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=self.use_bf16)  # type: ignore[return-value]

    def _keeps(self, epoch: int) -> bool:
        return epoch % self.training.checkpoint_epochs == 0 or epoch == self.training.epochs

    def _checkpoint(self, epoch: int) -> None:
        if self.ranks.is_main:
            state = {
                "request": self.digest,
                "steps_done": self.steps_done,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "slow": self.slow.state_dict() if self.slow else None,
                "rng": torch.get_rng_state(),
                "history": self.history,
            }
            checkpoint.save(self.folder, epoch, state)

    def _resume(self) -> int:
        """Epochs done according to the newest checkpoint of this request, its state taken over; 0 without one."""
        found = checkpoint.newest(self.folder, self.digest) if self.ranks.is_main else None
        content = self.ranks.broadcast(found[1] if found else b"")
        if not content:
            if self.ranks.is_main:
                checkpoint.discard(self.folder)
            return 0
        state = checkpoint.load(content, self.folder.url)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(_on(state["average"], self.ranks.device))
        if self.slow is not None:
            self.slow.load_state_dict(state["slow"])
        torch.set_rng_state(state["rng"])
        self.steps_done, self.history = int(state["steps_done"]), list(state["history"])
        if found:
            log.info("resumed after epoch %d from %s", state["epoch"], found[0])
        return int(state["epoch"])


class _TermSums:
    """Row-weighted sums of loss terms, kept on the device so that no step waits for them."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.rows = 0

    def add(self, terms: dict[str, Tensor], num_rows: int) -> None:
        self.rows += num_rows
        for name, term in terms.items():
            value = term.detach().double() * num_rows
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self, ranks: Ranks, names: Sequence[str]) -> dict[str, float]:
        """Means of the named terms over the rows of all ranks; empty where there are none."""
        mine = [float(self.sums[name]) if self.rows else 0.0 for name in names]
        everybody = np.array(ranks.gather([*mine, self.rows]))
        rows = everybody[:, -1].sum()
        return {name: float(everybody[:, i].sum() / rows) for i, name in enumerate(names) if rows}


def _on(value: Any, device: torch.device) -> Any:
    """Tensors inside lists and dicts, on the device."""
    if isinstance(value, dict):
        return {key: _on(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_on(item, device) for item in value]
    return value.to(device) if isinstance(value, Tensor) else value
