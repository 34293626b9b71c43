"""What every variant promises: masking, deletion, gradients, initialisation, and files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from almmta_spark import config
from almmta_spark.config import ModelConfig
from almmta_spark.model import VARIANTS, Batch, build, saved
from almmta_spark.model.latent import LatentModel
from almmta_spark.model.outcome import base_logit
from almmta_spark.model.paper import PaperModel
from tests.unit.model import conftest
from tests.unit.model.conftest import make_columns

SPEC = replace(conftest.SPEC, touch_embeddings=True)

CONFS = {
    "plain": ModelConfig(),
    "everything": ModelConfig(signed=True, outcome_leak=True, modulation_hidden=4, use_ipw=True),
    "bare": ModelConfig(
        exposure_factor=False,
        hidden_intent=False,
        outcome_leak=False,
        num_decays=1,
        frontdoor_neighbours="batch",
        sparsity=0.0,
        upload_content="plain",
    ),
    "bucket": ModelConfig(frontdoor_neighbours="bucket", num_neighbours=3, upload_content="mixture"),
}
CLASSES = sorted({v.model: name for name, v in reversed(VARIANTS.items()) if name != "placebo_touch"}.values())
"""One variant of each class: what differs by settings alone need not be tested again. placebo_touch speaks of a touch
that it plants itself (test_placebos.py)."""
CASES = [(v, c) for v in CLASSES for c in CONFS]


@pytest.fixture
def batch(columns):
    return Batch.from_columns(columns, SPEC)


def randomised(variant: str, conf: str) -> nn.Module:
    """A model away from its initial zeros, that has seen a batch."""
    model = build(variant, SPEC, CONFS[conf])
    generator = torch.Generator().manual_seed(1)
    model.reset_parameters(generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.train()(Batch.from_columns(make_columns(7, 12), SPEC), progress=0.5)
    return model.eval()


@pytest.mark.parametrize(("variant", "conf"), CASES)
def test_deleting_padding_leaves_the_prediction_unchanged(variant, conf, columns):
    model = randomised(variant, conf)
    dirty = dict(columns)
    for name, junk in (("age_hours", np.nan), ("cluster_index", 4), ("touch_weight", np.nan), ("propensity_bucket", 2)):
        dirty[name] = np.where(np.arange(6) < columns["num_touches"][:, None], columns[name], junk)
    clean, other = (Batch.from_columns(c, SPEC) for c in (columns, dirty))
    assert torch.equal(model(clean)["loss"], model(other)["loss"])
    a, b = model.effects(clean), model.effects(other)
    assert torch.equal(a.removal_effect_BL, b.removal_effect_BL)
    assert torch.equal(a.removal_effect_BL * (1 - clean.mask_BL), torch.zeros_like(clean.age_BL))
    padding = clean.mask_BL == 0
    assert torch.equal(a.p_deleted_BL[padding], a.p_outcome_B[:, None].expand_as(padding)[padding])


@pytest.mark.parametrize(("variant", "conf"), CASES)
def test_longer_padding_changes_nothing(variant, conf, batch):
    model = randomised(variant, conf)
    wide = replace(
        batch,
        **{
            name: nn.functional.pad(getattr(batch, name), (0, 5), value=value)
            for name, value in (
                ("cluster_BL", 3),
                ("item_BL", 9),
                ("author_BL", 9),
                ("item_touches_BL", 7),
                ("author_touches_BL", 7),
                ("age_BL", 2.0),
                ("bucket_BL", 2),
                ("weight_BL", 5.0),
            )
        },
        touch_embedding_BLE=nn.functional.pad(batch.touch_embedding_BLE, (0, 0, 0, 5), value=3.0),
    )
    torch.testing.assert_close(model(batch)["loss"], model(wide)["loss"])
    short, long = model.effects(batch).removal_effect_BL, model.effects(wide).removal_effect_BL
    torch.testing.assert_close(long[:, : short.shape[1]], short)
    assert not long[:, short.shape[1] :].any()


@pytest.mark.parametrize(("variant", "conf"), [(v, c) for v, c in CASES if v != "shapley_model"])
def test_deletion_by_subtraction_equals_encoding_again_without_the_touch(variant, conf, batch):
    model = randomised(variant, conf)
    effects = model.effects(batch)
    for k in range(batch.cluster_BL.shape[1]):
        keep = [i for i in range(batch.cluster_BL.shape[1]) if i != k]
        rows = batch.num_touches_B > k
        smaller = replace(
            batch,
            num_touches_B=batch.num_touches_B - rows.long(),
            cluster_BL=batch.cluster_BL[:, keep],
            age_BL=batch.age_BL[:, keep],
            item_BL=batch.item_BL[:, keep],
            author_BL=batch.author_BL[:, keep],
            touch_embedding_BLE=batch.touch_embedding_BLE[:, keep],
        )
        again_B = _probability(model, batch, smaller, effects)
        torch.testing.assert_close(effects.p_deleted_BL[rows, k], again_B[rows], rtol=1e-4, atol=1e-6)


def _probability(model, batch, smaller, effects):
    if not isinstance(model, LatentModel | PaperModel):
        return model.effects(smaller).p_outcome_B
    # A deletion moves the mediator alone; g0 and the chosen T' stay those of the whole journey.
    mu_B = model.mediator(batch.covariates_BD, model.encoder(smaller).total())
    if isinstance(model, LatentModel):
        return model._p_outcome(mu_B, effects.g0_B, effects.slope_B)
    return _slow_frontdoor(model, batch, mu_B)


def _slow_frontdoor(model, batch, mu_B):
    from almmta_spark.model.encoder import cluster_counts

    content = model.pairs.touch(model.encoder.embedding())
    others = model.bank.counts_MK[model.bank.neighbours(batch, cluster_counts(batch, len(SPEC.clusters)), content)]
    slope = model.slope(batch.covariates_BD)
    values = []
    for i in range(batch.size):
        total = 0.0
        for n in range(others.shape[1]):
            g0 = model._g0(batch.covariates_BD[i : i + 1], others[i, n][None])
            total += float(torch.sigmoid(g0 + slope[i] * mu_B[i]))
        values.append(total / others.shape[1])
    return torch.tensor(values)


@pytest.mark.parametrize(("variant", "conf"), [(v, c) for v, c in CASES if v != "attention"])
def test_permuting_touches_permutes_effects(variant, conf, columns):
    model = randomised(variant, conf)
    rows = columns["num_touches"] == 4
    some = {k: v[rows] for k, v in columns.items()} | {"match_position": np.full(rows.sum(), -1)}
    order = np.array([2, 0, 3, 1, 4, 5])
    lists = ("cluster_index", "item_id", "author_id", "age_hours", "propensity_bucket", "touch_weight")
    turned = {k: v[:, order] if k in lists else v for k, v in some.items()}
    turned["touch_embedding"] = some["touch_embedding"].reshape(-1, 6, 4)[:, order].reshape(-1, 24)
    a = model.effects(Batch.from_columns(some, SPEC)).removal_effect_BL
    b = model.effects(Batch.from_columns(turned, SPEC)).removal_effect_BL
    torch.testing.assert_close(a[:, order[:4]], b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("variant", "conf"), CASES)
@pytest.mark.parametrize("matched", [True, False])
def test_every_parameter_receives_a_finite_gradient(variant, conf, matched, columns):
    model = randomised(variant, conf).train()
    if not matched:
        columns = columns | {"match_position": np.full(6, -1)}
    model(Batch.from_columns(columns, SPEC), progress=0.0)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("variant", "conf"), CASES)
def test_parameter_groups_partition_the_parameters(variant, conf):
    model = build(variant, SPEC, CONFS[conf])
    groups = model.parameter_groups()
    assert set(groups) == {"dense", "sparse", "leak"}
    grouped = [id(p) for g in groups.values() for p in g]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert bool(groups["leak"]) == (isinstance(model, LatentModel) and CONFS[conf].outcome_leak)


@pytest.mark.parametrize(("variant", "conf"), CASES)
def test_meta_construction_initialises_as_direct_construction_does(variant, conf):
    with torch.device("meta"):
        late = build(variant, SPEC, CONFS[conf])
    late = late.to_empty(device="cpu")
    late.reset_parameters(torch.Generator().manual_seed(3))
    direct = build(variant, SPEC, CONFS[conf])
    direct.reset_parameters(torch.Generator().manual_seed(3))
    for (name, a), (_, b) in zip(_tensors(late), _tensors(direct), strict=True):
        assert torch.equal(a, b), name


def _tensors(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


@pytest.mark.parametrize("variant", CLASSES)
def test_the_outcome_starts_at_the_base_rate(variant):
    """Of a user at the covariates' mean with no touch and an uninspired mediator."""
    model = build(variant, SPEC, CONFS["plain"])
    columns = make_columns() | {"num_touches": np.zeros(6, np.int32), "covariates": np.zeros((6, 3), np.float32)}
    batch = Batch.from_columns(columns | {"match_position": np.full(6, -1)}, SPEC)
    if isinstance(model, LatentModel):
        p_outcome = torch.sigmoid(model.direct(batch.covariates_BD, torch.zeros(6, 5), torch.zeros(6)))
    elif variant == "paper":
        p_outcome = torch.sigmoid(model._g0(batch.covariates_BD, torch.zeros(6, 5)))
    else:
        p_outcome = model.effects(batch).p_outcome_B
    torch.testing.assert_close(p_outcome, torch.full((6,), SPEC.base_rate), rtol=0.03, atol=0)
    assert base_logit(SPEC) == pytest.approx(np.log(0.03 / 0.97))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_saved_model_comes_back_with_equal_effects(variant, batch, tmp_path: Path):
    model = randomised(variant, "plain")
    digest = saved.save(model, SPEC, CONFS["plain"], variant, tmp_path, {"nll": 1.0})
    loaded, spec, info = saved.load(tmp_path)
    assert (spec, info["digest"], info["variant"], info["metrics"]) == (SPEC, digest, variant, {"nll": 1.0})
    assert torch.equal(loaded.effects(batch).removal_effect_BL, model.effects(batch).removal_effect_BL)
    assert saved.save(loaded, spec, CONFS["plain"], variant, tmp_path / "again", {}) == digest


