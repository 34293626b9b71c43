"""SlowMo's laws (Wang et al. 2020, algorithm 1), on ranks that are threads."""

import pytest
import torch
from torch import nn

from almmta_spark.training.slow_momentum import SlowMomentum, average_moments


def descend(ranks, steps, period, beta=0.0, alpha=1.0, lr=0.1, average=None):
    """SGD on a quadratic whose centre is the rank's own; the weights after each step."""
    weight = nn.Parameter(torch.tensor([4.0, -2.0]))
    centre = torch.tensor([1.0, 3.0]) * (ranks.rank + 1)
    sgd = torch.optim.SGD([weight], lr=lr)
    slow = SlowMomentum(sgd, ranks, period, beta, alpha) if average is None else None
    seen = []
    for _ in range(steps):
        sgd.zero_grad()
        ((weight - centre) ** 2).sum().backward()
        sgd.step()
        if slow is not None:
            slow.step()
        elif average is not None:
            weight.data.copy_(average(ranks, weight.data))
        seen.append(weight.detach().clone())
    return torch.stack(seen)


def plain_average(ranks, values):
    return ranks.sum(values.clone()) / ranks.world


def test_without_momentum_and_with_period_one_it_is_plain_averaging(on_ranks):
    slow = on_ranks(3, lambda ranks: descend(ranks, 6, period=1))
    plain = on_ranks(3, lambda ranks: descend(ranks, 6, period=1, average=plain_average))
    for first, second in zip(slow, plain, strict=True):
        assert torch.equal(first, second)


def test_between_averagings_each_rank_goes_its_own_way(on_ranks):
    first, second = on_ranks(2, lambda ranks: descend(ranks, 8, period=4))
    assert [torch.equal(a, b) for a, b in zip(first, second, strict=True)] == [False] * 3 + [True] + [False] * 3 + [
        True
    ]


@pytest.mark.parametrize(("beta", "alpha"), [(0.0, 0.5), (0.7, 1.0), (0.6, 0.8)])
def test_the_slow_update_is_the_papers(on_ranks, beta, alpha):
    """Against the formula written out: u = beta u + (x_0 - x_avg) / gamma; x = x_0 - alpha gamma u."""
    gamma, period, rounds = 0.05, 3, 4
    got = on_ranks(2, lambda ranks: descend(ranks, period * rounds, period, beta, alpha, gamma))[0][-1]
    x, u = torch.tensor([4.0, -2.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _ in range(rounds):
        ends = []
        for rank in range(2):
            local, centre = x.clone(), torch.tensor([1.0, 3.0], dtype=torch.float64) * (rank + 1)
            for _ in range(period):
                local = local - gamma * 2 * (local - centre)
            ends.append(local)
        u = beta * u + (x - sum(ends) / 2) / gamma
        x = x - alpha * gamma * u
    torch.testing.assert_close(got.double(), x, rtol=1e-5, atol=1e-5)


def test_groups_keep_learning_rates_of_their_own(on_ranks):
    def work(ranks):
        fast, slow_one = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        sgd = torch.optim.SGD([{"params": [fast], "lr": 0.5}, {"params": [slow_one], "lr": 0.1}])
        slow = SlowMomentum(sgd, ranks, period=1, beta=0.5)
        for _ in range(2):
            sgd.zero_grad()
            (fast + slow_one).sum().backward()
            sgd.step()
            slow.step()
        return fast.item(), slow_one.item(), [u.item() for u in slow.momentum]

    fast, slow_one, momentum = on_ranks(2, work)[0]
    assert momentum == pytest.approx([1.5, 1.5]), "u is in units of the learning rate, so equal gradients give equal u"
    assert fast == pytest.approx(1 - 0.5 * 1 - 0.5 * 1.5)
    assert slow_one == pytest.approx(1 - 0.1 * 1 - 0.1 * 1.5)


def test_period_four_sends_a_quarter_of_the_bytes(on_ranks):
    def sent(period):
        def work(ranks):
            descend(ranks, 12, period)
            return ranks.bytes_sent

        return on_ranks(2, work)[0]

    assert sent(1) == 4 * sent(4) == 12 * 8


def test_its_state_comes_back(on_ranks):
    def work(ranks):
        weight = nn.Parameter(torch.tensor([1.0]))
        slow = SlowMomentum(torch.optim.SGD([weight], lr=0.1), ranks, period=2, beta=0.5)
        for value in (0.5, 0.2, 0.1):
            weight.data.fill_(value)
            slow.step()
        other = SlowMomentum(torch.optim.SGD([nn.Parameter(torch.tensor([9.0]))], lr=0.1), ranks, period=2, beta=0.5)
        other.load_state_dict(slow.state_dict())
        return slow, other

    for slow, other in on_ranks(2, work):
        assert other.num_steps == slow.num_steps == 1
        assert torch.equal(other.anchor[0], slow.anchor[0]) and torch.equal(other.momentum[0], slow.momentum[0])


def test_moments_are_equal_on_all_ranks_after_averaging(on_ranks):
    def work(ranks):
        weight = nn.Parameter(torch.ones(3))
        adamw = torch.optim.AdamW([weight], lr=0.1)
        (weight * (ranks.rank + 1)).sum().backward()
        adamw.step()
        before = adamw.state[weight]["exp_avg"].clone()
        average_moments(adamw, ranks)
        return before, adamw.state[weight]["exp_avg"]

    (first, mean), (second, same) = on_ranks(2, work)
    assert torch.equal(mean, same) and not torch.equal(first, second)
    torch.testing.assert_close(mean, (first + second) / 2)
