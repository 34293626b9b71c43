"""A trained model on disk: weights.pt, and model.json with everything needed to build it again. No pickles."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from almmta_spark import config
from almmta_spark.config import ModelConfig
from almmta_spark.example_spec import ExampleSpec


def save(
    model: nn.Module,
    spec: ExampleSpec,
    conf: ModelConfig,
    variant: str,
    folder: str | Path,
    metrics: Mapping[str, float],
) -> str:
    """Writes the model into a local folder and returns its digest: equal weights and settings have equal digests."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    info = {"variant": variant, "spec": json.loads(spec.to_json()), "model": dataclasses.asdict(conf)}
    digest = _digest(state, info)
    content = io.BytesIO()
    torch.save(state, content)
    (path / "weights.pt").write_bytes(content.getvalue())
    text = json.dumps({**info, "digest": digest, "metrics": dict(metrics)}, sort_keys=True, indent=1)
    (path / "model.json").write_text(text)
    return digest


def load(folder: str | Path) -> tuple[nn.Module, ExampleSpec, dict[str, Any]]:
    """(model in evaluation mode, spec, what model.json says). ValueError where the files do not belong together."""
    from almmta_spark.model import build

    path = Path(folder)
    info = json.loads((path / "model.json").read_text())
    spec = ExampleSpec.from_dict(info["spec"])
    conf = config.from_dict({"model": info["model"]}).model
    model = build(info["variant"], spec, conf)
    state = torch.load(path / "weights.pt", map_location="cpu", weights_only=True)
    found = _digest(state, {name: info[name] for name in ("variant", "spec", "model")})
    if found != info["digest"]:
        raise ValueError(f"{path}: weights.pt has digest {found[:12]}, model.json says {info['digest'][:12]}: train again")
    model.load_state_dict(state)
    return model.eval(), spec, info


def _digest(state: Mapping[str, torch.Tensor], info: Mapping[str, Any]) -> str:
    """SHA-256 of the settings and of every weight's name, shape and bytes."""
    seen = hashlib.sha256(json.dumps(info, sort_keys=True).encode())
    for name in sorted(state):
        seen.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}".encode())
        seen.update(state[name].numpy().tobytes())
    return seen.hexdigest()