def test_altered_weights_are_refused(tmp_path: Path):
    model = randomised("latent", "plain")
    saved.save(model, SPEC, CONFS["plain"], "latent", tmp_path, {})
    info = json.loads((tmp_path / saved.INFO).read_text())
    info["model"]["rho_init"] = 0.5
    (tmp_path / saved.INFO).write_text(json.dumps(info))
    with pytest.raises(ValueError, match="digest"):
        saved.load(tmp_path)


class Attack:
    """Unpickling it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    "spoil", ["a pickle that runs code", "half of the weights", "half of the settings", "no settings"]
)
def test_broken_or_hostile_files_are_refused_and_run_nothing(tmp_path: Path, spoil):
    saved.save(randomised("latent", "plain"), SPEC, CONFS["plain"], "latent", tmp_path, {})
    weights, info = tmp_path / saved.WEIGHTS, tmp_path / saved.INFO
    if spoil == "a pickle that runs code":
        torch.save({"weight": Attack(tmp_path / "pwned")}, weights)
    elif spoil == "half of the weights":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    else:
        info.write_text("{}" if spoil == "no settings" else info.read_text()[:100])
    with pytest.raises(ValueError, match=rf"^{tmp_path}: weights\.pt and model\.json are refused.*: train again$"):
        saved.load(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no weights\.pt"):
        saved.load(tmp_path)


@pytest.mark.parametrize(("variant", "conf"), [case for case in CASES if case[0] not in config.PLACEBOS])
def test_a_row_of_weight_two_counts_as_two_rows_and_one_of_weight_zero_as_none(variant, conf, columns):
    model = randomised(variant, conf)
    times = np.array([1, 2, 0, 1, 2, 0])
    repeated = {name: np.repeat(values, times, axis=0) for name, values in columns.items()}
    weighed = model(Batch.from_columns(columns, SPEC), weight_B=torch.tensor(times, dtype=torch.float32))
    plain = model(Batch.from_columns(repeated, SPEC))
    # What is not a mean over rows (sparsity), or couples rows of a batch (pairs, the IPW's share), is not scaled.
    for name in plain.keys() - {"loss", "sparsity", "contrastive", "effective_sample_share"}:
        torch.testing.assert_close(weighed[name], plain[name], msg=name)


@pytest.mark.parametrize("conf", CONFS)
@pytest.mark.parametrize("variant", ["latent", "backdoor"])
def test_models_side_by_side_have_the_losses_and_gradients_of_each_alone(variant, conf, batch):
    models = [randomised(variant, conf) for _ in range(3)]
    for number, model in enumerate(models):
        for parameter in model.parameters():
            parameter.data.mul_(1 + 0.1 * number)
    weight_MB = torch.rand(3, batch.size, generator=torch.Generator().manual_seed(2))
    parameters, buffers = torch.func.stack_module_state(models)

    def loss(parameters, buffers, weight_B):
        return torch.func.functional_call(models[0], (parameters, buffers), (batch, 1.0, weight_B))["loss"]

    gradients, loss_M = torch.vmap(torch.func.grad_and_value(loss))(parameters, buffers, weight_MB)
    for number, model in enumerate(models):
        alone = model(batch, 1.0, weight_MB[number])["loss"]
        alone.backward()
        torch.testing.assert_close(loss_M[number], alone.detach())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][number], parameter.grad, msg=name)


@pytest.mark.parametrize("variant", CLASSES)
def test_forward_moves_no_parameter_and_projection_none_of_the_encoder(variant, batch):
    model = randomised(variant, "plain")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.train()(batch)
    model.project()
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("variant", CLASSES)
def test_under_autocast_products_of_encoders_are_bf16_and_the_likelihood_is_not(variant, batch):
    model = randomised(variant, "plain")
    plain = model(batch)["loss"]
    seen = {}

    def note(name):
        def hook(_module, _inputs, output):
            seen[name] = getattr(output, "dtype", None)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(note(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(batch)["loss"]
    if variant == "attention":
        assert seen["touches.linear"] == torch.bfloat16
        assert seen["states"] == loss.dtype == torch.float32
    else:
        assert seen["encoder.modulation"] == torch.bfloat16
        assert seen["mediator"] == seen["slope"] == loss.dtype == torch.float32
    assert not torch.equal(loss, plain) and loss.item() == pytest.approx(plain.item(), rel=0.01)


@pytest.mark.parametrize("variant", CLASSES)
def test_training_twice_with_deterministic_algorithms_gives_equal_weights(variant, batch):
    def trained() -> list[torch.Tensor]:
        model = build(variant, SPEC, CONFS["plain"])
        model.reset_parameters(torch.Generator().manual_seed(0))
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(5):
            optimiser.zero_grad()
            model(batch, progress=step / 5)["loss"].backward()
            optimiser.step()
        return [p.detach() for p in model.parameters()]

    torch.use_deterministic_algorithms(True)
    try:
        assert all(torch.equal(a, b) for a, b in zip(trained(), trained(), strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_untrained_paper_model_has_no_reference_journeys(batch):
    with pytest.raises(ValueError, match="reference journeys"):
        build("paper", SPEC, ModelConfig()).effects(batch)


def test_every_name_that_conf_allows_is_a_variant_and_the_other_way_round():
    assert list(VARIANTS) == [*config.VARIANTS, *config.PLACEBOS]


def test_a_variants_own_settings_go_before_those_of_the_conf():
    conf = ModelConfig(adversary_weight=3.0, use_ipw=True)
    assert build("paper", SPEC, conf).conf.adversary_weight == 3.0
    assert build("paper_lambda_5", SPEC, conf).conf.adversary_weight == 5.0
    assert [build(v, SPEC, conf).use_ipw for v in ("backdoor", "backdoor_ipw", "doubly_robust")] == [False, True, False]


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match=r"training\.variants"):
        build("front", SPEC, ModelConfig())
