"""The parts against slow arithmetic done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, gammaln
from scipy.stats import norm

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import Signal
from almmta_spark.model import Batch, build, initialise, losses
from almmta_spark.model.contrastive import ContrastivePairs
from almmta_spark.model.encoder import SHARPNESS, StimulusEncoder, cluster_counts, concave_link
from almmta_spark.model.exposure import ExposureFactor
from almmta_spark.model.frontdoor import frontdoor_sum, journey_bucket
from almmta_spark.model.grad_reversal import ramp, reverse_gradient
from almmta_spark.model.leak import OutcomeLeak
from almmta_spark.model.pooling import rows
from almmta_spark.model.quadrature import GaussHermite
from tests.unit.model.conftest import SPEC, make_columns

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def perturbed(conf: ModelConfig, seed: int = 2) -> torch.nn.Module:
    model = build("latent", SPEC, conf)
    generator = torch.Generator().manual_seed(seed)
    model.reset_parameters(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def floor(p: dict[str, np.ndarray]) -> float:
    """Strength below which a fitted touch is silent."""
    contents = np.array(SPEC.cluster_contents)
    return 0.05 * np.maximum(p["encoder.strength_K"] + [told(p, content) for content in contents], 0).mean()


def told(p: dict[str, np.ndarray], content: np.ndarray) -> float:
    """What a content says of strength."""
    f = {name.removeprefix("encoder.strength_content."): value for name, value in p.items()}
    bent = f["out.weight"][0] @ np.tanh(f["hidden.weight"] @ content + f["hidden.bias"])
    return float(f["linear.weight"][0] @ content + bent)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("intent", [False, True])
def test_the_loss_equals_a_slow_quadrature(leak, intent, columns):
    conf = ModelConfig(outcome_leak=leak, hidden_intent=intent, intent_nodes=3, exposure_factor=False, sparsity=0.0)
    conf = replace(conf, upload_content="off")
    model = perturbed(conf).eval()
    p = {k: v.detach().numpy().astype(float) for k, v in model.state_dict().items()}
    batch = Batch.from_columns(columns, replace(SPEC, touch_embeddings=True))
    total = 0.0
    for i, n in enumerate(columns["num_touches"]):
        x, y = columns["covariates"][i].astype(float), float(columns["outcome"][i])
        stimulus = omega = 0.0
        for k in range(n):
            c, age = columns["cluster_index"][i, k], columns["age_hours"][i, k]
            content = (columns["touch_embedding"][i, 4 * k : 4 * k + 4] - SPEC.content_mean) / SPEC.content_scale
            mix = np.exp(p["encoder.decay_mix"]) / np.exp(p["encoder.decay_mix"]).sum()
            decay = (mix * np.exp(-softplus(p["encoder.decay_rate"]) / 12 * float(age))).sum()
            e = p["encoder.embedding_KR"][c] + p["encoder.content.weight"] @ content
            u = p["encoder.level"] + (p["encoder.modulation.weight"] @ x) @ e
            s = p["encoder.strength_K"][c] + told(p, content)
            for kind in ("item", "author"):
                mean_N = p[f"encoder.{kind}s.mean_N"]
                row = int(rows(torch.tensor(columns[f"{kind}_id"][i, k]), len(mean_N)))
                s += np.exp(p[f"encoder.{kind}s.log_scale"]) * mean_N[row]
            stimulus += (s if s >= floor(p) else 0.0) * softplus(2 * u) / 2 * decay
            omega += p["direct.omega_K"][c]
        rho = 1 - softplus(p["mediator.one_minus_rho"])
        mu = p["mediator.baseline.weight"][0] @ x + p["mediator.baseline.bias"][0]
        mu += softplus(p["mediator.alpha"]) * ((1 + stimulus) ** rho - 1) / rho
        g0 = p["direct.linear.weight"][0] @ x + p["direct.linear.bias"][0] + omega
        slope = softplus(p["slope.linear.weight"][0] @ x + p["slope.linear.bias"][0])
        likelihood = 0.0
        for (node, node_z), weight in _pairs(3 if intent else 1):
            logit = p["proxies.intercept_J"] + p["proxies.loading_J"] * (mu + node)
            log_z, direct = 0.0, g0
            if intent:
                served = sum(p["intent.served_K"][c] for c in columns["cluster_index"][i, :n])
                w = p["intent.linear.weight"][0] @ x + served + node_z
                logit = logit + p["intent.eta_J"] * w
                direct = g0 + p["intent.gamma"] * (w - 0.8)
                logit_z = p["intent.signals.intercept_J"] + p["intent.signals.loading_J"] * w
                log_z = (columns["intent_proxies"][i] * logit_z - softplus(logit_z)).sum()
            if leak:
                logit = logit + y * p["leak.kappa_J"] * np.array([1, 0, 1])
            v = columns["outcome_proxies"][i].astype(float)
            logs = v[:2] * logit[:2] - softplus(logit[:2])
            log_p = logs.sum() + v[2] * logit[2] - np.exp(logit[2]) - gammaln(v[2] + 1)
            outcome = expit(direct + slope * (mu + node - 1.5))
            likelihood += weight * np.exp(log_p + log_z) * (outcome if y else 1 - outcome)
        total -= np.log(likelihood)
    assert float(model(batch)["nll"]) == pytest.approx(total / len(columns["num_touches"]), rel=1e-4)


UNANCHORED = replace(SPEC, outcome_proxies=(Signal("camera", "binary"), Signal("save", "binary"), Signal("d", "count")))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.lists(st.floats(0.1, 2), min_size=3, max_size=3))
def test_without_an_anchor_no_kappa_goes_along_the_loadings(kappa, loading):
    leak, loading_J = OutcomeLeak(UNANCHORED), torch.tensor(loading)
    with torch.no_grad():
        leak.kappa_J.copy_(torch.tensor(kappa))
        leak.drawn.fill_(0.0)
    found_J, drawn_J = leak.kappa(loading_J, torch.tensor(0.7))
    assert not drawn_J.any()
    assert float((found_J @ loading_J).detach()) == pytest.approx(0.0, abs=1e-4)
    rest_J = torch.tensor(kappa) - found_J
    torch.testing.assert_close(
        rest_J, loading_J * (rest_J @ loading_J) / loading_J.square().sum(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [0.01, 5.0])
def test_the_drawn_part_of_a_leak_spreads_only_where_a_leak_is_found_and_is_never_learned(size):
    spec = replace(UNANCHORED, num_training=100_000)
    loading_J, leaks = torch.ones(3), [OutcomeLeak(spec) for _ in range(3)]
    for seed, leak in enumerate(leaks):
        leak.reset_parameters(torch.Generator().manual_seed(seed))
        with torch.no_grad():
            leak.kappa_J.copy_(size * torch.tensor([1.0, 0.0, -1.0]))
        leak(torch.ones(2), loading_J, torch.tensor(0.7)).square().sum().backward()
        assert float(leak.drawn.grad) == 0
    for leak in leaks:
        u, (_, drawn_J) = float(leak.drawn.detach()), leak.kappa(loading_J, torch.tensor(0.7))
        c = u / (1 - u) * 0.7 if size > 1 else 0.0  # u is the leak's share of b + c
        torch.testing.assert_close(drawn_J.detach(), torch.full((3,), c), rtol=0.02, atol=1e-6)
    assert len({float(leak.drawn.detach()) for leak in leaks}) == 3


def test_an_anchor_settles_kappa_for_the_others(batch):
    leak = OutcomeLeak(SPEC)  # its second signal is an anchor
    leak.reset_parameters()
    with torch.no_grad():
        leak.kappa_J.copy_(torch.tensor([2.0, 3.0, 4.0]))
    leaked_BJ = leak(torch.tensor([0.0, 1.0]), torch.ones(3), torch.tensor(0.7)).detach()
    torch.testing.assert_close(leaked_BJ, torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 4.0]]))


def test_the_leaks_gain_is_the_likelihood_with_kappa_over_that_without(batch):
    model = perturbed(ModelConfig(sparsity=0.0, exposure_factor=False))
    with_leak, gain = float(model(batch)["nll"]), model.effects(batch).leak_gain_B
    with torch.no_grad():
        model.leak.kappa_J.zero_()
    assert float(gain.mean()) == pytest.approx(float(model(batch)["nll"]) - with_leak, abs=1e-5)
    assert perturbed(ModelConfig(outcome_leak=False)).effects(batch).leak_gain_B is None


def _pairs(num_z: int) -> list[tuple[tuple[float, float], float]]:
    """((x, z), weight) of every pair of nodes."""
    z, weights = np.polynomial.hermite_e.hermegauss(num_z)
    return [
        ((a, b), u * v / weights.sum())
        for a, u in zip(NODES, WEIGHTS, strict=True)
        for b, v in zip(z, weights, strict=True)
    ]


def test_ate_x_equals_ett_where_the_outcome_depends_on_touches_through_the_mediator_alone(batch):
    model = perturbed(ModelConfig())
    with torch.no_grad():
        for parameter in (model.direct.omega_K, model.direct.factor.weight, model.direct.factor.bias):
            parameter.zero_()
        for parameter in (model.slope.factor, model.intent.served_K, model.intent.factor):
            parameter.zero_()
    effects = model.effects(batch)
    torch.testing.assert_close(effects.p_do_B, effects.p_outcome_B)
    torch.testing.assert_close(effects.removal_effect_ate_BL, effects.removal_effect_BL)


def test_ate_x_is_the_mean_over_sequences_that_a_user_might_have_been_served(columns):
    """Against 20,000 sequences drawn from the exposure models of 32 seeds for one user, each with its own w_hat.

    Normals stand in for w_hat and for sums over touches: that costs 2 % on average, 10 % at most (draws: .5 %). Sums
    or a w_hat without variance, a w_hat of variance 1, counts that do not follow w_hat: each makes 4 to 7 % on average.
    """
    one = Batch.from_columns({k: v[3:4] for k, v in columns.items()}, SPEC)
    found = np.array([_interventional_and_served(one, seed) for seed in range(32)])
    by_formula, by_draws, served = found.T
    error = np.abs(by_formula / by_draws - 1)
    assert error.mean() <= 0.03 and error.max() <= 0.15, error
    assert np.abs(served / by_draws - 1).mean() >= 0.2  # not that of the sequence served


def _interventional_and_served(one: Batch, seed: int) -> tuple[float, float, float]:
    """P(Y | do(T), X) by the model and by draws, and P(Y | T, X), under the model of a seed."""
    model = perturbed(ModelConfig(item_rows=0, author_rows=0), seed)
    e = model.exposure
    with torch.no_grad():
        generator, draws = torch.Generator().manual_seed(0), 20_000
        for table_K in (model.direct.omega_K, model.intent.served_K):
            table_K.copy_(0.3 * torch.sin(torch.arange(5.0)))
        e.served_K.copy_(torch.tensor([0.6, -0.4, 0.0, 0.5, -0.7]))
        model.direct.factor.bias.fill_(0.6)
        e.count_mean.bias.fill_(2.5)
        e.count_log_sd.fill_(-1.0)  # a slot is taken or not: the root of their number varies by about .35
        x_B = torch.randn(draws, generator=generator)
        covariates_BD = one.covariates_BD.expand(draws, -1)
        root_B = e.count_mean(covariates_BD).squeeze(1) + e.count_slope * x_B
        root_B = root_B + torch.exp(e.count_log_sd) * torch.randn(draws, generator=generator)
        logit_BK = e.popularity_K + covariates_BD @ e.taste_KD.T + x_B[:, None] * e.served_K
        number_B = root_B.clamp_min(0).square().round().long()
        touch_BL = torch.multinomial(torch.softmax(logit_BK, 1), int(number_B.max()), True, generator=generator)
        kept_BL = (torch.arange(touch_BL.shape[1]) < number_B[:, None]).float()
        counts_BK = torch.zeros_like(logit_BK).scatter_add_(1, touch_BL, kept_BL)
        w_hat_B, _ = e(covariates_BD, counts_BK)
        _, g0_B, slope_B = model._outcome(covariates_BD, counts_BK, w_hat_B)
        effects = model.effects(one)
        by_draws = model._p_outcome(effects.mu_B.expand(draws), g0_B, slope_B).mean()
        return float(effects.p_do_B[0]), float(by_draws), float(effects.p_outcome_B[0])


def test_the_exposure_likelihood_equals_a_slow_quadrature(columns, batch):
    factor = ExposureFactor(SPEC, 9)
    generator = torch.Generator().manual_seed(2)
    factor.reset_parameters(generator)
    with torch.no_grad():
        for parameter in factor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    p = {k: v.detach().numpy().astype(float) for k, v in factor.state_dict().items()}
    w_hat, log_p = factor(batch.covariates_BD, cluster_counts(batch, 5))
    for i, n in enumerate(columns["num_touches"]):
        x = columns["covariates"][i].astype(float)
        at_node = []
        for node in NODES:
            policy = np.exp(p["taste_KD"] @ x + p["popularity_K"] + p["served_K"] * node)
            chosen = np.prod([policy[c] / policy.sum() for c in columns["cluster_index"][i, :n]])
            mean = p["count_mean.weight"][0] @ x + p["count_mean.bias"][0] + p["count_slope"] * node
            at_node.append(chosen * norm.pdf(np.sqrt(n), mean, np.exp(p["count_log_sd"])))
        joint = WEIGHTS * np.array(at_node)
        assert float(log_p[i]) == pytest.approx(np.log(joint.sum()), rel=1e-4, abs=1e-4)
        assert float(w_hat[i]) == pytest.approx((joint * NODES).sum() / joint.sum(), rel=1e-3, abs=1e-4)


def test_the_outcome_does_not_bend_the_exposure_factor(batch):
    model = perturbed(ModelConfig(sparsity=0.0))
    counts = cluster_counts(batch, 5)
    w_hat, _ = model.exposure(batch.covariates_BD, counts)
    assert not w_hat.requires_grad


def test_gradient_reversal_turns_the_sign_and_scales():
    value = torch.tensor([1.0, -2.0], requires_grad=True)
    passed = reverse_gradient(value, 0.7)
    assert torch.equal(passed, value)
    (passed * torch.tensor([3.0, 5.0])).sum().backward()
    torch.testing.assert_close(value.grad, torch.tensor([-2.1, -3.5]))


@given(ceiling=st.floats(0.01, 40), level=st.floats(-2, 2))
@settings(max_examples=50, deadline=None)
def test_a_stimulus_rises_from_nothing_to_its_ceiling(ceiling, level):
    encoder = StimulusEncoder(replace(SPEC, cluster_contents=()), ModelConfig(modulation_hidden=0)).double().eval()
    encoder.reset_parameters()
    with torch.no_grad():
        encoder.ceiling.fill_(initialise.softplus_inverse(ceiling))
        encoder.level.fill_(level)
        encoder.strength_K.fill_(1.0)
        encoder.embedding_KR.zero_()[:, 0] = 1.0
        encoder.modulation.weight.zero_()[0, 0] = 1.0
    u = np.linspace(-8, ceiling + 8, 50)
    covariates = torch.zeros(len(u), SPEC.num_covariates, dtype=torch.float64)
    covariates[:, 0] = torch.as_tensor(u - level)
    found = encoder.stimulus_at_once(covariates)[:, 0].detach().numpy()
    rounding = 1e-6 * (1 + ceiling)  # stimuli are float32
    assert np.all(np.diff(found) > -rounding) and np.all(found < ceiling + rounding)
    assert found[0] == pytest.approx(0, abs=rounding) and found[-1] == pytest.approx(ceiling, abs=rounding)
    free, logistic = np.logaddexp(0, SHARPNESS * u) / SHARPNESS, ceiling * expit(SHARPNESS * u)
    assert np.all(found < free + rounding)
    if ceiling > 39:
        assert found[u < 20] == pytest.approx(free[u < 20], abs=rounding)
    if ceiling < 0.02:
        assert found == pytest.approx(logistic, rel=SHARPNESS * ceiling, abs=rounding)


def test_the_adversary_ramp_runs_from_zero_to_one():
    assert ramp(0.0) == 0.0
    assert ramp(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert ramp(1.0) == pytest.approx(1.0, abs=1e-4)


def test_reversal_makes_the_mediator_worse_for_the_discriminator(batch):
    """One plain gradient step on the adversary's term alone raises that term when only the mediator moves."""
    model = build("paper", SPEC, ModelConfig())
    with torch.no_grad():
        model.discriminator.out.weight.fill_(0.3)
    mu = torch.tensor([0.2, 1.0, -0.5, 0.4, 2.0, 0.1], requires_grad=True)

    def term(value: torch.Tensor) -> torch.Tensor:
        return losses.adversary_nll(model.discriminator(reverse_gradient(value, 1.0)[:, None]), batch.outcome_B).mean()

    before = term(mu)
    before.backward()
    assert float(term((mu - 0.1 * mu.grad).detach())) > float(before.detach())


