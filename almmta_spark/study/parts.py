"""The parts of the models, each switched off (or on) beside the model as it is, in the worlds where it must show."""

from __future__ import annotations

from dataclasses import dataclass

ALL = "parts"
"""Stands for all of them in a list of methods."""
PLAIN = ("default", "hard")
RICH = ("rich", "rich_hard")


@dataclass(frozen=True)
class Part:
    """One part of a model, with and without."""

    words: str
    method: str
    """The model with the part changed, as study.specs reads it."""
    worlds: tuple[str, ...]


PARTS = (
    Part(
        "without the second latent, the hidden intent",
        "latent:hidden_intent=false",
        (*PLAIN, "leak_w", "w_to_m", *RICH),
    ),
    Part("without the leak of the upload into its proxies", "latent:outcome_leak=false", (*PLAIN, "leak_y")),
    Part("without the exposure factor", "latent:exposure_factor=false", PLAIN),
    Part("without the contents of clusters", "latent:content_modulation=false", PLAIN),
    Part("without the cost of a stimulus", "latent:sparsity=0", PLAIN),
    Part("without the contents of uploads", "latent:upload_content=off", ("default", "content")),
    Part(
        "contents of uploads by plain InfoNCE",
        "latent:upload_content=plain,contrastive_weight=1",
        ("default", "content"),
    ),
    Part(
        "contents of uploads by InfoNCE of a mixture",
        "latent:upload_content=mixture,contrastive_weight=1",
        ("default", "content"),
    ),
    Part("with each of many signals read by itself", "latent:signal_heads=0", RICH),
    Part("heads without an adversary", "latent:heads_adversary_weight=0", RICH),
    Part("heads with an adversary of the outcome", "latent:adversary_target=outcome", RICH),
    Part("heads with an adversary of the outcome's residual", "latent:adversary_target=outcome_residual", RICH),
    Part("neither second latent nor adversary", "latent:heads_adversary_weight=0,hidden_intent=false", RICH),
    Part("with strengths of either sign", "latent:signed=true", ("default", "signed")),
    Part("without the adversary", "paper:adversary_weight=0", (*PLAIN, "leak_y", "leak_w", "rich", "rich_hard")),
    Part("without the contrast of matched pairs", "paper:contrastive_weight=0", ("default", "content")),
    Part("front-door sum over any journeys", "paper:frontdoor_neighbours=batch", PLAIN),
    Part("front-door sum over journeys of the bucket", "paper:frontdoor_neighbours=bucket", PLAIN),
    Part("with inverse propensity weights", "paper:use_ipw=true", PLAIN),
    Part("the direct proxy: the proxies alone", "paper:adversary_weight=0,contrastive_weight=0", PLAIN),
)
WORDS = {part.method: part.words for part in PARTS}


def methods(world: str) -> list[str]:
    """Of the parts that must show in the world; the random worlds are looked at as they are."""
    return [part.method for part in PARTS if world in part.worlds]
