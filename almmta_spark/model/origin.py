"""What an upload's content says of the touch it came from: the paper's high-match pairs as a likelihood.

    p(U | T, X, Y = 1) = sum_k pi_k N(U; content_k, s^2) + pi_0 N(U; taste(X), s_0^2)
    pi_k = (1 - pi_0) [r g_k / S + (1 - r) exp(-delta age_k) / sum_j exp(-delta age_j)],    pi_0 = c_0 / (S + c_0)

A resembling touch is evidence, not proof: own taste resembles too (pi_0), and people repeat what they saw last or at
random, inspired or not (1 - r). Both are learned, so that where contents do not follow the stimuli, r falls towards 0
or c_0 rises, and the term lets go of the stimuli by itself. Its gradient in log g_k is the EM algorithm's (Dempster,
Laird & Rubin 1977): touch k's responsibility less its prior share.
B journeys, L touchpoints, E content, D covariates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise
from almmta_spark.model.batch import Batch
from almmta_spark.model.encoder import AGE_UNIT_HOURS

NEVER = -1e4
"""Log-probability of a touch in padding: far below any other, and finite, so that gradients are."""
LEAST_STIMULUS = 1e-6
"""Stimulus of a silent touch under the logarithm."""
FIRST_RELIABILITY = 2.0
"""r at the start, as a logit: until the stimuli are learned, equal shares would always fit better."""
FIRST_UNINSPIRED = 2.0
"""log c_0 at the start: touches must earn their uploads, or an unfitted S is bent to explain taste."""


class TouchContents(nn.Module):
    """Contents of uploads and touches in the units of the clusters' means; without touches' own, their cluster's."""

    mean_E: Tensor
    content_KE: Tensor

    def __init__(self, spec: ExampleSpec) -> None:
        super().__init__()
        self.contents, self.of_touches = spec.cluster_contents, spec.touch_embeddings
        self.content_mean, self.scale = spec.content_mean, spec.content_scale
        self.register_buffer("mean_E", torch.empty(spec.embedding_length), persistent=False)
        if not self.of_touches:
            clusters = torch.empty(len(spec.clusters), spec.embedding_length)
            self.register_buffer("content_KE", clusters, persistent=False)

    @staticmethod
    def possible(spec: ExampleSpec) -> bool:
        """Whether touches have contents comparable with uploads': each its own, or its cluster's mean."""
        return bool(spec.embedding_length and (spec.touch_embeddings or (spec.cluster_contents and spec.content_mean)))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Fills the buffers (no randomness: the argument is a convention)."""
        with torch.no_grad():
            self.mean_E.copy_(torch.tensor(self.content_mean or (0.0,) * len(self.mean_E)))
            if not self.of_touches:
                self.content_KE.copy_(torch.tensor(self.contents))

    def uploads(self, batch: Batch) -> Tensor:
        """[B, E]"""
        return (batch.upload_embedding_BE - self.mean_E) / self.scale

    def touches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Contents [B, L, E], and whether each is known [B, L]: one of zeros is not."""
        if self.of_touches:
            assert batch.touch_embedding_BLE is not None, "the spec says touch_embeddings, the batch carries none"
            known_BL = (batch.touch_embedding_BLE != 0).any(-1)
            return (batch.touch_embedding_BLE - self.mean_E) / self.scale, known_BL
        content_BLE = self.content_KE[batch.cluster_BL]
        return content_BLE, (content_BLE != 0).any(-1)


class UploadOrigin(nn.Module):
    """The mixture over a journey's touches and the user's own taste."""

    def __init__(self, spec: ExampleSpec) -> None:
        super().__init__()
        self.contents = TouchContents(spec)
        self.taste = nn.Linear(spec.num_covariates, spec.embedding_length)
        self.log_sd_E = nn.Parameter(torch.empty(spec.embedding_length))
        self.taste_log_sd_E = nn.Parameter(torch.empty(spec.embedding_length))
        self.log_uninspired = nn.Parameter(torch.empty(()))
        self.reliability = nn.Parameter(torch.empty(()))
        self.recency = nn.Parameter(torch.empty(()))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """No randomness: the argument is a convention."""
        self.contents.reset_parameters()
        initialise.zero_linear(self.taste)
        initialise.fill(self.log_sd_E, math.log(0.5))
        initialise.fill(self.taste_log_sd_E, 0.0)
        initialise.fill(self.log_uninspired, FIRST_UNINSPIRED)
        initialise.fill(self.reliability, FIRST_RELIABILITY)
        initialise.fill(self.recency, initialise.softplus_inverse(0.5))

    def forward(self, batch: Batch, stimulus_BL: Tensor) -> Tensor:
        """log p(U | T, X, Y = 1) of each journey whose upload has a content, 0 for the others, [B]."""
        log_joint: Tensor = torch.logsumexp(self.log_joint(batch, stimulus_BL), dim=1)
        return log_joint * batch.has_upload_embedding_B

    def responsibilities(self, batch: Batch, stimulus_BL: Tensor) -> Tensor:
        """P(origin | U, T, X): of each touch, and last of the user's own taste, [B, L + 1]."""
        return torch.softmax(self.log_joint(batch, stimulus_BL), dim=1)

    def log_joint(self, batch: Batch, stimulus_BL: Tensor) -> Tensor:
        """log pi_k + log p(U | origin k), own taste last, [B, L + 1]."""
        upload_BE = self.contents.uploads(batch)
        taste_B = _log_normal(upload_BE - self.taste(batch.covariates_BD).float(), self.taste_log_sd_E)
        total_B = stimulus_BL.sum(1).clamp_min(LEAST_STIMULUS)
        inspired_B = total_B.log() - self.log_uninspired
        touch_BL = F.logsigmoid(inspired_B)[:, None] + self._log_shares(batch, stimulus_BL, total_B)
        touch_BL = touch_BL + self._log_resemblance(batch, upload_BE)
        return torch.cat([touch_BL, (F.logsigmoid(-inspired_B) + taste_B)[:, None]], dim=1)

    def _log_shares(self, batch: Batch, stimulus_BL: Tensor, total_B: Tensor) -> Tensor:
        """log of each touch's share of the inspired uploads, [B, L]."""
        real_BL = batch.mask_BL > 0
        stimuli_BL = stimulus_BL.clamp_min(LEAST_STIMULUS).log() - total_B.log()[:, None]
        recent_BL = torch.where(real_BL, -F.softplus(self.recency) * batch.age_BL / AGE_UNIT_HOURS, NEVER)
        repeated_BL = torch.log_softmax(recent_BL, dim=1)
        both_BL = torch.logaddexp(
            F.logsigmoid(self.reliability) + stimuli_BL, F.logsigmoid(-self.reliability) + repeated_BL
        )
        return torch.where(real_BL, both_BL, NEVER)

    def _log_resemblance(self, batch: Batch, upload_BE: Tensor) -> Tensor:
        """log p(U | origin k), [B, L]. What has no content (all 0) may be anything: N(0, 1) in the contents' units."""
        content_BLE, known_BL = self.contents.touches(batch)
        near_BL = _log_normal(upload_BE[:, None] - content_BLE, self.log_sd_E)
        return torch.where(known_BL, near_BL, _log_normal(upload_BE, torch.zeros_like(self.log_sd_E))[:, None])


def _log_normal(difference: Tensor, log_sd_E: Tensor) -> Tensor:
    """log N(difference; 0, sd^2), summed over the dimensions of the content."""
    standard = difference * torch.exp(-log_sd_E)
    return (-0.5 * standard.square() - log_sd_E - 0.5 * math.log(2 * math.pi)).sum(-1)
