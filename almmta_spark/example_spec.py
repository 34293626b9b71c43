"""What the columns of one night's training_examples mean: written with the table, kept with every model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signal:
    """A proxy: one column of outcome_proxies or intent_proxies."""

    name: str
    kind: str
    """binary or count"""
    anchor: bool = False
    """Known not to be caused by the upload."""


@dataclass(frozen=True)
class ExampleSpec:
    """What the columns of training_examples mean: lengths, names, and statistics of the training users."""

    clusters: tuple[int, ...]
    """Cluster of each cluster_index, ascending."""
    max_touchpoints: int
    """L, the padded length of touch lists."""
    outcome_proxies: tuple[Signal, ...]
    """J signals, in the order of the outcome_proxies column."""
    intent_proxies: tuple[Signal, ...]
    """Signals in the order of the intent_proxies column (may be empty; the column then has one zero)."""
    covariate_mean: tuple[float, ...]
    """D means on training users: standardisation and imputation."""
    covariate_scale: tuple[float, ...]
    """D standard deviations on training users; 1 where constant."""
    embedding_length: int
    """E of contents; 0: the night has no contents (the column then has one zero)."""
    num_hard_negatives: int
    touch_embeddings: bool
    num_buckets: int
    num_training: int
    """Training rows of the table."""
    num_validation: int
    """Held-out rows of the table."""
    base_rate: float
    """Share of training rows with an outcome."""
    cluster_contents: tuple[tuple[float, ...], ...] = ()
    """[K][E] mean content of each cluster's items, every dimension centred, the whole scaled to unit mean square; empty
    where the night has no contents."""
    content_mean: tuple[float, ...] = ()
    """[E] what a content loses to be in cluster_contents' units; empty as they are."""
    content_scale: float = 1.0
    """What it is then divided by."""

    @property
    def num_covariates(self) -> int:
        return len(self.covariate_mean)

    def misfits(self, tonight: ExampleSpec) -> str:
        """What keeps a model of this spec from scoring tonight's journeys; empty where nothing does."""
        strange = sorted(set(tonight.clusters) - set(self.clusters))
        if strange:
            return f"it does not know cluster {strange[0]}"
        if tonight.max_touchpoints > self.max_touchpoints:
            return f"it reads {self.max_touchpoints} touches of a journey, and tonight's have {tonight.max_touchpoints}"
        of = {"covariates": "num_covariates", "numbers in a content": "embedding_length"}
        differ = [
            f"{getattr(self, f)} {n}, not {getattr(tonight, f)}"
            for n, f in of.items()
            if getattr(self, f) != getattr(tonight, f)
        ]
        return f"it knows {differ[0]}" if differ else ""

    def to_json(self) -> str:
        """As text that from_json reads; equal specs give equal text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ExampleSpec:
        """The spec that to_json wrote."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ExampleSpec:
        """The spec of dataclasses.asdict, or of its JSON: lists become tuples."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
        values["cluster_contents"] = tuple(map(tuple, raw.get("cluster_contents", ())))
        for name in ("outcome_proxies", "intent_proxies"):
            values[name] = tuple(Signal(**s) for s in values[name])
        return cls(**values)
