"""Variant `placebo_proxies`: `latent` fitted to the outcome proxies of other journeys. It must find next to nothing.

Without a word from the proxies nothing tells the mediator from what else the outcome goes with, so whatever effect is
left was invented: by the outcome alone, by a prior, by the code. METHOD section 7; Eggers, Tunon & Dafoe (2024) on
placebo tests.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from almmta_spark.model.batch import Batch
from almmta_spark.model.latent import LatentModel


class PlaceboProxies(LatentModel):
    def forward(self, batch: Batch, progress: float = 1.0, weight_B: Tensor | None = None) -> dict[str, Tensor]:
        """As latent, with each journey given the proxies of the one before it in the batch: rows come in random order,
        so that is a random other journey, a new one each epoch."""
        others_BJ = batch.outcome_proxies_BJ.roll(1, 0)
        return super().forward(replace(batch, outcome_proxies_BJ=others_BJ), progress, weight_B)
