"""What the compared methods claim, each against slow arithmetic or theory."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import Batch, attention, build, initialise, shapley
from almmta_spark.model.encoder import cluster_counts
from almmta_spark.model.rates import TouchRates, rates_nll
from tests.unit.model.conftest import SPEC, make_columns

CONF = ModelConfig(embedding_dim=3, hidden=8, item_rows=0, author_rows=0)


def moved(variant: str, conf: ModelConfig = CONF, spec=SPEC, seed: int = 1) -> torch.nn.Module:
    """A model away from its initial zeros, in eval mode."""
    model = build(variant, spec, conf)
    generator = torch.Generator().manual_seed(seed)
    model.reset_parameters(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


# ---- attention ----


def test_the_states_are_those_of_torchs_own_recurrent_network():
    model = moved("attention")
    states, width = model.states, CONF.hidden
    reference = torch.nn.GRU(width * 3, width, batch_first=True)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(torch.eye(3 * width))
        reference.bias_ih_l0.zero_()
        reference.weight_hh_l0.copy_(states.recurrent.weight * attention.PACE)
        reference.bias_hh_l0.copy_(states.recurrent.bias * attention.PACE)
    gates = torch.randn(4, 5, 3 * width, generator=torch.Generator().manual_seed(0))
    hidden, _ = reference(gates)
    share = torch.softmax(torch.tanh(states.attention(hidden)) @ states.score_H, 1)
    expected = (share[..., None] * hidden).sum(1)
    torch.testing.assert_close(states(gates, torch.ones(4, 5), deletions=False)[:, 0], expected)


def test_attention_sees_the_order_of_touches(columns):
    model, rows = moved("attention"), columns["num_touches"] == 4
    some = {k: v[rows] for k, v in columns.items()} | {"match_position": np.full(rows.sum(), -1)}
    turned = some | {"cluster_index": some["cluster_index"][:, [3, 2, 1, 0, 4, 5]]}
    a, b = (model.effects(Batch.from_columns(c, SPEC)).p_outcome_B for c in (some, turned))
    assert not torch.allclose(a, b)


# ---- Shapley on the model ----


def by_definition(model: torch.nn.Module, row: Batch, touches: int) -> list[float]:
    """sum over S of |S|! (L - |S| - 1)! / L! (v(S + k) - v(S)), each v a journey of its own."""

    @torch.no_grad()
    def v(members: tuple[int, ...]) -> float:
        keep = list(members) or [0]
        part = replace(
            row,
            num_touches_B=torch.tensor([len(members)]),
            cluster_BL=row.cluster_BL[:, keep],
            age_BL=row.age_BL[:, keep],
        )
        stimuli, logit = model._encode(part)
        return float(torch.sigmoid(logit(stimuli.total())))

    def value(k: int) -> float:
        others = [i for i in range(touches) if i != k]
        return sum(
            math.factorial(n) * math.factorial(touches - n - 1) / math.factorial(touches)
            * (v(tuple(sorted((*s, k)))) - v(s))
            for n in range(touches)
            for s in itertools.combinations(others, n)
        )  # fmt: skip

    return [value(k) for k in range(touches)]


@pytest.mark.parametrize("signed", [False, True])
def test_shapley_values_equal_the_definition(signed, batch):
    model = moved("shapley_model", replace(CONF, signed=signed))
    effects = model.effects(batch)
    for i, touches in enumerate(batch.num_touches_B.tolist()):
        expected = by_definition(model, batch.rows(torch.tensor([i])), touches)
        assert effects.removal_effect_BL[i, :touches].tolist() == pytest.approx(expected, abs=1e-6)
    assert not effects.standard_error_BL.any()


def long_journeys(rows: int = 6, touches: int = 11) -> Batch:
    spec = replace(SPEC, max_touchpoints=touches)
    g = np.random.default_rng(5)
    columns = {k: v for k, v in make_columns(5, rows).items() if v.shape[1:] != (SPEC.max_touchpoints,)}
    columns |= {
        "num_touches": np.full(rows, touches),
        "cluster_index": g.integers(0, 5, (rows, touches)),
        "age_hours": g.uniform(0, 24, (rows, touches)).astype(np.float32),
        "propensity_bucket": np.zeros((rows, touches), np.int32),
        "match_position": np.full(rows, -1),
    }
    return Batch.from_columns(columns, spec)


def test_sampled_shapley_values_add_up_and_lie_within_their_standard_errors(monkeypatch):
    model, batch = moved("shapley_model"), long_journeys()
    found = model.effects(batch)
    monkeypatch.setattr(shapley, "EXACT_TOUCHES", 11)
    exact = model.effects(batch)
    none_B = model.effects(replace(batch, num_touches_B=torch.zeros_like(batch.num_touches_B))).p_outcome_B
    torch.testing.assert_close(found.removal_effect_BL.sum(1), found.p_outcome_B - none_B, rtol=1e-4, atol=1e-6)
    off = (found.removal_effect_BL - exact.removal_effect_BL).abs()
    assert found.standard_error_BL.max() > 0
    assert (off <= 4 * found.standard_error_BL + 1e-6).all()
    assert float(off.square().mean().sqrt()) < 0.03 * float(exact.removal_effect_BL.square().mean().sqrt())


def test_a_touch_without_a_stimulus_has_a_shapley_value_of_exactly_zero(batch):
    model = moved("shapley_model")
    with torch.no_grad():
        model.encoder.strength_K[2] = 0.0
        model.encoder.strength_content.reset_parameters()  # contents say nothing
    for journeys in (batch, long_journeys()):
        effect = model.effects(journeys).removal_effect_BL
        silent = (journeys.cluster_BL == 2) & (journeys.mask_BL > 0)
        assert silent.any() and not effect[silent].any()


def test_a_journeys_sampled_values_do_not_depend_on_its_batch():
    model, batch = moved("shapley_model"), long_journeys()
    alone = model.effects(batch.rows(torch.tensor([3]))).removal_effect_BL
    torch.testing.assert_close(alone[0], model.effects(batch).removal_effect_BL[3])


# ---- doubly robust ----


def test_rates_are_fitted_by_the_poisson_likelihood(columns, batch):
    rates = TouchRates(3, 5)
    rates.reset_parameters()
    with torch.no_grad():
        rates.taste_KN.copy_(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    counts = cluster_counts(batch, 5)
    log_rate = rates(batch.covariates_BD)
    constant = torch.lgamma(counts + 1).sum(1)
    poisson = torch.distributions.Poisson(log_rate.exp()).log_prob(counts).sum(1)
    torch.testing.assert_close(rates_nll(log_rate, counts) * (1 + counts.sum(1)), -poisson - constant)


def poisson_world(rows: int) -> tuple[Batch, np.ndarray, ExampleSpec]:
    """Two clusters, the first served at a rate that X decides through a product no linear model follows, and which
    drives the outcome too. Returns the batch, the exact deletion effect of every touch, and the spec.
    """
    g = np.random.default_rng(3)
    x = g.choice([-1.0, 1.0], (rows, 3))
    sign = x[:, 0] * x[:, 1]
    counts = g.poisson(np.stack([np.exp(-0.5 + 0.8 * sign), np.full(rows, 0.7)], 1)).clip(max=5)
    logit = -1.5 + 1.2 * sign + 0.5 * counts[:, 0]
    outcome = (g.random(rows) < expit(logit)).astype(np.float32)
    cluster = (np.arange(10) >= counts[:, :1]).astype(np.int32)
    effect = np.where(cluster == 0, (expit(logit) - expit(logit - 0.5))[:, None], 0.0)
    columns = {
        "journey_id": np.arange(rows),
        "outcome": outcome,
        "covariates": x.astype(np.float32),
        "num_touches": counts.sum(1),
        "cluster_index": cluster,
        "age_hours": np.full((rows, 10), 0.01, np.float32),
        "propensity_bucket": np.zeros((rows, 10), np.int32),
    }
    base_rate = float(outcome.mean())
    spec = replace(
        SPEC, clusters=(0, 1), max_touchpoints=10, num_training=rows, cluster_contents=(), base_rate=base_rate
    )
    batch = Batch.from_columns(columns, spec)
    return batch, effect[:, : batch.age_BL.shape[1]], spec


class Fixed(torch.nn.Module):
    """A part of a model that is a given function of X."""

    def __init__(self, value) -> None:
        super().__init__()
        self.value = value

    def forward(self, covariates: torch.Tensor) -> torch.Tensor:
        return self.value(covariates[:, 0] * covariates[:, 1])


def corrected(batch: Batch, spec: ExampleSpec, right_outcome: bool, right_rates: bool) -> np.ndarray:
    """Deletion effects where outcome model and rates are given, right or blind to X, and epsilon alone is fitted."""
    model = build("doubly_robust", spec, replace(CONF, signed=True, sparsity=0.0))
    with torch.no_grad():
        ramp = math.log(2) / 2  # of a touch that covariates do not modulate
        model.encoder.embedding_KR.zero_()
        model.encoder.strength_K.copy_(torch.tensor([0.5 / ramp if right_outcome else 0.0, 0.0]))
        model.mediator.one_minus_rho.fill_(-30.0)  # a linear link
        model.slope.linear.bias.fill_(initialise.softplus_inverse(1.0))
    sign = 1.0 if right_outcome else 0.0
    model.baseline = Fixed(lambda xx: -1.5 + sign * 1.2 * xx)
    slope = 0.8 if right_rates else 0.0
    model.rates = Fixed(lambda xx: torch.stack([-0.5 + slope * xx, torch.full_like(xx, 0.7).log()], 1))
    optimiser = torch.optim.LBFGS([model.correction.epsilon_K], line_search_fn="strong_wolfe", max_iter=50)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = model(batch)["loss"]
        value.backward()
        return value

    optimiser.step(loss)
    return model.eval().effects(batch).removal_effect_BL.numpy()


def test_the_mean_effect_is_right_where_either_the_outcome_model_or_the_rates_are():
    batch, effect, spec = poisson_world(20_000)
    of_first = (batch.cluster_BL.numpy() == 0) & (batch.mask_BL.numpy() > 0)
    truth = effect[of_first].mean()
    mean = {
        (outcome, rates): corrected(batch, spec, outcome, rates)[of_first].mean() / truth
        for outcome, rates in itertools.product((True, False), repeat=2)
    }
    for either in ((True, True), (True, False), (False, True)):
        assert mean[either] == pytest.approx(1.0, abs=0.08), mean
    assert mean[False, False] > 1.5, mean


# ---- balanced ----


def test_the_adversary_is_taught_what_the_representation_unlearns(columns, batch):
    """One term, two directions: descending it teaches the reader, and turns the representation away from it."""
    model = moved("balanced").train()
    before = model(batch, progress=1.0)["adversary_nll"]

    def gradients(progress: float) -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(batch, progress=progress)["loss"].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    without, with_ = gradients(0.0), gradients(1.0)
    push = {n: with_[n] - without[n] for n in with_}
    assert not push["adversary.taste_KN"].any()  # its own step does not depend on the ramp
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.sub_(0.05 * push[name])
    assert model(batch, progress=1.0)["adversary_nll"] > before


def test_without_an_adversary_the_representation_starts_as_the_covariates_themselves(batch):
    model = build("balanced", SPEC, CONF)
    torch.testing.assert_close(model.representation(batch.covariates_BD), torch.tanh(batch.covariates_BD))


# ---- inverse propensity ----


def test_a_journeys_weight_is_the_mean_of_its_touches_and_1_without_any(columns):
    model, plain = moved("backdoor_ipw"), moved("backdoor")
    plain.load_state_dict(model.state_dict())
    for i, touches in enumerate(columns["num_touches"]):
        row = Batch.from_columns({k: v[i : i + 1] for k, v in columns.items()}, SPEC)
        expected = columns["touch_weight"][i, :touches].mean() if touches else 1.0
        assert float(model(row)["nll"]) == pytest.approx(float(plain(row)["nll"]) * expected, rel=1e-5)
