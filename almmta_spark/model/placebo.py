"""Placebos: `latent` fitted to data in which there is nothing to find. What it claims there was invented: by a prior,
by the optimiser, by the code. METHOD section 7; Eggers, Tunon & Dafoe (2024) on placebo tests.

placebo_proxies  the outcome proxies are other journeys': nothing tells the mediator from what else Y goes with
placebo_outcome  the outcome, with the upload's content, is another journey's: the mediator moves nothing
placebo_touch    half of the journeys hold one touch more, of a cluster, item and author that nobody was ever shown

Others are the journeys before these in a batch: rows come in random order, so a random other one, a new one each epoch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import pooling
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects
from almmta_spark.model.latent import LatentModel
from almmta_spark.model.outcome import Slope


class PlaceboProxies(LatentModel):
    """`latent` on other journeys' outcome proxies."""

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of these journeys with the outcome proxies of others."""
        others_BJ = batch.outcome_proxies_BJ.roll(1, 0)
        return super().forward(replace(batch, outcome_proxies_BJ=others_BJ), progress, weight_B)


class PlaceboOutcome(LatentModel):
    """`latent` on other journeys' uploads, its slope of either sign: nothing is then a point that the optimiser passes.
    softplus only nears it, ever slower, and keeps a part of what it began with as long as training has an end."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__(spec, conf)
        self.slope = Slope(spec, conf.exposure_factor, signed=True)
        self.reset_parameters()

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of these journeys with the uploads of others."""
        others = replace(
            batch,
            outcome_B=batch.outcome_B.roll(1, 0),
            has_upload_embedding_B=batch.has_upload_embedding_B.roll(1, 0),
            upload_embedding_BE=batch.upload_embedding_BE.roll(1, 0),
            match_position_B=torch.full_like(batch.match_position_B, -1),
        )
        return super().forward(others, progress, weight_B)


class PlaceboTouch(LatentModel):
    """`effects` are those of the planted touch, planted in every journey and standing for each of its touches."""

    PLANTED_ID = -1
    """Of its item and author."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        clusters, contents = (*spec.clusters, max(spec.clusters) + 1), spec.cluster_contents
        if contents:  # that of an average cluster
            contents = (*contents, (0.0,) * len(contents[0]))
        longer = spec.max_touchpoints + 1
        super().__init__(replace(spec, clusters=clusters, cluster_contents=contents, max_touchpoints=longer), conf)

    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of these journeys, half of them with the planted touch."""
        return super().forward(self.planted(batch, pooling.rows(batch.journey_id_B, 2)), progress, weight_B)

    @torch.no_grad()
    def effects(self, batch: Batch) -> Effects:
        """What the planted touch is worth, at each touch of the journey."""
        everywhere = self.planted(batch, torch.ones_like(batch.num_touches_B))
        found = super().effects(everywhere)
        planted_B1 = found.removal_effect_BL.gather(1, batch.num_touches_B[:, None])
        effect_BL = planted_B1 * batch.mask_BL
        return Effects(effect_BL, found.p_outcome_B, found.p_outcome_B[:, None] - effect_BL)

    def planted(self, batch: Batch, is_planted_B: Tensor) -> Batch:
        """The batch with a touch more where is_planted_B is 1, as old as the first touch of another journey."""
        at_B1 = batch.num_touches_B[:, None]

        def longer(values_BL: Tensor, planted: Tensor | float) -> Tensor:
            padded_BL = F.pad(values_BL, (0, 1))
            value_B1 = torch.as_tensor(planted, dtype=values_BL.dtype, device=values_BL.device).expand(len(at_B1))
            return padded_BL.scatter(1, at_B1, value_B1[:, None]) * _shown(padded_BL, count_B)

        count_B, touches = batch.num_touches_B + is_planted_B, self.num_rows / 2
        contents_BLE = batch.touch_embedding_BLE
        if contents_BLE is not None:  # the planted touch has none
            contents_BLE = F.pad(contents_BLE * batch.mask_BL[:, :, None], (0, 0, 0, 1))
        return replace(
            batch,
            num_touches_B=count_B,
            cluster_BL=longer(batch.cluster_BL, self.num_clusters - 1),
            item_BL=longer(batch.item_BL, self.PLANTED_ID),
            author_BL=longer(batch.author_BL, self.PLANTED_ID),
            item_touches_BL=longer(batch.item_touches_BL, touches),
            author_touches_BL=longer(batch.author_touches_BL, touches),
            age_BL=longer(batch.age_BL, batch.age_BL[:, 0].roll(1, 0)),
            bucket_BL=longer(batch.bucket_BL, 0),
            weight_BL=longer(batch.weight_BL, 1.0),
            touch_embedding_BLE=contents_BLE,
        )


def _shown(like_BL: Tensor, num_touches_B: Tensor) -> Tensor:
    position_L = torch.arange(like_BL.shape[1], device=like_BL.device)
    return (position_L < num_touches_B[:, None]).to(like_BL.dtype)
