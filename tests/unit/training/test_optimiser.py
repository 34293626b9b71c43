"""Learning rates, schedule and average of the weights."""

import pytest
import torch
from torch import nn

from almmta_spark.config import TrainingConfig
from almmta_spark.training import optimiser
from tests.unit.training.conftest import Regression


def test_each_kind_of_parameter_has_its_own_rate_and_leaks_do_not_decay():
    training = TrainingConfig(dense_lr=1e-2, sparse_lr=3e-2, leak_lr=5e-2, weight_decay=1e-3)
    groups = {g["kind"]: g for g in optimiser.adamw(Regression(), training).param_groups}
    assert {k: g["lr"] for k, g in groups.items()} == {"dense": 1e-2, "sparse": 3e-2, "leak": 5e-2}
    assert {k: g["weight_decay"] for k, g in groups.items()} == {"dense": 1e-3, "sparse": 1e-3, "leak": 0.0}


def test_a_parameter_in_no_group_is_our_own_mistake():
    model = Regression()
    model.forgotten = nn.Parameter(torch.zeros(1))
    with pytest.raises(AssertionError, match="each parameter once"):
        optimiser.adamw(model, TrainingConfig())


@pytest.mark.parametrize("num_steps", [10, 53, 742])
def test_the_schedule_is_torchs_one_cycle(num_steps):
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(theirs, max_lr=1.0, total_steps=num_steps)
    for step in range(num_steps):
        assert optimiser.one_cycle(step, num_steps) == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-9)
        theirs.step()
        if step < num_steps - 1:
            cycle.step()


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_of_few_steps_has_a_schedule_too(num_steps):
    assert all(0 < optimiser.one_cycle(step, num_steps) <= 1 for step in range(num_steps + 1))


def test_leaks_keep_their_rate_over_the_cycle():
    training = TrainingConfig()
    adamw = optimiser.adamw(Regression(), training)
    schedule = optimiser.schedule(adamw, 20)
    seen = []
    for _ in range(20):
        seen.append([g["lr"] for g in adamw.param_groups])
        adamw.step()
        schedule.step()
    assert {rates[2] for rates in seen} == {training.leak_lr}
    assert max(rates[0] for rates in seen) == pytest.approx(training.dense_lr)
    assert seen[-1][0] < 1e-5 < training.dense_lr


def test_the_average_weighs_each_update_by_its_age_alone():
    weight = nn.Parameter(torch.zeros(2))
    average = optimiser.WeightAverage([weight], decay=0.9)
    visited = [torch.tensor([float(i), i**2 / 10.0]) for i in range(1, 8)]
    for value in visited:
        weight.data.copy_(value)
        average.update()
    ages = torch.arange(len(visited) - 1, -1, -1)
    expected = sum(0.9**k * v for k, v in zip(ages.tolist(), visited, strict=True)) / (0.9**ages).sum()
    torch.testing.assert_close(average.values[0], expected)


def test_swapping_twice_puts_the_weights_back():
    weight = nn.Parameter(torch.tensor([1.0]))
    average = optimiser.WeightAverage([weight], decay=0.5)
    average.swap()
    assert weight.item() == 1.0, "before the first update there is nothing to swap with"
    average.update()
    weight.data.fill_(4.0)
    average.update()
    average.swap()
    assert weight.item() == pytest.approx(3.0)
    average.swap()
    assert weight.item() == 4.0
