"""The front-door sum h(m, X) = mean over T' of p(Y | m, T', X) (Pearl 1995), with T' from a bank of journeys.

The bank holds the first journeys that training saw, with and without upload: drawn from uploads only, T' would select
on the outcome. It is part of the model, so a journey's effects do not depend on which others share its batch.
B journeys, K clusters, M reference journeys, N neighbours, R embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.batch import Batch

BANK_SIZE = 256
"""Reference journeys kept; memory BANK_SIZE x clusters."""
OTHER_BUCKET = 10.0
"""Taken off the rank of a journey of another bucket: those are used only where a bucket holds too few."""
ITSELF = 100.0
"""Minus this is the rank of the journey itself: it is not a draw from the others."""
_ODD = -0x61C8864680B583EB


class JourneyBank(nn.Module):
    """Reference journeys, and the choice of num_neighbours of them for each journey."""

    counts_MK: Tensor
    bucket_M: Tensor
    journey_id_M: Tensor
    filled: Tensor

    def __init__(self, spec: ExampleSpec, conf: ModelConfig) -> None:
        super().__init__()
        size = max(1, min(BANK_SIZE, spec.num_training))
        self.num_buckets = max(1, spec.num_buckets)
        self.mode, self.num_neighbours = conf.frontdoor_neighbours, min(conf.num_neighbours, size)
        self.register_buffer("counts_MK", torch.empty(size, len(spec.clusters)))
        self.register_buffer("bucket_M", torch.empty(size, dtype=torch.int64))
        self.register_buffer("journey_id_M", torch.empty(size, dtype=torch.int64))
        self.register_buffer("filled", torch.empty((), dtype=torch.int64))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Empties the bank (no randomness: the argument is a convention)."""
        for buffer in (self.counts_MK, self.bucket_M, self.journey_id_M, self.filled):
            buffer.zero_()

    @torch.no_grad()
    def remember(self, batch: Batch, counts_BK: Tensor) -> None:
        """Adds the batch's journeys while there is room."""
        start = int(self.filled)
        stop = min(start + batch.size, len(self.bucket_M))
        if stop > start:
            self.counts_MK[start:stop] = counts_BK[: stop - start]
            self.bucket_M[start:stop] = journey_bucket(batch)[: stop - start]
            self.journey_id_M[start:stop] = batch.journey_id_B[: stop - start]
            self.filled.fill_(stop)

    def neighbours(self, batch: Batch, counts_BK: Tensor, content_KR: Tensor) -> Tensor:
        """Rows of the bank that are each journey's T', [B, N]; cost one [B, R] x [R, M] product and one top-N
        of M, which is most of what `paper` needs for a journey's deletions (about 6 forward passes in all).

        batch: any journeys, by a hash of both ids; bucket: the same among journeys of the bucket; match: those of the
        bucket whose mean content is most similar. ValueError before training has filled the bank.
        """
        filled = int(self.filled)
        if not filled:
            raise ValueError("paper: the front-door sum has no reference journeys yet: train the model before scoring")
        id_M, bucket_M = self.journey_id_M[:filled], self.bucket_M[:filled]
        if self.mode == "match":
            rank_BM = _mean_content(counts_BK, content_KR) @ _mean_content(self.counts_MK[:filled], content_KR).T
        else:
            rank_BM = pseudo_random(batch.journey_id_B[:, None], id_M)
        if self.mode != "batch":
            present = torch.arange(self.num_buckets, device=bucket_M.device)
            penalty_M = OTHER_BUCKET * (bucket_M != present[:, None]).to(rank_BM.dtype)
            rank_BM = rank_BM - penalty_M[journey_bucket(batch)]
        kept_P = torch.isin(batch.journey_id_B, id_M).nonzero()[:, 0]  # few: the others cannot meet themselves
        itself_PM = batch.journey_id_B[kept_P, None] == id_M
        rank_BM[kept_P] = rank_BM[kept_P].masked_fill(itself_PM, -ITSELF)
        return rank_BM.topk(min(self.num_neighbours, filled), dim=1).indices


def frontdoor_sum(g0_BN: Tensor, push: Tensor) -> Tensor:
    """mean over n of sigmoid(g0(T'_n, X) + push), push = b(X) m of shape [B] or [B, L]."""
    if push.ndim == 1:
        return torch.sigmoid(g0_BN + push[:, None]).mean(1)
    return torch.sigmoid(g0_BN[:, None, :] + push[:, :, None]).mean(2)


def journey_bucket(batch: Batch) -> Tensor:
    """A journey's propensity bucket: the mean over its touches, rounded; 0 for a journey without one."""
    total_B = (batch.bucket_BL * batch.mask_BL).sum(1)
    return (total_B / batch.num_touches_B.clamp_min(1)).round().to(torch.int64)


def _mean_content(counts_BK: Tensor, content_KR: Tensor) -> Tensor:
    return F.normalize(counts_BK @ content_KR, dim=-1)


def pseudo_random(left: Tensor, right: Tensor) -> Tensor:
    """Uniform in [0, 1), a function of the pair of ids."""
    mixed = (left ^ right) * _ODD
    mixed = (mixed ^ (mixed >> 29)) * _ODD
    return ((mixed >> 40) & 0xFFFFFF).to(torch.float32) / 2**24
