"""A trained model as two files, weights.pt and model.json, that load without running code from them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import almmta_spark.model as models
from almmta_spark import config
from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.ensemble import Ensemble

WEIGHTS = "weights.pt"
INFO = "model.json"


def save(
    model: nn.Module,
    spec: ExampleSpec,
    conf: ModelConfig,
    variant: str,
    folder: str | Path,
    metrics: Mapping[str, float],
) -> str:
    """Writes the model into the folder, each file by one rename; returns its digest, a function of what is in it.

    Of an ensemble: weights of all members, stacked, and in model.json the plan and the seed of its folds.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    described = {
        "variant": variant,
        "spec": json.loads(spec.to_json()),
        "model": dataclasses.asdict(conf),
        "ensemble": {**config.to_dict(model.plan), "seed": model.seed} if isinstance(model, Ensemble) else None,
    }
    digest = _digest(state, described)
    torch.save(state, path / f".{WEIGHTS}")
    info = {**described, "digest": digest, "metrics": dict(metrics)}
    (path / f".{INFO}").write_text(json.dumps(info, indent=1, sort_keys=True))
    os.replace(path / f".{WEIGHTS}", path / WEIGHTS)
    os.replace(path / f".{INFO}", path / INFO)
    return digest


def load(folder: str | Path) -> tuple[nn.Module, ExampleSpec, dict[str, Any]]:
    """(model or ensemble in eval mode on the CPU, its spec, model.json). ValueError: a file is missing or altered."""
    path = Path(folder)
    for name in (WEIGHTS, INFO):
        if not (path / name).is_file():
            raise ValueError(f"no {name} in {path}: train a model into it first")
    try:
        info = json.loads((path / INFO).read_text())
        state = torch.load(path / WEIGHTS, map_location="cpu", weights_only=True)
        found = _digest(state, {name: info[name] for name in ("variant", "spec", "model", "ensemble")})
    except Exception as error:  # a hostile or broken file may fail in any way; none of its code has run
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"{path}: {WEIGHTS} and {INFO} are refused, they are broken or not ours ({reason}): train again"
        ) from None
    if found != info["digest"]:
        raise ValueError(
            f"{path}: weights and settings have digest {found[:12]}, model.json says {info['digest'][:12]}: "
            "the files are damaged or of two models; train again"
        )
    spec = ExampleSpec.from_dict(info["spec"])
    model = _built(info["variant"], spec, ModelConfig(**info["model"]), info["ensemble"])
    model.load_state_dict(state)
    return model.eval(), spec, info


def _built(variant: str, spec: ExampleSpec, conf: ModelConfig, ensemble: Mapping[str, Any] | None) -> nn.Module:
    if ensemble is None:
        return models.build(variant, spec, conf)
    settings = {name: value for name, value in ensemble.items() if name != "seed"}
    plan = config.from_dict({"training": {"ensemble": settings}}).training.ensemble
    model = Ensemble(variant, spec, conf, plan, int(ensemble["seed"]))
    model.reset_parameters()  # constants, which a file of weights does not hold
    return model


def _digest(state: Mapping[str, Tensor], described: Mapping[str, Any]) -> str:
    """SHA-256 of the settings and of every tensor's name, type, shape and bytes, in order of name."""
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(state):
        value = state[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()
