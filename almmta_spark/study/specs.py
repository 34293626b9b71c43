"""A method with settings of its own, as one word: latent:exposure_factor=false,epochs=20."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import yaml

from almmta_spark import config
from almmta_spark.config import Config, ModelConfig, TrainingConfig

_TEXTS = {f.name for f in (*fields(ModelConfig), *fields(TrainingConfig)) if f.type in (str, "str")}
_SECTIONS = {
    **{f.name: "training" for f in fields(TrainingConfig)},
    **{f.name: "model" for f in fields(ModelConfig)},
}


@dataclass(frozen=True)
class Spec:
    """What is fitted: a variant, and the settings it is fitted with."""

    name: str
    variant: str
    model: ModelConfig
    training: TrainingConfig


def single_fits(conf: Config) -> Config:
    """The settings with one fit a model where a night has an ensemble: enough to compare settings, and cheaper."""
    ensemble = replace(conf.training.ensemble, variants=())
    return replace(conf, training=replace(conf.training, ensemble=ensemble))


def unchanged(variant: str) -> str:
    """The variant without a change, fitted and measured as those with changes are."""
    return f"{variant}:"


def is_spec(method: str) -> bool:
    """Whether a method's name holds settings, as latent:sparsity=0 does."""
    return ":" in method


def parse(text: str, conf: Config) -> Spec:
    """`variant:key=value,key=value`, keys of model.* and training.*; what is not named is as in conf. ValueError."""
    variant, _, changes = text.partition(":")
    if variant not in config.VARIANTS:
        raise ValueError(f"a method with settings begins with one of {', '.join(config.VARIANTS)}, got {text!r}")
    settings = {name: config.to_dict(getattr(conf, name)) for name in ("model", "training")}
    for change in filter(None, changes.split(",")):
        key, equals, value = change.partition("=")
        if not equals or key not in _SECTIONS:
            known = ", ".join(sorted(_SECTIONS))
            raise ValueError(
                f"a setting of a method is key=value with a key out of {known}; got {change!r} in {text!r}"
            )
        settings[_SECTIONS[key]][key] = value if key in _TEXTS else yaml.safe_load(value)  # YAML takes off for false
    built = config.from_dict(settings)
    return Spec(text, variant, built.model, built.training)


def split(methods: Iterable[str]) -> tuple[list[str], list[str]]:
    """Methods without and with settings of their own."""
    methods = list(methods)
    return [m for m in methods if not is_spec(m)], [m for m in methods if is_spec(m)]