def test_info_nce_equals_the_hand_computation():
    positive, negatives = torch.tensor([1.0, 0.0]), torch.tensor([[0.5, -1.0], [2.0, -torch.inf]])
    by_hand = [
        -math.log(math.exp(1) / (math.exp(1) + math.exp(0.5) + math.exp(-1))),
        -math.log(1 / (1 + math.exp(2))),
    ]
    torch.testing.assert_close(losses.info_nce(positive, negatives), torch.tensor(by_hand))


def test_contrastive_pairs_equal_the_hand_computation(columns, batch):
    conf = ModelConfig(embedding_dim=3, contrastive_temperature=0.5)
    pairs = ContrastivePairs(SPEC, conf)
    generator = torch.Generator().manual_seed(2)
    pairs.reset_parameters(generator)
    embedding = torch.randn(5, 3, generator=generator)
    touch = (pairs.touch.weight @ embedding.T).T.detach().numpy()
    rows = np.flatnonzero(columns["match_position"] >= 0)
    clusters = columns["cluster_index"][rows, columns["match_position"][rows]]
    total = 0.0
    for row, own in zip(rows, clusters, strict=True):
        upload = pairs.upload.weight.detach().numpy() @ columns["upload_embedding"][row]

        def similarity(c: int, upload: np.ndarray = upload) -> float:
            return float(touch[c] @ upload / np.linalg.norm(touch[c]) / np.linalg.norm(upload) / 0.5)

        negatives = [c for c in clusters if c != own]
        negatives += [c for c in columns["negative_cluster_index"][row] if c >= 0 and c != own]
        denominator = math.exp(similarity(own)) + sum(math.exp(similarity(c)) for c in negatives)
        total -= math.log(math.exp(similarity(own)) / denominator)
    assert float(pairs(batch, embedding)) == pytest.approx(total / batch.size, rel=1e-4)


