"""High-match pairs: what a journey's touches and its upload's content say of each other, as contrasts.

    plain     InfoNCE of the one touch that resembles the upload most against other touches, as ALM-MTA has it
    mixture   InfoNCE of the journey against other uploads: any of its touches, or own taste, may be the origin
    likelihood (origin.py) the mixture as a density of the upload's content: needs no negatives and weighs itself

B journeys, L touchpoints, E content, H hard negatives, R embedding width, P journeys with a pair or an upload.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.batch import Batch
from almmta_spark.model.losses import info_nce, mean
from almmta_spark.model.origin import NEVER, TouchContents, UploadOrigin


class ContrastivePairs(nn.Module):
    """InfoNCE of an upload's content against cluster embeddings, cosine similarity over a temperature."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.temperature = conf.contrastive_temperature
        self.touch = nn.Linear(conf.embedding_dim, conf.embedding_dim, bias=False)
        self.upload = nn.Linear(spec.embedding_length, conf.embedding_dim, bias=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Random projections."""
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


class MixtureContrast(nn.Module):
    """InfoNCE over the batch's uploads of score_ij = log(sum_k g_k exp(cos(P E_k, Q U_j) / t)
    + c_0 exp(cos(P_X X_i, Q U_j) / t)), i a journey, j an upload   (van den Oord et al. 2018; METHOD section 4)."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.temperature = conf.contrastive_temperature
        self.contents = TouchContents(spec)
        self.touch = nn.Linear(spec.embedding_length, spec.embedding_length, bias=False)
        self.upload = nn.Linear(spec.embedding_length, spec.embedding_length, bias=False)
        self.taste = nn.Linear(spec.num_covariates, spec.embedding_length)
        self.log_uninspired = nn.Parameter(torch.empty(()))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """P = Q = 1: before anything is learned, contents are compared as they are."""
        self.contents.reset_parameters()
        for layer in (self.touch, self.upload):
            with torch.no_grad():
                torch.nn.init.eye_(layer.weight)
        initialise.linear(self.taste, generator)
        initialise.fill(self.log_uninspired, 0.0)

    def forward(self, batch: Batch, stimulus_BL: Tensor, weight_B: Tensor | None = None) -> Tensor:
        """Sum over journeys with an upload of weight_B InfoNCE / B; cost P x L x P similarities."""
        row_P = torch.nonzero(batch.has_upload_embedding_B > 0).squeeze(1)
        loss_P = -torch.diagonal(torch.log_softmax(self.scores(batch, stimulus_BL, row_P), dim=1))
        return (loss_P if weight_B is None else weight_B[row_P] * loss_P).sum() / max(1, batch.size)

    def scores(self, batch: Batch, stimulus_BL: Tensor, row_P: Tensor) -> Tensor:
        """score_ij of the given journeys i and their uploads j, [P, P]."""
        content_BLE, _ = self.contents.touches(batch)
        touch_PLE = F.normalize(self.touch(content_BLE[row_P]).float(), dim=-1)
        upload_PE = F.normalize(self.upload(self.contents.uploads(batch)[row_P]).float(), dim=-1)
        taste_PE = F.normalize(self.taste(batch.covariates_BD[row_P]).float(), dim=-1)
        log_g_PL = torch.where(batch.mask_BL[row_P] > 0, stimulus_BL[row_P].clamp_min(1e-6).log(), NEVER)
        touch_PLP = touch_PLE @ upload_PE.T / self.temperature + log_g_PL[:, :, None]
        return torch.logaddexp(
            torch.logsumexp(touch_PLP, dim=1), taste_PE @ upload_PE.T / self.temperature + self.log_uninspired
        )


class UploadContent(nn.Module):
    """What an upload's content teaches the stimuli, in the form that conf says: one cost for all forms."""

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        self.weight = conf.contrastive_weight
        self.term = "content_nll" if conf.upload_content == "likelihood" else "contrastive"
        self.origin = UploadOrigin(spec) if conf.upload_content == "likelihood" else None
        self.mixture = MixtureContrast(spec, conf) if conf.upload_content == "mixture" else None
        self.plain = ContrastivePairs(spec, conf) if conf.upload_content == "plain" else None

    @staticmethod
    def possible(spec: ExampleSpec, conf: ModelConfig) -> bool:
        """Whether the examples hold what conf.upload_content reads."""
        if conf.upload_content == "plain":
            return spec.embedding_length > 0
        return conf.upload_content != "off" and TouchContents.possible(spec)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Each part's own start."""
        initialise.children(self, generator)

    def forward(
        self, batch: Batch, stimulus_BL: Tensor, embedding_KR: Tensor, weight_B: Tensor | None = None
    ) -> Tensor:
        """Mean cost over the batch's rows. A likelihood adds to the others as it is; contrasts have a weight."""
        if self.origin is not None:
            return mean(-self.origin(batch, stimulus_BL), weight_B)
        if self.mixture is not None:
            return self.weight * self.mixture(batch, stimulus_BL, weight_B)
        assert self.plain is not None
        return self.weight * self.plain(batch, embedding_KR, weight_B)
