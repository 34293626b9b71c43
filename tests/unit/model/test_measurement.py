"""The mediator read from many signals by learned heads, and the adversary that they must defeat."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import Signal
from almmta_spark.model import Batch, adversary, build, measurement
from almmta_spark.model.measurement import FactorEmission, SignalHeads
from tests.unit.model.conftest import SPEC, make_columns

KINDS = ("binary", "binary", "count")
MANY = replace(SPEC, outcome_proxies=tuple(Signal(f"s{j}", KINDS[j % 3], anchor=j > 1) for j in range(8)))
"""Eight signals, all but the first two declared as anchors."""
CONF = ModelConfig(signal_heads=3)


def many(seed: int = 0, num_rows: int = 48) -> Batch:
    g = np.random.default_rng(seed)
    values = np.where(np.arange(8) % 3 == 2, g.poisson(1.0, (num_rows, 8)), g.integers(0, 2, (num_rows, 8)))
    intents = g.integers(0, 2, (num_rows, 1)).astype(np.float32)
    columns = make_columns(seed, num_rows) | {"outcome_proxies": values.astype(np.float32), "intent_proxies": intents}
    return Batch.from_columns(columns, MANY)


def perturbed(conf: ModelConfig = CONF) -> torch.nn.Module:
    model = build("latent", MANY, conf)
    generator = torch.Generator().manual_seed(1)
    model.reset_parameters(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_emission_is_a_normal_with_nuisance_factors():
    emission = FactorEmission(4, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in emission.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    heads, mediator = torch.randn(3, 4, generator=generator), torch.randn(3, 5, generator=generator)
    w, eta, leak = (torch.randn(shape, generator=generator) for shape in ((3, 5), (4,), (3, 4)))
    p = {k: v.detach().numpy().astype(float) for k, v in emission.named_parameters()}
    covariance = p["factor_JR"] @ p["factor_JR"].T + np.diag(np.exp(2 * p["log_sd_J"]))
    found = emission(mediator, heads, (w, eta), leak).detach()
    for b in range(3):
        for n in range(5):
            mean = p["intercept_J"] + p["loading_J"] * float(mediator[b, n]) + (eta * w[b, n] + leak[b]).numpy()
            by_hand = multivariate_normal(mean, covariance).logpdf(heads[b].numpy())
            assert float(found[b, n]) == pytest.approx(by_hand, rel=1e-4, abs=1e-4)


def test_heads_are_for_many_signals_and_read_anchors_alone_where_some_are_declared():
    assert measurement.uses_heads(MANY, CONF) and not measurement.uses_heads(MANY, ModelConfig(signal_heads=4))
    assert not measurement.uses_heads(MANY, ModelConfig(signal_heads=0))
    undeclared = replace(MANY, outcome_proxies=tuple(replace(s, anchor=False) for s in MANY.outcome_proxies))
    assert measurement.read_by_heads(undeclared) == list(range(8))
    heads = SignalHeads(MANY, 3).eval()
    heads.reset_parameters(torch.Generator().manual_seed(0))
    signals = many().outcome_proxies_BJ
    leaking, clean = signals.clone(), signals.clone()
    leaking[:, :2] += 1
    clean[:, 2:] += 1
    assert torch.equal(heads(leaking).value_BG, heads(signals).value_BG)
    assert not torch.isclose(heads(clean).value_BG, heads(signals).value_BG).any()


def test_a_head_reads_its_own_group_alone():
    heads = SignalHeads(MANY, 3).eval()
    heads.reset_parameters(torch.Generator().manual_seed(0))
    signals = many().outcome_proxies_BJ
    for position, j in enumerate(measurement.read_by_heads(MANY)):
        moved = signals.clone()
        moved[:, j] += 1
        changed = (heads(moved).value_BG != heads(signals).value_BG).any(0)
        assert changed.nonzero().squeeze(1).tolist() == [position % 3]


def test_a_fitted_head_does_not_depend_on_who_shares_its_batch():
    heads = SignalHeads(MANY, 3).eval()
    heads.reset_parameters(torch.Generator().manual_seed(0))
    signals = many().outcome_proxies_BJ
    torch.testing.assert_close(heads(signals[:5]).value_BG, heads(signals).value_BG[:5])


def test_tracking_learns_location_and_scale_of_heads():
    heads = SignalHeads(MANY, 3)
    heads.reset_parameters(torch.Generator().manual_seed(0))
    signals = many(num_rows=400).outcome_proxies_BJ
    optimiser = torch.optim.Adam([heads.centre_G, heads.log_scale_G], lr=0.1)
    for _ in range(120):
        optimiser.zero_grad()
        heads(signals).tracking_B.mean().backward()
        optimiser.step()
    standard, fitted = heads(signals).value_BG, heads.eval()(signals).value_BG
    torch.testing.assert_close(fitted, standard, rtol=0.05, atol=0.05)


def correlated(rows: int, strength: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heads, target and what is held fixed; the first head tells the target's own noise with this correlation."""
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.randn(rows, 2, generator=generator)
    own = torch.randn(rows, 1, generator=generator)
    noise = torch.randn(rows, 3, generator=generator)
    first = strength * own + math.sqrt(1 - strength**2) * noise[:, :1]
    heads = torch.cat([first, noise[:, 1:]], dim=1) + 2 * fixed[:, :1]
    return heads, own + 3 * fixed[:, :1] - fixed[:, 1:], fixed


