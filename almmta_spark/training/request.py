"""What one training job is asked for, and what it answers: both travel as JSON between processes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from almmta_spark import config
from almmta_spark.config import ModelConfig, TrainingConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.training.folder import Folder


@dataclass(frozen=True)
class FitRequest:
    """One fit, all that a rank must know."""

    dataset_url: str
    """Folder of the training table's Parquet files: a path or a URL every rank can read."""
    spec: ExampleSpec
    """What the table's columns mean."""
    model: ModelConfig
    training: TrainingConfig
    variant: str
    """latent, paper or backdoor."""
    seed: int
    output_dir: str
    """Folder rank 0 writes weights.pt, model.json, history.json and checkpoint-*.pt to: a path or a URL."""

    def to_json(self) -> str:
        """As text that from_json reads."""
        raw = dataclasses.asdict(self) | {"spec": json.loads(self.spec.to_json())}
        return json.dumps(raw, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FitRequest:
        """The request that to_json wrote."""
        raw = json.loads(text)
        conf = config.from_dict({"model": raw["model"], "training": raw["training"]})
        parsed = {"spec": ExampleSpec.from_dict(raw["spec"]), "model": conf.model, "training": conf.training}
        return cls(**(raw | parsed))

    @property
    def digest(self) -> str:
        """SHA-256 of everything but where the table lies and where the weights go: the rest decides the weights."""
        raw = json.loads(self.to_json())
        del raw["output_dir"], raw["dataset_url"]
        return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class FitResult:
    """What a fit left behind."""

    variant: str
    digest: str
    """Of weights and configuration: the model_version."""
    output_dir: str
    metrics: dict[str, float]
    """Losses of the last epoch, speed, share of time waiting for data, bytes sent, rows an epoch, ranks."""
    history: list[dict[str, Any]]
    """One entry an epoch, in order; those before a resume included."""

    @classmethod
    def load(cls, output_dir: str) -> FitResult:
        """The result rank 0 left in output_dir; ValueError where training has not ended there."""
        folder = Folder(output_dir)
        missing = {"model.json", "weights.pt", "history.json"} - set(folder.names())
        if missing:
            raise ValueError(f"no finished model in {output_dir}: {', '.join(sorted(missing))} missing; train it first")
        info = json.loads(folder.read("model.json"))
        history = json.loads(folder.read("history.json"))
        return cls(info["variant"], info["digest"], output_dir, info["metrics"], history)
