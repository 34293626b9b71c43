"""What is optimised: the models behind every attribution, torch only."""

from __future__ import annotations

from torch import nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.backdoor import BackdoorModel
from almmta_spark.model.batch import Batch
from almmta_spark.model.effects import Effects
from almmta_spark.model.latent import LatentModel
from almmta_spark.model.paper import PaperModel

VARIANTS: dict[str, type[nn.Module]] = {"latent": LatentModel, "paper": PaperModel, "backdoor": BackdoorModel}

__all__ = ["VARIANTS", "Batch", "Effects", "build"]


def build(variant: str, spec: ExampleSpec, conf: ModelConfig) -> nn.Module:
    """A freshly initialised model. ValueError for a variant nobody declared."""
    if variant not in VARIANTS:
        raise ValueError(f"training.variants must be out of {sorted(VARIANTS)}, got {variant!r}: correct the conf file")
    return VARIANTS[variant](spec, conf)
