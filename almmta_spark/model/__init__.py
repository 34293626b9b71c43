"""What is optimised: the models behind every attribution, torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.attention import AttentionModel
from almmta_spark.model.backdoor import BackdoorModel
from almmta_spark.model.balanced import BalancedModel
from almmta_spark.model.batch import Batch
from almmta_spark.model.doubly_robust import DoublyRobustModel
from almmta_spark.model.effects import Effects
from almmta_spark.model.latent import LatentModel
from almmta_spark.model.paper import PaperModel
from almmta_spark.model.placebo import PlaceboOutcome, PlaceboProxies, PlaceboTouch
from almmta_spark.model.shapley import ShapleyModel


@dataclass(frozen=True)
class Variant:
    """A method that is fitted: a class, and the settings that make it this one, whatever the conf file says of them."""

    model: type[nn.Module]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig."""


VARIANTS: dict[str, Variant] = {
    "latent": Variant(LatentModel),
    "paper": Variant(PaperModel),
    "paper_lambda_0": Variant(PaperModel, {"adversary_weight": 0.0}),
    "paper_lambda_1": Variant(PaperModel, {"adversary_weight": 1.0}),
    "paper_lambda_5": Variant(PaperModel, {"adversary_weight": 5.0}),
    "backdoor": Variant(BackdoorModel, {"use_ipw": False}),
    "backdoor_ipw": Variant(BackdoorModel, {"use_ipw": True}),
    "balanced": Variant(BalancedModel, {"use_ipw": False}),
    "doubly_robust": Variant(DoublyRobustModel, {"use_ipw": False}),
    "attention": Variant(AttentionModel),
    "shapley_model": Variant(ShapleyModel, {"use_ipw": False}),
    "placebo_proxies": Variant(PlaceboProxies),
    "placebo_outcome": Variant(PlaceboOutcome),
    "placebo_touch": Variant(PlaceboTouch),
}

__all__ = ["VARIANTS", "Batch", "Effects", "build"]


def build(variant: str, spec: ExampleSpec, conf: ModelConfig) -> nn.Module:
    """A freshly initialised model. ValueError for a variant nobody declared."""
    if variant not in VARIANTS:
        raise ValueError(f"training.variants must be out of {sorted(VARIANTS)}, got {variant!r}: correct the conf file")
    chosen = VARIANTS[variant]
    return chosen.model(spec, replace(conf, **chosen.overrides))
