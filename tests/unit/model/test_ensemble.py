"""Members of an ensemble: who learns from whom, that each is a model of its own, and what they say together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from almmta_spark.config import EnsembleConfig, ModelConfig
from almmta_spark.model import Batch, build, ensemble, saved
from almmta_spark.model.ensemble import Ensemble, left_out, own_rows
from tests.unit.model.conftest import SPEC, make_columns

PLAN = EnsembleConfig(folds=3, repeats=2)
CONFS = {
    "plain": ModelConfig(),
    "everything": ModelConfig(signed=True, outcome_leak=True, modulation_hidden=4),
    "mixture": ModelConfig(upload_content="mixture"),
}
plans = st.builds(EnsembleConfig, folds=st.integers(2, 6), repeats=st.integers(1, 5))


def members(variant: str = "latent", conf: ModelConfig = CONFS["plain"], plan: EnsembleConfig = PLAN) -> Ensemble:
    """An ensemble away from its initial values."""
    model, generator = Ensemble(variant, SPEC, conf, plan, seed=5), torch.Generator().manual_seed(1)
    model.reset_parameters(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def alone(model: Ensemble, member: int) -> torch.nn.Module:
    """A member as a model of its own."""
    single = build(model.variant, SPEC, model.conf)
    with torch.no_grad():
        for name, parameter in single.named_parameters():
            parameter.copy_(model.get_parameter(f"stacked.{name}")[member])
    return single


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40, unique=True), plans, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_user_is_left_out_by_one_member_of_each_repeat_whatever_the_order(users, plan, seed):
    out_MB = left_out(torch.tensor(users), plan, seed)
    assert (out_MB.reshape(plan.repeats, plan.folds, -1).sum(1) == 1).all()
    assert torch.equal(left_out(torch.tensor(users[::-1]), plan, seed), out_MB.flip(1))
    assert torch.equal(left_out(torch.tensor(users[:1] * 3), plan, seed), out_MB[:, :1].expand(-1, 3))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_are_equal_splits_that_know_nothing_of_each_other_or_of_the_seed(folds):
    """20,000 users in a row, the worst case for a hash: shares within 5 standard errors of chance."""
    users, plan = torch.arange(20_000), EnsembleConfig(folds=folds, repeats=4)
    first, second = (left_out(users, plan, seed).double() for seed in (0, 1))
    error = 5 / (folds * len(users) ** 0.5)
    assert ((first.mean(1) - 1 / folds).abs() < error * folds**0.5).all()
    for one in range(0, plan.members, folds):
        for other in [m for m in range(plan.members) if m // folds != one // folds]:
            assert abs(float((first[one] * first[other]).mean()) - folds**-2) < error
        assert abs(float((first[one] * second[one]).mean()) - folds**-2) < error


@given(plans, st.integers(1, 30), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_own_rows_weigh_what_all_rows_would_with_those_left_out_at_zero(plan, rows, seed):
    out_MB = left_out(torch.arange(rows), plan, seed)
    row_MP, weight_MP = own_rows(out_MB)
    loss_B = torch.rand(rows, generator=torch.Generator().manual_seed(seed))
    expected_M = (~out_MB * loss_B).sum(1) / rows
    torch.testing.assert_close((weight_MP * loss_B[row_MP]).mean(1), expected_M)
    assert row_MP.shape[1] == max(1, int((~out_MB).sum(1).max()))


@pytest.mark.parametrize("conf", CONFS)
@pytest.mark.parametrize("variant", ["latent", "backdoor"])
def test_each_member_has_the_loss_and_the_gradient_it_would_have_alone(variant, conf):
    model, batch = members(variant, CONFS[conf]).train(), Batch.from_columns(make_columns(3, 24), SPEC)
    terms = model(batch, 0.5)
    (terms["loss"] * PLAN.members).backward()
    losses, out_MB = [], left_out(batch.user_id_B, PLAN, model.seed)
    row_MP, weight_MP = own_rows(out_MB)
    if CONFS[conf].upload_content == "mixture":
        row_MP, weight_MP = torch.arange(batch.size).expand(PLAN.members, -1), ~out_MB
    for member in range(PLAN.members):
        single = alone(model, member).train()
        loss = single(batch.rows(row_MP[member]), 0.5, weight_MP[member] * 1.5)["loss"]
        loss.backward()
        losses.append(loss.detach())
        for name, parameter in single.named_parameters():
            gradient = model.get_parameter(f"stacked.{name}").grad[member]
            torch.testing.assert_close(gradient, parameter.grad, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(terms["loss"].detach(), torch.stack(losses).mean())


def test_a_member_learns_nothing_from_users_it_leaves_out():
    """Without the sparsity cost, whose mean stimulus is over the covariates of all rows that are present."""
    plan = EnsembleConfig(folds=2, repeats=1)
    model = members(conf=ModelConfig(sparsity=0.0), plan=plan).train()
    columns = make_columns(3, 24)
    out_MB = left_out(torch.from_numpy(columns["journey_id"]), plan, model.seed)
    columns["outcome"][out_MB[0].numpy()] = 1 - columns["outcome"][out_MB[0].numpy()]
    gradients = []
    for given_columns in (make_columns(3, 24), columns):
        model.zero_grad()
        model(Batch.from_columns(given_columns, SPEC))["loss"].backward()
        gradients.append(model.stacked.encoder.strength_K.grad.clone())
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert not torch.allclose(gradients[0][1], gradients[1][1])


def test_held_out_likelihood_is_the_mean_over_journeys_of_the_members_that_left_each_out(batch):
    model = members().eval()
    out_MB = left_out(batch.user_id_B, PLAN, model.seed)
    each = [alone(model, m).eval()(batch, 1.0, out_MB[m].float())["nll"] for m in range(PLAN.members)]
    torch.testing.assert_close(model(batch)["nll"], torch.stack(each).sum() / PLAN.repeats)


@pytest.mark.parametrize("variant", ["latent", "backdoor"])
def test_effects_are_the_mean_of_the_members_that_did_not_see_the_user(variant, batch):
    model = members(variant, plan=replace(PLAN, agreement=0.0)).eval()
    found = model.effects(batch, seen=True)
    every = [alone(model, m).eval().effects(batch) for m in range(PLAN.members)]
    torch.testing.assert_close(found.member_MBL, torch.stack([e.removal_effect_BL for e in every]))
    out_MB = left_out(batch.user_id_B, PLAN, model.seed)
    for row in range(batch.size):
        speak = [e for m, e in enumerate(every) if out_MB[m, row]]
        assert len(speak) == PLAN.repeats
        for name in ("removal_effect_BL", "p_outcome_B", "p_deleted_BL", "mu_B", "removal_effect_ate_BL"):
            if getattr(found, name) is not None:
                mean = torch.stack([getattr(e, name)[row] for e in speak]).mean(0)
                torch.testing.assert_close(getattr(found, name)[row], mean, msg=name)
    difference_BL = found.p_outcome_B[:, None] - found.p_deleted_BL
    torch.testing.assert_close(found.removal_effect_BL, difference_BL, atol=1e-7, rtol=0)


def test_where_nobody_was_seen_all_members_speak(batch):
    model = members(plan=replace(PLAN, agreement=0.0)).eval()
    every = [alone(model, m).eval().effects(batch).removal_effect_BL for m in range(PLAN.members)]
    torch.testing.assert_close(model.effects(batch).removal_effect_BL, torch.stack(every).mean(0))


@pytest.mark.parametrize(("silent", "speaks"), [(2, False), (1, True)])
def test_a_touch_has_an_effect_where_enough_members_give_it_one(batch, silent, speaks):
    """agreement .7 of 6 members: five are enough, four are not."""
    model = members().eval()
    with torch.no_grad():
        model.stacked.encoder.strength_K.fill_(10.0)
        model.stacked.encoder.strength_K[:silent, 3] = -10.0  # whatever its items add
    found, of_three_BL = model.effects(batch), (batch.cluster_BL == 3) & (batch.mask_BL > 0)
    assert of_three_BL.any() and bool((found.removal_effect_BL[of_three_BL] > 0).all()) == speaks
    assert bool((found.removal_effect_BL[of_three_BL] == 0).all()) != speaks
    others_BL = (batch.cluster_BL != 3) & (batch.mask_BL > 0)
    assert (found.removal_effect_BL[others_BL] > 0).all()


def test_initialisation_is_that_of_single_models_from_one_generator_and_also_without_storage():
    generator = torch.Generator().manual_seed(2)
    singles = [build("latent", SPEC, ModelConfig()) for _ in range(PLAN.members)]
    for single in singles:
        single.reset_parameters(generator)
    with torch.device("meta"):
        model = Ensemble("latent", SPEC, ModelConfig(), PLAN, seed=0)
    model.to_empty(device="cpu").reset_parameters(torch.Generator().manual_seed(2))
    for name, parameter in model.stacked.named_parameters():
        assert torch.equal(parameter, torch.stack([s.get_parameter(name) for s in singles])), name
    for name, buffer in model.stacked.named_buffers():
        assert torch.equal(buffer, singles[0].get_buffer(name)), name
    groups = model.parameter_groups()
    assert sum(map(len, groups.values())) == len(list(model.parameters()))


def test_the_projection_is_each_members_own():
    model = members()
    singles = [alone(model, m) for m in range(PLAN.members)]
    model.project()
    for member, single in enumerate(singles):
        single.project()
        for name, parameter in single.named_parameters():
            assert torch.equal(model.get_parameter(f"stacked.{name}")[member], parameter), name


def test_a_saved_ensemble_comes_back_with_equal_effects_and_its_folds(batch, tmp_path: Path):
    model = members().eval()
    digest = saved.save(model, SPEC, ModelConfig(), "latent", tmp_path, {})
    loaded, _, info = saved.load(tmp_path)
    assert isinstance(loaded, Ensemble) and loaded.plan == PLAN and info["digest"] == digest
    assert torch.equal(loaded.effects(batch, True).removal_effect_BL, model.effects(batch, True).removal_effect_BL)
    other = Ensemble("latent", SPEC, ModelConfig(), PLAN, seed=6)
    other.load_state_dict(model.state_dict())
    assert saved.save(other, SPEC, ModelConfig(), "latent", tmp_path / "other", {}) != digest


def test_variants_outside_the_plan_are_single_models():
    assert not isinstance(ensemble.build("backdoor", SPEC, ModelConfig(), PLAN, 0), Ensemble)
    with pytest.raises(ValueError, match=r"training\.ensemble\.variants"):
        EnsembleConfig(variants=("paper",))


def test_journeys_of_one_user_share_its_folds():
    columns = make_columns(3, 4) | {"user_id": np.array([7, 7, 8, 8])}
    out_MB = left_out(Batch.from_columns(columns, SPEC).user_id_B, PLAN, 0)
    assert torch.equal(out_MB[:, 0], out_MB[:, 1]) and torch.equal(out_MB[:, 2], out_MB[:, 3])
