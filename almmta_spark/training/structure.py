"""Which structure a night's logs are for: touches that only inspire, or touches that may also discourage.

Both are fitted on the training users, as single fits, and the held-out users' likelihood decides. The larger structure
must gain more than a standard error: between two fits near one truth the log-likelihood ratio is nearly normal with a
variance of twice its mean (Vuong 1989), so a gain of G nats has a standard error of sqrt(2 G), and G > sqrt(2 G) from
2 nats on.
"""

from __future__ import annotations

import json
from dataclasses import replace

from almmta_spark.training.folder import Folder
from almmta_spark.training.request import FitRequest, FitResult

MARGIN_NATS = 2.0
CHOSEN_FOR = ("latent",)
"""Variants that may be of either structure; those compared with them are non-negative."""


def candidates(request: FitRequest) -> tuple[FitRequest, FitRequest]:
    """Single fits of the non-negative and of the signed structure, each in a folder of its own."""
    training = replace(request.training, ensemble=replace(request.training.ensemble, variants=()))
    fits = (
        replace(
            request,
            model=replace(request.model, signed=signed),
            training=training,
            output_dir=f"{request.output_dir}/{name}",
        )
        for name, signed in (("structure=nonnegative", False), ("structure=signed", True))
    )
    nonnegative, signed = fits
    return nonnegative, signed


def gain_nats(nonnegative: FitResult, signed: FitResult, num_validation: int) -> float:
    """By how much the signed structure is likelier to have made the held-out journeys; 0 where none are held out."""
    if not num_validation:
        return 0.0
    return num_validation * (nonnegative.metrics["held_out_nll"] - signed.metrics["held_out_nll"])


def keep(source: str, target: str, evidence: dict[str, float]) -> None:
    """The finished model of a folder in the target, with the evidence for its structure among its metrics.

    Its digest is that of weights and settings, and stays. model.json goes last: a folder that has it is complete.
    """
    info = json.loads(Folder(source).read("model.json"))
    info["metrics"] |= evidence
    if source != target:
        for name in ("weights.pt", "history.json"):
            Folder(target).write(name, Folder(source).read(name))
    Folder(target).write("model.json", json.dumps(info, indent=1, sort_keys=True).encode())