def test_the_gain_is_what_heads_tell_beyond_what_is_held_fixed():
    heads, target, fixed = correlated(60_000, 0.5, seed=0)
    assert float(adversary.gain_nats(heads, target, fixed)) == pytest.approx(0.5 * 0.25, rel=0.05)
    assert float(adversary.gain_nats(heads, target, fixed[:, :0])) > 0.3


def test_the_gain_of_heads_that_tell_nothing_is_zero_on_average():
    gains = torch.stack([adversary.gain_nats(*correlated(256, 0.0, seed)) for seed in range(300)])
    assert abs(float(gains.mean())) < 3 * float(gains.std()) / math.sqrt(300)
    assert (gains < 0).any() and (gains > 0).any()


def test_a_row_of_weight_two_counts_twice():
    heads, target, fixed = correlated(200, 0.5, seed=1)
    times = torch.tensor([1.0, 2.0]).repeat(100)
    repeated = [v.repeat_interleave(times.long(), dim=0) for v in (heads, target, fixed)]
    once = adversary.correlation_nats(heads, target[:, 0], fixed, times)
    torch.testing.assert_close(once, adversary.correlation_nats(repeated[0], repeated[1][:, 0], repeated[2]))


def test_heads_that_pay_for_it_stop_telling_the_target():
    generator = torch.Generator().manual_seed(0)
    mean, leak = torch.randn(4_000, generator=generator), torch.randn(4_000, generator=generator)
    noise = torch.randn(4_000, 2, generator=generator)
    # The second signal knows the leak, but badly: taking the leak out of the first costs correlation with the mean.
    seen = torch.stack([mean + leak + 0.3 * noise[:, 0], leak + 1.5 * noise[:, 1]], dim=1)
    nothing = mean[:, None][:, :0]

    def told(weight: float) -> float:
        mix = torch.tensor([[1.0, 0.0]], requires_grad=True)
        optimiser = torch.optim.Adam([mix], lr=5e-2)
        for step in range(100):
            rows = torch.arange(4_000)[step % 4 :: 4]
            heads = seen[rows] @ mix.T
            cost = -adversary.correlation_nats(heads, mean[rows], nothing[rows])
            cost = cost + weight * adversary.gain_nats(heads, leak[rows][:, None], mean[rows][:, None])
            optimiser.zero_grad()
            cost.backward()
            optimiser.step()
        return float(adversary.gain_nats(seen @ mix.detach().T, leak[:, None], mean[:, None]))

    assert told(0.0) > 0.1 and told(30.0) < 0.01


@pytest.mark.parametrize("target", ["intent", "outcome_residual", "outcome"])
def test_every_parameter_of_a_model_with_heads_receives_a_finite_gradient(target):
    model = perturbed(replace(CONF, adversary_target=target)).train()
    terms = model(many(), progress=0.9)
    assert {"heads", "tracking", "adversary"} <= terms.keys()
    terms["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_the_adversary_moves_the_heads_and_nothing_else():
    def gradients(weight: float) -> dict[str, torch.Tensor]:
        model = perturbed(replace(CONF, heads_adversary_weight=weight)).train()
        model(many(), progress=0.9)["loss"].backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    with_it, without = gradients(30.0), gradients(0.0)
    moved = {name for name, gradient in with_it.items() if not torch.allclose(gradient, without[name])}
    assert moved and all(name.startswith("heads.") for name in moved)


def test_models_with_heads_side_by_side_are_each_as_alone():
    models = [perturbed().train(), build("latent", MANY, CONF).train()]
    batch = many()
    parameters, buffers = torch.func.stack_module_state(models)

    def loss(p: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(models[0], (p, b), (batch, 0.9))["loss"]

    found = torch.vmap(loss)(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([m(batch, 0.9)["loss"] for m in models]), rtol=1e-4, atol=1e-4)
