"""What an upload's content says of the touch it came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from almmta_spark.config import ModelConfig
from almmta_spark.model import Batch, build, losses
from almmta_spark.model.contrastive import MixtureContrast, UploadContent
from almmta_spark.model.origin import TouchContents, UploadOrigin
from almmta_spark.simulator import draws, hashing
from tests.recovery import harness
from tests.unit.model.conftest import SPEC, make_columns

WITH_CONTENTS = replace(SPEC, touch_embeddings=True)
CENTRE, SCALE = np.array(SPEC.content_mean), SPEC.content_scale


def journeys(seed: int = 0, num_rows: int = 6) -> tuple[dict[str, np.ndarray], Batch]:
    """Columns with the content of every touch, one of them unknown; every journey has an upload with content."""
    g = np.random.default_rng(seed)
    columns = make_columns(seed, num_rows)
    columns["touch_embedding"] = g.standard_normal((num_rows, 6, 4)).astype(np.float32)
    columns["touch_embedding"][2, 1] = 0
    columns["upload_embedding"] = g.standard_normal((num_rows, 4)).astype(np.float32)
    columns["has_upload_embedding"] = np.ones(num_rows, np.int32)
    return columns, Batch.from_columns(columns, WITH_CONTENTS)


def perturbed_origin(spec=WITH_CONTENTS) -> UploadOrigin:
    origin = UploadOrigin(spec)
    origin.reset_parameters()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in origin.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return origin


@pytest.mark.parametrize("own", [True, False])
def test_the_mixture_equals_the_sum_by_hand(own):
    columns, batch = journeys()
    origin = perturbed_origin(WITH_CONTENTS if own else SPEC)
    stimulus = torch.rand(6, batch.cluster_BL.shape[1], generator=torch.Generator().manual_seed(2)) * batch.mask_BL
    p = {k: v.detach().numpy().astype(float) for k, v in origin.named_parameters()}
    sd, taste_sd = np.exp(p["log_sd_E"]), np.exp(p["taste_log_sd_E"])
    reliable, uninspired = 1 / (1 + np.exp(-p["reliability"])), np.exp(p["log_uninspired"])
    found = origin(batch, stimulus).detach().numpy()
    for i, n in enumerate(columns["num_touches"]):
        upload = (columns["upload_embedding"][i] - CENTRE) / SCALE
        taste = p["taste.weight"] @ columns["covariates"][i] + p["taste.bias"]
        g = stimulus[i, :n].numpy().astype(float)
        kept = np.exp(-np.logaddexp(0, p["recency"]) * columns["age_hours"][i, :n] / 12)
        total = uninspired / (g.sum() + uninspired) * norm.pdf(upload, taste, taste_sd).prod()
        for k in range(n):
            content = np.array(SPEC.cluster_contents[columns["cluster_index"][i, k]])
            if own:
                content = (columns["touch_embedding"][i, k] - CENTRE) / SCALE
            near = norm.pdf(upload, content, sd).prod()
            if own and (i, k) == (2, 1):
                near = norm.pdf(upload).prod()
            share = reliable * g[k] / g.sum() + (1 - reliable) * kept[k] / kept.sum()
            total += g.sum() / (g.sum() + uninspired) * share * near
        assert found[i] == pytest.approx(np.log(total), rel=1e-3, abs=1e-3), i


def test_padding_is_no_origin_and_a_journey_without_touches_has_its_own_taste():
    columns, batch = journeys()
    given = perturbed_origin().responsibilities(batch, torch.ones_like(batch.age_BL) * batch.mask_BL)
    torch.testing.assert_close(given.sum(1), torch.ones(6))
    assert not given[:, :-1][batch.mask_BL == 0].any()
    assert float(given[0, -1].detach()) == pytest.approx(1.0, abs=1e-5) and columns["num_touches"][0] == 0


def test_a_journey_without_an_upload_says_nothing():
    columns, batch = journeys()
    without = Batch.from_columns(columns | {"has_upload_embedding": np.zeros(6, np.int32)}, WITH_CONTENTS)
    assert not perturbed_origin()(without, torch.ones_like(batch.age_BL)).any()


def test_the_gradient_of_a_reliable_mixture_is_responsibility_less_prior_share():
    """EM: d log p / d log g_k = r_k - g_k / (S + c_0)."""
    _, batch = journeys(seed=3)
    origin = perturbed_origin()
    with torch.no_grad():
        origin.reliability.fill_(40.0)
    log_g = torch.randn(batch.age_BL.shape, generator=torch.Generator().manual_seed(4), requires_grad=True)
    stimulus = log_g.exp() * batch.mask_BL
    origin(batch, stimulus).sum().backward()
    given = origin.responsibilities(batch, stimulus)[:, :-1]
    prior = stimulus / (stimulus.sum(1, keepdim=True) + origin.log_uninspired.exp())
    torch.testing.assert_close(log_g.grad, (given - prior).detach() * batch.mask_BL, rtol=1e-3, atol=1e-4)


def test_responsibilities_find_the_touch_that_an_upload_came_from():
    """World `content`, at its own stimuli and noise: half of the uploads are un-inspired."""
    world, seed, users = draws.build_world("content", 3), 3, np.arange(3_000)
    night = harness.simulate("content", len(users), seed, world, touch_embeddings=True)
    draw = draws.draw_night(world, seed, 0, users)
    rows = draw.shown.any(1)
    total = draw.stimulus.sum(1) + world.mechanism.uninspired
    mark = hashing.uniforms(seed, "upload_origin", 0, users, 1)[:, 0] * total
    slot = (np.cumsum(draw.stimulus, 1) <= mark[:, None]).sum(1)
    inspired = slot < draw.shown.shape[1]
    # Slots run newest first, a journey's touches oldest first.
    position = np.array([draw.shown[i, slot[i] + 1 :].sum() if inspired[i] else -1 for i in users])[rows]
    order = np.argsort(~draw.shown[rows][:, ::-1], axis=1, kind="stable")
    stimulus = np.take_along_axis(draw.stimulus[rows][:, ::-1], order, axis=1)
    origin = UploadOrigin(replace(night.spec, content_mean=(), content_scale=1.0))  # in the world's own units
    origin.reset_parameters()
    scale = torch.tensor(draw.x[rows].std(0)[:4])
    with torch.no_grad():
        origin.reliability.fill_(20.0)
        origin.log_uninspired.fill_(float(np.log(world.mechanism.uninspired)))
        origin.log_sd_E.fill_(float(np.log(world.mechanism.upload_noise)))
        origin.taste_log_sd_E.fill_(float(np.log(world.mechanism.upload_noise)))
        origin.taste.weight[:, :4] = torch.diag(scale / 2)
        batch = Batch.from_columns(night.columns, night.spec)
        given = origin.responsibilities(batch, torch.tensor(stimulus[:, : batch.cluster_BL.shape[1]]).float())
    has = night.columns["has_upload_embedding"] > 0
    touched = has & (position >= 0)
    assert 40 < touched.sum() < has.sum() - 40
    found = given[:, :-1].argmax(1).numpy()
    assert (found == position)[touched].mean() > 0.75
    own = given[:, -1].numpy()
    assert own[has & (position < 0)].mean() > 0.8 and own[touched].mean() < 0.2


@pytest.mark.parametrize("follows", [True, False])
def test_reliability_tells_inspired_uploads_from_repeats_at_random(follows):
    g = np.random.default_rng(0)
    rows, length = 1_500, 6
    contents = g.standard_normal((rows, length, 4)).astype(np.float32)
    stimulus = g.gamma(0.5, 1.0, (rows, length)) + 1e-3
    shares = stimulus / stimulus.sum(1, keepdims=True) if follows else np.full((rows, length), 1 / length)
    position = (shares.cumsum(1) < g.random(rows)[:, None]).sum(1).clip(max=length - 1)
    columns = make_columns(0, rows) | {
        "num_touches": np.full(rows, length, np.int32),
        "touch_embedding": contents,
        "upload_embedding": contents[np.arange(rows), position] + 0.3 * g.standard_normal((rows, 4)),
        "has_upload_embedding": np.ones(rows, np.int32),
        "match_position": np.full(rows, -1, np.int32),
    }
    batch = Batch.from_columns(columns, WITH_CONTENTS)
    origin = UploadOrigin(WITH_CONTENTS)
    origin.reset_parameters()
    optimiser = torch.optim.Adam(origin.parameters(), lr=5e-2)
    for _ in range(100):
        optimiser.zero_grad()
        (-origin(batch, torch.tensor(stimulus).float()).mean()).backward()
        optimiser.step()
    reliability = float(torch.sigmoid(origin.reliability.detach()))
    assert reliability > 0.9 if follows else reliability < 0.15, reliability


def test_the_mixture_contrast_of_one_touch_without_taste_is_plain_info_nce():
    columns, _ = journeys(seed=5)
    columns["num_touches"] = np.ones(6, np.int32)
    batch = Batch.from_columns(columns, WITH_CONTENTS)
    contrast = MixtureContrast(WITH_CONTENTS, ModelConfig(contrastive_temperature=0.5))
    contrast.reset_parameters(torch.Generator().manual_seed(0))
    with torch.no_grad():
        contrast.log_uninspired.fill_(-60.0)
    touch = (columns["touch_embedding"][:, 0] - CENTRE) / SCALE
    upload = (columns["upload_embedding"] - CENTRE) / SCALE
    touch, upload = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (touch, upload))
    score = torch.tensor(touch @ upload.T / 0.5).float()
    others = score[~torch.eye(6, dtype=torch.bool)].reshape(6, 5)
    by_hand = losses.info_nce(score.diagonal(), others).mean()
    stimulus = torch.rand(6, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    torch.testing.assert_close(contrast(batch, stimulus).detach(), by_hand)


def test_a_night_without_comparable_contents_has_no_such_term():
    assert not TouchContents.possible(replace(SPEC, embedding_length=0))
    assert not TouchContents.possible(replace(SPEC, content_mean=()))
    assert TouchContents.possible(replace(WITH_CONTENTS, content_mean=(), cluster_contents=()))
    assert not UploadContent.possible(SPEC, ModelConfig(upload_content="off"))
    assert build("latent", replace(SPEC, embedding_length=0), ModelConfig()).upload_content is None