def test_the_frontdoor_sum_equals_a_loop():
    g0, push = torch.randn(4, 3), torch.randn(4, 2)
    loop = [[sum(expit(float(g0[i, n] + push[i, k])) for n in range(3)) / 3 for k in range(2)] for i in range(4)]
    torch.testing.assert_close(frontdoor_sum(g0, push), torch.tensor(loop, dtype=torch.float32))
    torch.testing.assert_close(frontdoor_sum(g0, push[:, 0]), torch.tensor(loop, dtype=torch.float32)[:, 0])


@pytest.mark.parametrize("mode", ["batch", "bucket", "match"])
def test_neighbours_are_other_journeys_with_and_without_upload(mode):
    """A function of the journey, not of its batch, and of the same bucket first where the mode says so."""
    model = build("paper", SPEC, ModelConfig(frontdoor_neighbours=mode, num_neighbours=2))
    seen = Batch.from_columns(make_columns(3, 6), SPEC)
    counts = cluster_counts(seen, 5)
    model.train()(seen)
    content = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    chosen = model.bank.neighbours(seen, counts, content)
    for i in range(6):
        alone = Batch.from_columns({k: v[i : i + 1] for k, v in make_columns(3, 6).items()}, SPEC)
        assert torch.equal(model.bank.neighbours(alone, cluster_counts(alone, 5), content)[0], chosen[i])
    assert not (chosen == torch.arange(6)[:, None]).any()
    if mode == "bucket":
        bucket = journey_bucket(seen)
        for i in range(6):
            others = [j for j in range(6) if j != i and bucket[j] == bucket[i]]
            expected = {tuple(counts[j].tolist()) for j in others}
            found = {tuple(c.tolist()) for c in model.bank.counts_MK[chosen[i]]}
            assert found <= expected if len(others) >= 2 else expected <= found


