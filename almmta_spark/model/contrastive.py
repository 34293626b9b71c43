"""High-match pairs: a consumed touch should say more about the upload's content than its hard negatives do.

B journeys, E content, H hard negatives, R embedding width, P matched journeys of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.batch import Batch
from almmta_spark.model.losses import info_nce


class ContrastivePairs(nn.Module):
    """InfoNCE of an upload's content against cluster embeddings, cosine similarity over a temperature."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.temperature = conf.contrastive_temperature
        self.touch = nn.Linear(conf.embedding_dim, conf.embedding_dim, bias=False)
        self.upload = nn.Linear(spec.embedding_length, conf.embedding_dim, bias=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        initialise.linear(self.touch, generator)
        initialise.linear(self.upload, generator)

    def forward(self, batch: Batch, embedding_KR: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Sum over matched journeys of weight_B InfoNCE / B: ranks with unequal numbers of matches average rightly.

        Negatives of a pair: its hard negatives (other users' touches in the same propensity bucket), and the matched
        touches of the batch's other pairs where they are of another cluster. No matched pair: 0 with a gradient of 0.
        """
        row_P = torch.nonzero((batch.match_position_B >= 0) & (batch.has_upload_embedding_B > 0)).squeeze(1)
        cluster_P = batch.cluster_BL[row_P, batch.match_position_B[row_P]]
        hard_PH = batch.negative_cluster_BH[row_P]
        content_KR = F.normalize(self.touch(embedding_KR), dim=-1)
        upload_PR = F.normalize(self.upload(batch.upload_embedding_BE[row_P]), dim=-1)
        score_PK = (upload_PR @ content_KR.T).float() / self.temperature
        in_batch_PP = score_PK[:, cluster_P].masked_fill(cluster_P[:, None] == cluster_P, -torch.inf)
        hard_PH = score_PK.gather(1, hard_PH.clamp_min(0)).masked_fill(
            (hard_PH < 0) | (hard_PH == cluster_P[:, None]), -torch.inf
        )
        positive_P = score_PK.gather(1, cluster_P[:, None]).squeeze(1)
        loss_P = info_nce(positive_P, torch.cat([in_batch_PP, hard_PH], dim=1))
        return (loss_P if weight_B is None else weight_B[row_P] * loss_P).sum() / max(1, batch.size)
