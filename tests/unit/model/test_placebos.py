"""What each placebo is fitted to: the night's journeys, but for the one thing that can have no effect there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from almmta_spark.config import PLACEBOS, ModelConfig
from almmta_spark.model import VARIANTS, Batch, build
from tests.unit.model.conftest import SPEC, make_columns


def model(variant: str, spec=SPEC):
    built = build(variant, spec, ModelConfig())
    built.reset_parameters(torch.Generator().manual_seed(0))
    return built


def test_every_placebo_that_conf_may_name_is_a_model():
    assert set(PLACEBOS) <= set(VARIANTS)


@pytest.mark.parametrize("with_contents", [False, True])
def test_a_planted_touch_comes_after_the_journeys_own_and_changes_none_of_them(with_contents):
    spec = replace(SPEC, touch_embeddings=with_contents)
    batch = Batch.from_columns(make_columns(), spec)
    placebo = model("placebo_touch", spec)
    is_planted = torch.tensor([1, 0, 1, 0, 1, 1])
    planted = placebo.planted(batch, is_planted)
    assert (planted.num_touches_B == batch.num_touches_B + is_planted).all()
    length = batch.cluster_BL.shape[1]
    for name in ("cluster_BL", "item_BL", "author_BL", "item_touches_BL", "age_BL", "bucket_BL", "weight_BL"):
        before, after = getattr(batch, name), getattr(planted, name)
        assert after.dtype == before.dtype and after.shape[1] == length + 1
        assert (after[:, :length] * batch.mask_BL == before * batch.mask_BL).all(), name
    at = batch.num_touches_B[:, None]
    new = (planted.cluster_BL == len(SPEC.clusters)) & (planted.mask_BL > 0)
    assert (new.sum(1) == is_planted).all() and new.gather(1, at).squeeze(1).equal(is_planted > 0)
    assert planted.age_BL.gather(1, at).squeeze(1)[0] == batch.age_BL[-1, 0]
    if with_contents:
        assert (planted.touch_embedding_BLE[new] == 0).all()


def test_its_effect_stands_for_each_touch_of_the_journey_and_is_none_where_its_cluster_is_silent():
    batch = Batch.from_columns(make_columns(), SPEC)
    placebo = model("placebo_touch").eval()
    effects = placebo.effects(batch)
    real = batch.mask_BL > 0
    assert effects.removal_effect_BL.shape == batch.cluster_BL.shape
    assert (effects.removal_effect_BL[~real] == 0).all() and (effects.removal_effect_BL[real] > 0).all()
    for row, count in zip(effects.removal_effect_BL, batch.num_touches_B.tolist(), strict=True):
        assert len(set(row[:count].tolist())) <= 1
    with torch.no_grad():
        placebo.encoder.strength_K[-1] = -1.0
    assert (placebo.effects(batch).removal_effect_BL == 0).all()


def test_longer_padding_changes_nothing():
    spec = replace(SPEC, touch_embeddings=True)
    batch = Batch.from_columns(make_columns(), spec)
    placebo = model("placebo_touch", spec).eval()
    names = ("cluster", "item", "author", "item_touches", "author_touches", "age", "bucket", "weight")
    lists = [f"{name}_BL" for name in names]
    junk = {name: torch.nn.functional.pad(getattr(batch, name), (0, 2), value=3) for name in lists}
    junk["touch_embedding_BLE"] = torch.nn.functional.pad(batch.touch_embedding_BLE, (0, 0, 0, 2), value=3.0)
    wide = replace(batch, **junk)
    torch.testing.assert_close(placebo(wide)["loss"], placebo(batch)["loss"])
    length = batch.cluster_BL.shape[1]
    found = placebo.effects(wide).removal_effect_BL
    torch.testing.assert_close(found[:, :length], placebo.effects(batch).removal_effect_BL)
    assert not found[:, length:].any()


def test_about_half_of_the_journeys_are_planted_the_same_ones_each_time():
    batch = Batch.from_columns(make_columns(num_rows=600), SPEC)
    placebo = model("placebo_touch")
    seen = []
    placebo.planted = lambda of, is_planted, plant=placebo.planted: seen.append(is_planted) or plant(of, is_planted)
    placebo(batch)
    placebo(batch.rows(torch.arange(599, -1, -1)))
    assert seen[0].equal(seen[1].flip(0)) and 240 < int(seen[0].sum()) < 360


@pytest.mark.parametrize(
    ("variant", "taken"),
    [
        ("placebo_proxies", ("outcome_proxies_BJ",)),
        ("placebo_outcome", ("outcome_B", "has_upload_embedding_B", "upload_embedding_BE")),
    ],
)
def test_a_permuted_part_is_the_journeys_before(variant, taken):
    batch = Batch.from_columns(make_columns(), SPEC)
    others = {name: getattr(batch, name)[torch.tensor([5, 0, 1, 2, 3, 4])] for name in taken}
    expected, found = model("latent")(replace(batch, **others))["loss"], model(variant)(batch)["loss"]
    assert torch.equal(found, expected) and not torch.equal(found, model("latent")(batch)["loss"])


def test_the_slope_of_the_outcomes_placebo_begins_as_the_models_and_passes_nothing_on_its_way_down():
    batch = Batch.from_columns(make_columns(), SPEC)
    placebo, latent = model("placebo_outcome"), model("latent")
    torch.testing.assert_close(placebo.slope(batch.covariates_BD), latent.slope(batch.covariates_BD))
    for below, has_effect in ((0.0, False), (-0.3, True)):
        with torch.no_grad():
            placebo.slope.linear.bias.fill_(below)
        effect_BL = placebo.eval().effects(batch).removal_effect_BL
        assert (effect_BL <= 0).all() and bool((effect_BL < 0).any()) is has_effect