def test_gauss_hermite_integrates_polynomials_exactly():
    nodes = GaussHermite(9)
    for power, moment in ((0, 1), (2, 1), (4, 3), (6, 15), (7, 0)):
        assert float((nodes.w_Q * nodes.x_Q**power).sum()) == pytest.approx(moment, abs=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 40), min_size=2, max_size=8), st.floats(-2, 1))
def test_the_link_rises_and_flattens(totals, rho):
    s = torch.tensor(sorted(totals), dtype=torch.float64)
    value = concave_link(s, torch.tensor(rho, dtype=torch.float64))
    assert (value.diff() >= -1e-9).all()
    assert float(concave_link(torch.zeros(1), torch.tensor(rho))) == 0.0
    steps = torch.linspace(0, 40, 9, dtype=torch.float64)
    assert (concave_link(steps, torch.tensor(rho, dtype=torch.float64)).diff().diff() <= 1e-9).all()


def test_the_link_is_continuous_and_differentiable_in_rho_at_zero():
    s = torch.tensor([0.5, 3.0, 30.0], dtype=torch.float64)
    for rho in (0.0, 0.999e-3, 1.001e-3, -1e-5):
        r = torch.tensor(rho, dtype=torch.float64, requires_grad=True)
        value = concave_link(s, r)
        exact = torch.log1p(s) if rho == 0 else ((1 + s) ** rho - 1) / rho
        torch.testing.assert_close(value.detach(), exact, rtol=1e-5, atol=1e-6)
        value.sum().backward()
        assert float(r.grad) == pytest.approx(float((torch.log1p(s) ** 2 / 2).sum()), rel=1e-2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_latent_deletions_never_raise_the_outcome_without_a_signed_term(seed):
    """g_k >= 0, alpha > 0 and b > 0: a touch can only inspire."""
    model = build("latent", SPEC, ModelConfig())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    effects = model.effects(Batch.from_columns(make_columns(seed), SPEC))
    assert (effects.removal_effect_BL >= -1e-6).all()
    assert ((effects.p_outcome_B >= 0) & (effects.p_outcome_B <= 1)).all()


def test_a_strength_below_zero_is_exactly_silent_and_can_come_back(batch):
    model = build("latent", SPEC, ModelConfig(item_rows=0, author_rows=0))
    with torch.no_grad():
        model.encoder.strength_K[2] = -0.1
    assert not model.encoder.stimulus_at_once(batch.covariates_BD)[:, 2].any()
    assert not model.encoder(batch).stimulus_BL[batch.cluster_BL == 2].any()
    model(batch)["loss"].backward()
    assert float(model.encoder.strength_K.grad[2]) != 0.0


def test_a_wrong_batch_is_refused_with_its_column(columns):
    with pytest.raises(ValueError, match="age_hours is missing"):
        Batch.from_columns({k: v for k, v in columns.items() if k != "age_hours"}, SPEC)
    with pytest.raises(ValueError, match="cluster_index"):
        Batch.from_columns(columns | {"cluster_index": columns["cluster_index"] + 5}, SPEC)
    with pytest.raises(ValueError, match="num_touches"):
        Batch.from_columns(columns | {"num_touches": np.full(6, 7)}, SPEC)
    with pytest.raises(ValueError, match="covariates"):
        Batch.from_columns(columns | {"covariates": columns["covariates"][:, :2]}, SPEC)


def test_outcome_side_columns_may_be_missing_when_scoring(columns, batch):
    needed = ("journey_id", "covariates", "num_touches", "cluster_index", "age_hours", "propensity_bucket")
    needed += ("item_id", "author_id", "touch_embedding")  # without these a touch is one of its cluster like any other
    bare = Batch.from_columns({k: columns[k] for k in needed}, SPEC)
    model = perturbed(ModelConfig()).eval()
    assert torch.equal(model.effects(bare).removal_effect_BL, model.effects(batch).removal_effect_BL)
    assert (bare.match_position_B == -1).all()


def test_a_fitted_strength_below_the_floor_counts_as_zero(batch):
    encoder = build("latent", SPEC, ModelConfig()).encoder
    with torch.no_grad():
        encoder.strength_K.copy_(torch.tensor([1.0, 1.0, 0.01, 0.0, -0.01]))
    assert encoder.strength().tolist() == pytest.approx([1.0, 1.0, 0.01, 0.0, 0.0])
    assert encoder.eval().strength().tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_an_item_without_content_is_one_of_its_cluster_like_any_other(columns):
    spec = replace(SPEC, touch_embeddings=True)
    model = perturbed(ModelConfig(item_rows=0, author_rows=0)).eval()
    units = np.array(SPEC.cluster_contents) * SPEC.content_scale + SPEC.content_mean
    mean = units[columns["cluster_index"]].reshape(6, -1).astype(np.float32)
    given, unknown = (
        Batch.from_columns(columns | {"touch_embedding": content}, spec) for content in (mean, np.zeros_like(mean))
    )
    without = Batch.from_columns({k: v for k, v in columns.items() if k != "touch_embedding"}, spec)
    expected = model.effects(given).removal_effect_BL
    torch.testing.assert_close(model.effects(unknown).removal_effect_BL, expected)
    torch.testing.assert_close(model.effects(without).removal_effect_BL, expected)
    own = model.effects(Batch.from_columns(columns, spec)).removal_effect_BL
    assert not torch.allclose(own, expected)


def test_without_contents_a_cluster_has_a_vector_of_its_own():
    model = build("latent", replace(SPEC, cluster_contents=()), ModelConfig(upload_content="off"))
    assert model.encoder.embedding() is model.encoder.embedding_KR
    off = build("latent", SPEC, ModelConfig(content_modulation=False, upload_content="off"))
    assert set(off.state_dict()) == set(model.state_dict())
