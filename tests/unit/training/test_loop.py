"""The loop: resumed runs end as uninterrupted ones, and a loss that is not finite reaches no weight."""

import logging
import math

import pytest
import torch

from almmta_spark.config import TrainingConfig
from almmta_spark.training.folder import Folder
from almmta_spark.training.loop import Trainer
from tests.unit.training.conftest import Regression, trainer


class Interrupted(Exception):
    pass


class Fails(Regression):
    """Gives up, or stops being finite, at the n-th training forward."""

    def __init__(self, at, error=None, value=math.nan):
        super().__init__()
        self.at, self.error, self.value, self.calls = at, error, value, 0

    def forward(self, batch, progress):
        terms = super().forward(batch, progress)
        self.calls += self.training
        if self.training and self.calls == self.at:
            if self.error:
                raise self.error
            terms["loss"] = terms["loss"] + self.value
        return terms


SLOW = {"slow_momentum_period": 3, "slow_momentum": 0.5}


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, {"checkpoint_epochs": 2}, SLOW, {"batch_size": 1000}])
def test_a_run_resumed_after_an_interruption_ends_with_the_same_bits(sample, tmp_path, settings):
    whole = trainer(sample, tmp_path / "whole", **settings)
    history = whole.fit()
    broken = Fails(at=2 * whole.shard.num_steps + 1, error=Interrupted())
    with pytest.raises(Interrupted):
        trainer(sample, tmp_path / "broken", broken, **settings).fit()
    resumed = trainer(sample, tmp_path / "broken", **settings)
    resumed_history = resumed.fit()
    assert resumed.steps_done == whole.steps_done and len(resumed_history) == len(history) == 4
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert [e["held_out"] for e in resumed_history] == [e["held_out"] for e in history]
    assert [e["loss"] for e in resumed_history] == [e["loss"] for e in history]


def test_a_finished_run_is_not_trained_again(sample, tmp_path):
    first = trainer(sample, tmp_path)
    first.fit()
    again = trainer(sample, tmp_path, Fails(at=1, error=Interrupted()))
    again.fit()
    assert torch.equal(first.model.slope.weight, again.model.slope.weight)


def test_a_checkpoint_of_other_settings_is_not_resumed(sample, tmp_path):
    trainer(sample, tmp_path).fit()
    other = trainer(sample, tmp_path)
    other.digest = "another request"
    assert other._resume() == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_optimiser_step(sample, tmp_path, value):
    model = Fails(at=12, value=value)
    stopped = trainer(sample, tmp_path, model)
    before = []
    stopped.optimiser.register_step_post_hook(lambda *_: before.append(model.slope.weight.detach().clone()))
    steps = stopped.shard.num_steps
    message = rf"not finite in epoch 2: rank 0 of 1, step {12 - steps} of {steps}, \d+ journeys: loss (nan|inf)"
    with pytest.raises(ValueError, match=message):
        stopped.fit()
    assert len(before) == 11 and torch.equal(model.slope.weight, before[-1])
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_under_slow_momentum_one_ranks_bad_loss_stops_all_at_the_next_meeting(sample, tmp_path, on_ranks):
    training = TrainingConfig(batch_size=64, epochs=3, **SLOW)
    models = {}

    def work(ranks):
        models[ranks.rank] = model = Fails(at=4 if ranks.rank == 1 else 10**9)
        shard = sample.shard(ranks)
        with pytest.raises(ValueError, match=r"not finite in epoch 1: rank 1 of 2, step 4 of "):
            Trainer(model, shard, training, ranks, 0, Folder(str(tmp_path)), "x").fit()
        return model.calls

    assert on_ranks(2, work) == [6, 6], "three steps, a meeting, three steps and the meeting that tells"
    assert all(torch.isfinite(p).all() for model in models.values() for p in model.parameters())


def test_two_ranks_under_slow_momentum_end_with_equal_weights(uneven, tmp_path, on_ranks):
    training = TrainingConfig(batch_size=64, epochs=2, **SLOW)

    def work(ranks):
        model = Regression()
        history = Trainer(model, uneven.shard(ranks), training, ranks, 0, Folder(str(tmp_path)), "x").fit()
        return model.state_dict(), history[-1]["loss"]["loss"], history[-1]["rows"]

    (first, loss, rows), (second, other_loss, _) = on_ranks(2, work)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert loss == other_loss and rows == 600


@pytest.mark.long
def test_the_fit_finds_the_minimum_and_says_so_each_epoch(sample, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "almmta.training"):
        fitted = trainer(sample, tmp_path, epochs=30, dense_lr=0.1, sparse_lr=0.1, leak_lr=0.1, weight_decay=0.0)
        history = fitted.fit()
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert len(lines) == 30 and "held-out" in lines[0] and "waiting for data" in lines[0]
    batch = next(iter(fitted.shard.training_steps(1))).batch
    assert history[-1]["loss"]["loss"] < 0.9 * history[0]["loss"]["loss"]
    assert history[-1]["rows"] == 600
    loss = fitted.model(batch, 1.0)["loss"]
    loss.backward()
    assert fitted.model.slope.weight.grad.abs().max() < 0.5, "near the minimum of every batch"


def test_progress_runs_from_zero_to_one(sample, tmp_path):
    history = trainer(sample, tmp_path, epochs=2).fit()
    assert 0.2 < history[0]["loss"]["progress"] < 0.3 and 0.7 < history[1]["loss"]["progress"] < 0.8
    assert history[1]["held_out"]["progress"] == 1.0


def test_the_kept_weights_are_the_average_of_the_second_half(sample, tmp_path):
    fitted = trainer(sample, tmp_path, ema_decay=0.9)
    seen = []
    fitted.optimiser.register_step_post_hook(lambda *_: seen.append(fitted.model.slope.bias.item()))
    fitted.fit()
    late = torch.tensor(seen[fitted.num_steps // 2 :], dtype=torch.float64)
    weight = 0.9 ** torch.arange(len(late) - 1, -1, -1, dtype=torch.float64)
    assert fitted.model.slope.bias.item() == pytest.approx((weight * late).sum().item() / weight.sum().item(), abs=1e-6)


def test_bf16_is_asked_for_by_name_on_a_cpu(sample, tmp_path):
    assert not trainer(sample, tmp_path).use_bf16
    assert trainer(sample, tmp_path, precision="bf16").use_bf16
    loss = trainer(sample, tmp_path, precision="bf16", epochs=1).fit()[0]["loss"]["loss"]
    assert loss == pytest.approx(trainer(sample, tmp_path / "f", epochs=1).fit()[0]["loss"]["loss"], rel=0.02)
