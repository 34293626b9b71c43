"""One batch of journeys as tensors: the only thing a model sees.

Legend of the shape suffixes, here and in every module of the package:
B journeys, L touchpoints, D covariates, J outcome proxies, Z intent proxies, E content, H hard negatives,
R embedding width, Q quadrature nodes, K clusters, N neighbours, M reference journeys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from almmta_spark.example_spec import ExampleSpec

REQUIRED = ("journey_id", "covariates", "num_touches", "cluster_index", "age_hours", "propensity_bucket")
"""Columns without which no effect can be computed; what a journey's outcome side would add is 0 where missing."""


@dataclass
class Batch:
    """Journeys of one batch. Lists are padded at the end; a model multiplies padding by mask_BL."""

    journey_id_B: Tensor
    user_id_B: Tensor
    """Whose journey it is: a bootstrap draws users, not journeys."""
    outcome_B: Tensor
    outcome_proxies_BJ: Tensor
    intent_proxies_BZ: Tensor
    covariates_BD: Tensor
    num_touches_B: Tensor
    cluster_BL: Tensor
    item_BL: Tensor
    author_BL: Tensor
    item_touches_BL: Tensor
    author_touches_BL: Tensor
    age_BL: Tensor
    """Hours from the touch to index_ts."""
    bucket_BL: Tensor
    weight_BL: Tensor
    match_position_B: Tensor
    match_score_B: Tensor
    has_upload_embedding_B: Tensor
    upload_embedding_BE: Tensor
    negative_cluster_BH: Tensor
    touch_embedding_BLE: Tensor | None

    @property
    def mask_BL(self) -> Tensor:
        """1.0 where a touch is real, 0.0 in padding."""
        position_L = torch.arange(self.cluster_BL.shape[1], device=self.cluster_BL.device)
        return (position_L < self.num_touches_B[:, None]).to(self.age_BL.dtype)

    @property
    def size(self) -> int:
        return int(self.outcome_B.shape[0])

    def rows(self, index: Tensor) -> Batch:
        """The journeys of an index, in its order."""
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            chosen[field.name] = value if value is None else value[index]
        return Batch(**chosen)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value if value is None else value.to(device, non_blocking=non_blocking)
        return Batch(**moved)

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], spec: ExampleSpec) -> Batch:
        """Columns of training_examples (list columns stacked to [rows, length]) as a batch.

        Lists over touches are cut to the longest journey of the batch and zeroed beyond each journey's end.
        Columns outside REQUIRED may be missing and then mean "not observed": 0, weight 1, match position -1, and
        every journey a user of its own.
        Raises ValueError where a required column is missing, has a wrong length or an unknown cluster_index.
        """
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            raise ValueError(f"training_examples.{missing[0]} is missing from the batch: models need {REQUIRED}")
        rows = len(columns["journey_id"])
        count_B = np.asarray(columns["num_touches"], dtype=np.int64)
        length = _longest(count_B, columns["cluster_index"].shape[1])
        mask_BL = np.arange(length) < count_B[:, None]

        def scalar(name: str, dtype: type, default: float = 0) -> Tensor:
            given = columns[name] if name in columns else np.full(rows, default)
            return torch.from_numpy(np.array(given, dtype))

        def vector(name: str, dtype: type, width: int, default: float = 0) -> Tensor:
            given = columns.get(name)
            if given is not None and given.shape != (rows, width):
                raise ValueError(
                    f"training_examples.{name} must be {rows} x {width}, got {given.shape}: rebuild the examples"
                )
            return torch.from_numpy(np.full((rows, width), default, dtype) if given is None else np.array(given, dtype))

        def listed(name: str, dtype: type, default: float = 0) -> Tensor:
            given = columns[name][:, :length] if name in columns else np.full((rows, length), default)
            return torch.from_numpy(np.where(mask_BL, given, 0).astype(dtype))

        num_proxies, num_intents = max(1, len(spec.outcome_proxies)), max(1, len(spec.intent_proxies))
        return cls(
            journey_id_B=scalar("journey_id", np.int64),
            user_id_B=scalar("user_id" if "user_id" in columns else "journey_id", np.int64),
            outcome_B=scalar("outcome", np.float32),
            outcome_proxies_BJ=vector("outcome_proxies", np.float32, num_proxies),
            intent_proxies_BZ=vector("intent_proxies", np.float32, num_intents),
            covariates_BD=vector("covariates", np.float32, spec.num_covariates),
            num_touches_B=torch.from_numpy(count_B),
            cluster_BL=_known_clusters(listed("cluster_index", np.int64), len(spec.clusters)),
            item_BL=listed("item_id", np.int64),
            author_BL=listed("author_id", np.int64),
            item_touches_BL=listed("item_touches", np.float32),
            author_touches_BL=listed("author_touches", np.float32),
            age_BL=listed("age_hours", np.float32),
            bucket_BL=listed("propensity_bucket", np.int64),
            weight_BL=listed("touch_weight", np.float32, default=1),
            match_position_B=scalar("match_position", np.int64, default=-1),
            match_score_B=scalar("match_score", np.float32),
            has_upload_embedding_B=scalar("has_upload_embedding", np.float32),
            upload_embedding_BE=vector("upload_embedding", np.float32, max(1, spec.embedding_length)),
            negative_cluster_BH=_negatives(columns, rows),
            touch_embedding_BLE=_contents(columns, rows, mask_BL, spec),
        )


def _longest(count_B: np.ndarray, width: int) -> int:
    if count_B.size and not 0 <= int(count_B.min()) <= int(count_B.max()) <= width:
        worst = int(count_B.min()) if count_B.min() < 0 else int(count_B.max())
        raise ValueError(f"training_examples.num_touches must lie in [0, {width}] (the lists' length), got {worst}")
    return max(1, int(count_B.max(initial=1)))


def _known_clusters(cluster_BL: Tensor, num_clusters: int) -> Tensor:
    if cluster_BL.numel() and not 0 <= int(cluster_BL.min()) <= int(cluster_BL.max()) < num_clusters:
        worst = int(cluster_BL.min()) if cluster_BL.min() < 0 else int(cluster_BL.max())
        raise ValueError(
            f"training_examples.cluster_index must lie in [0, {num_clusters}) (the spec's clusters), got {worst}: "
            "score journeys with the spec that the model was trained with"
        )
    return cluster_BL


def _negatives(columns: Mapping[str, np.ndarray], rows: int) -> Tensor:
    given = columns.get("negative_cluster_index")
    return torch.from_numpy(np.full((rows, 1), -1) if given is None else np.array(given, np.int64))


def _contents(columns: Mapping[str, np.ndarray], rows: int, mask_BL: np.ndarray, spec: ExampleSpec) -> Tensor | None:
    given = columns.get("touch_embedding")
    if not spec.touch_embeddings or given is None:
        return None
    content_BLE = np.asarray(given, np.float32).reshape(rows, -1, spec.embedding_length)[:, : mask_BL.shape[1]]
    return torch.from_numpy(np.where(mask_BL[:, :, None], content_BLE, np.float32(0)))
