"""One night of a world as arrays, a plain in-memory training loop, and the metrics against the exact effects.

The pipeline's own loop lives in training/; this one is short enough to be trusted and reads no files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import rankdata

from almmta_spark.config import EnsembleConfig, ModelConfig, PairsConfig, TrainingConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.examples.spec import centred_contents
from almmta_spark.model import Batch, ensemble
from almmta_spark.model.ensemble import Ensemble
from almmta_spark.simulator import draws, records, truth
from almmta_spark.simulator.world import World
from almmta_spark.training.optimiser import clip_gradients

PAIRS = PairsConfig()


SINGLE = EnsembleConfig(variants=())


@dataclass(frozen=True)
class Night:
    spec: ExampleSpec
    columns: dict[str, np.ndarray]
    """training_examples columns, one row a journey, and author_id of each touch."""
    effects: np.ndarray
    """[rows, L] exact ETT, 0 in padding; L is the longest journey's."""
    effects_ate: np.ndarray
    """[rows, L] exact ATE-X, 0 in padding."""


def simulate(
    world_name: str,
    num_users: int,
    seed: int,
    world: World | None = None,
    touch_embeddings: bool = True,
    uniform: bool = False,
    night: int = 0,
) -> Night:
    """Journeys of one night, oldest touch first, with their exact effects; signals and anchors as the world says.

    touch_embeddings: with the content of every touch. uniform: whole sequences drawn without regard to X and W.
    """
    world = world or draws.build_world(world_name, seed)
    draw = draws.draw_night(world, seed, night, np.arange(num_users), uniform=uniform)
    spec, columns = _journeys(world, draw, seed, night, touch_embeddings)
    longest = columns["num_touches"].max()  # as Batch cuts its lists
    rows = draw.shown.any(axis=1)
    return Night(spec, columns, *(_packed(e, draw.shown)[rows, :longest] for e in truth.exact_effects(world, draw)))


def _packed(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """[users, slots] with the values of what was shown first, oldest first, and 0 behind; slots run newest first."""
    order = np.argsort(~shown[:, ::-1], axis=1, kind="stable")
    there = np.arange(shown.shape[1]) < shown.sum(1)[:, None]
    return np.where(there, np.take_along_axis(values[:, ::-1], order, axis=1), 0)


def _journeys(
    world: World, draw: draws.NightDraw, seed: int, night: int, touch_embeddings: bool
) -> tuple[ExampleSpec, dict[str, np.ndarray]]:
    """training_examples columns of the users with a touch, and their spec."""
    rows = draw.shown.any(axis=1)
    shown = draw.shown[rows]

    def packed(values: np.ndarray) -> np.ndarray:
        return _packed(values[rows], shown)

    x, outcome, item = draw.x[rows], draw.outcome[rows], packed(draw.item)
    columns = {
        "journey_id": np.flatnonzero(rows).astype(np.int64),
        "user_id": draw.user_ids[rows],
        "outcome": outcome.astype(np.float32),
        "outcome_proxies": draw.proxies[rows].astype(np.float32),
        "intent_proxies": draw.intents[rows].astype(np.float32),
        "covariates": ((x - x.mean(0)) / x.std(0)).astype(np.float32),
        "num_touches": shown.sum(1).astype(np.int32),
        "cluster_index": packed(draw.cluster).astype(np.int32),
        "item_id": item,
        "author_id": records.FIRST_AUTHOR_ID + item // records.ITEMS_PER_AUTHOR,
        "age_hours": packed(draw.age_hours).astype(np.float32),
        "propensity_bucket": np.zeros(shown.shape, np.int32),
        "touch_weight": np.ones(shown.shape, np.float32),
    }
    for name in ("item", "author"):
        columns[f"{name}_touches"] = _touches(columns[f"{name}_id"], columns["num_touches"])
    content = world.item_content_IE[item].astype(np.float32)
    num_clusters = len(world.strength_K)
    cluster_contents, mean_E, scale = centred_contents(world.item_content_IE, world.item_cluster_I, num_clusters)
    if touch_embeddings:
        columns["touch_embedding"] = content.reshape(len(x), -1)
    upload = draws.upload_content(world, draw, seed, night)[rows].astype(np.float32)
    columns |= _matches(columns, content, upload, seed)
    law = world.mechanism
    spec = ExampleSpec(
        clusters=tuple(range(num_clusters)),
        max_touchpoints=shown.shape[1],
        outcome_proxies=tuple(Signal(s.name, s.kind, s.anchor) for s in law.proxies),
        intent_proxies=tuple(Signal(s.name, s.kind, s.anchor) for s in law.intents),
        covariate_mean=tuple(x.mean(0)),
        covariate_scale=tuple(x.std(0)),
        embedding_length=content.shape[2],
        num_hard_negatives=PAIRS.num_hard_negatives,
        touch_embeddings=touch_embeddings,
        num_buckets=1,
        num_training=len(x),
        num_validation=0,
        base_rate=float(outcome.mean()),
        cluster_contents=cluster_contents,
        content_mean=mean_E,
        content_scale=scale,
    )
    return spec, columns


@dataclass(frozen=True)
class Decisions:
    """N decisions of a withholding experiment, one a user, and the journeys of those who were shown something."""

    spec: ExampleSpec
    columns: dict[str, np.ndarray]
    kept: np.ndarray
    cluster: np.ndarray
    age_hours: np.ndarray
    num_touches: np.ndarray
    """Of the user, shown and withheld."""
    outcome: np.ndarray
    row: np.ndarray
    """Of `columns`: the user's journey; without meaning where the only touch was withheld."""
    position: np.ndarray
    """In the journey, of a kept touch."""


def decisions(world_name: str, night: Night, num_users: int, seed: int, first_user: int = 10_000_000) -> Decisions:
    """Further users of a simulated night, each in its experiment; covariates are standardised as the night's are."""
    world = draws.build_world(world_name, seed)
    users = first_user + np.arange(num_users)
    draw = draws.draw_night(world, seed, 0, users, experiment=np.ones(num_users, dtype=bool))
    _, columns = _journeys(world, draw, seed, 0, night.spec.touch_embeddings)
    rows = draw.shown.any(axis=1)
    x = (draw.x[rows] - np.array(night.spec.covariate_mean)) / np.array(night.spec.covariate_scale)
    columns["covariates"] = x.astype(np.float32)
    decided = draw.decided >= 0
    at = (np.flatnonzero(decided), draw.decided[decided])
    older = np.cumsum(draw.shown[:, ::-1], axis=1)[:, ::-1]  # shown at this slot or before it in time
    return Decisions(
        night.spec,
        columns,
        ~draw.withheld[decided],
        draw.cluster[at],
        draw.age_hours[at],
        (draw.shown.sum(axis=1) + draw.withheld)[decided],
        draw.outcome[decided],
        (np.cumsum(rows) - 1)[decided],
        older[at] - 1,
    )


def _touches(id_BL: np.ndarray, num_touches_B: np.ndarray) -> np.ndarray:
    """[rows, L] how many touches of the night have the same id."""
    real_BL = np.arange(id_BL.shape[1]) < num_touches_B[:, None]
    return np.where(real_BL, np.bincount(id_BL[real_BL], minlength=1)[id_BL], 0).astype(np.int32)


def _matches(
    columns: dict[str, np.ndarray], content: np.ndarray, upload: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Each upload's best touch by cosine, where it is among the closest 30 % of all pairs (pairs/match); the negatives
    are the clusters of touches drawn from all journeys."""
    has = columns["outcome"] > 0
    real = np.arange(content.shape[1]) < columns["num_touches"][:, None]
    norms = np.linalg.norm(content, axis=2) * np.linalg.norm(upload, axis=1)[:, None]
    cosine = np.where(real, np.einsum("ble,be->bl", content, upload) / np.maximum(norms, 1e-30), -2.0)
    threshold = np.quantile(cosine[has][real[has]], PAIRS.match_quantile) if has.any() else 1.0
    newest_best = cosine.shape[1] - 1 - np.argmax(cosine[:, ::-1], axis=1)
    score = cosine[np.arange(len(has)), newest_best]
    matched = has & (score >= threshold)
    served = columns["cluster_index"][real]
    drawn = np.random.default_rng(seed).integers(0, len(served), (len(has), PAIRS.num_hard_negatives))
    return {
        "match_position": np.where(matched, newest_best, -1),
        "match_score": np.where(matched, score, 0).astype(np.float32),
        "has_upload_embedding": has.astype(np.int32),
        "upload_embedding": np.where(has[:, None], upload, 0).astype(np.float32),
        "negative_cluster_index": np.where(matched[:, None], served[drawn], -1),
    }


@dataclass(frozen=True)
class Fit:
    model: torch.nn.Module
    seconds: float
    losses: list[float]


def fit(
    night: Night,
    variant: str,
    conf: ModelConfig,
    training: TrainingConfig,
    seed: int = 0,
    plan: EnsembleConfig = SINGLE,
) -> Fit:
    """AdamW, OneCycle, clipping, and the exponential moving average of the second half; plan: of an ensemble."""
    model = ensemble.build(variant, night.spec, conf, plan, seed)
    num_members = model.plan.members if isinstance(model, Ensemble) else None
    model.reset_parameters(torch.Generator().manual_seed(seed))
    rates = {"dense": training.dense_lr, "sparse": training.sparse_lr, "leak": training.leak_lr}
    groups = [
        {"params": p, "max_lr": rates[k], "weight_decay": 0.0 if k == "leak" else training.weight_decay}
        for k, p in model.parameter_groups().items()
        if p
    ]
    optimiser = torch.optim.AdamW([{k: v for k, v in g.items() if k != "max_lr"} for g in groups], lr=1e-3, fused=True)
    rows = night.spec.num_training
    steps = training.epochs * (rows // training.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [g["max_lr"] for g in groups], total_steps=steps)
    everything = Batch.from_columns(night.columns, night.spec)
    average = [p.detach().clone() for p in model.parameters()]
    generator = torch.Generator().manual_seed(seed)
    began, step, history = time.perf_counter(), 0, []
    model.train()
    for _ in range(training.epochs):
        order = torch.randperm(rows, generator=generator)
        for start in range(0, rows - training.batch_size + 1, training.batch_size):
            batch = take(everything, order[start : start + training.batch_size])
            loss = model(batch, progress=step / steps)["loss"]
            optimiser.zero_grad()
            (loss * (num_members or 1)).backward()
            clip_gradients(list(model.parameters()), training.clip_norm, num_members)
            optimiser.step()
            schedule.step()
            step += 1
            _update_average(average, model, step, steps, training.ema_decay)
            model.project()
            history.append(float(loss.detach()))
    with torch.no_grad():
        for target, value in zip(model.parameters(), average, strict=True):
            target.copy_(value)
    model.eval()
    return Fit(model, time.perf_counter() - began, history)


@torch.no_grad()
def _update_average(average: list[torch.Tensor], model: torch.nn.Module, step: int, steps: int, decay: float) -> None:
    parameters = [p.detach() for p in model.parameters()]
    if step <= steps // 2:
        if step == steps // 2:
            torch._foreach_copy_(average, parameters)
        return
    torch._foreach_lerp_(average, parameters, 1 - decay)


def take(batch: Batch, index: torch.Tensor) -> Batch:
    """Rows of a batch."""
    values = {k: None if v is None else v[index] for k, v in vars(batch).items()}
    return replace(batch, **values)


@dataclass(frozen=True)
class Scores:
    within_journey_spearman: float
    relative_rmse: float
    magnitude_ratio: float

    def __str__(self) -> str:
        return f"ws {self.within_journey_spearman:.3f}  rmse {self.relative_rmse:.3f}  ratio {self.magnitude_ratio:.3f}"


def estimated_effects(model: torch.nn.Module, night: Night, rows_per_batch: int = 4096) -> np.ndarray:
    """[rows, L] removal effects of every journey of the night."""
    return effects_and_chances(model, night.columns, night.spec, rows_per_batch)[0]


def effects_and_chances(
    model: torch.nn.Module, columns: dict[str, np.ndarray], spec: ExampleSpec, rows_per_batch: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """[rows, L] removal effects, and the chance of an outcome without each touch."""
    everything = Batch.from_columns(columns, spec)
    parts = [model.effects(take(everything, i)) for i in torch.arange(everything.size).split(rows_per_batch)]
    return tuple(torch.cat([getattr(e, n) for e in parts]).numpy() for n in ("removal_effect_BL", "p_deleted_BL"))


def members_effects(
    model: Ensemble, night: Night, rows_per_batch: int = 4096
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[rows, L] effects by the fits that did not see the journey, [members, rows, L] by each, [rows] p_outcome."""
    everything = Batch.from_columns(night.columns, night.spec)
    found = [
        model.effects(take(everything, index), seen=True)
        for index in torch.arange(night.spec.num_training).split(rows_per_batch)
    ]
    chance = torch.cat([e.p_outcome_B for e in found])
    return (
        torch.cat([e.removal_effect_BL for e in found]).numpy(),
        torch.cat([e.member_MBL for e in found], 1).numpy(),
        chance.numpy(),
    )


def score(estimate: np.ndarray, night: Night) -> Scores:
    """METHOD section 6, against ETT."""
    mask = np.arange(estimate.shape[1]) < night.columns["num_touches"][:, None]
    guess, true = estimate[mask], night.effects[mask]
    return Scores(
        within_journey_spearman(estimate, night.effects, night.columns["num_touches"]),
        float(np.sqrt(((guess - true) ** 2).mean() / (true**2).mean())),
        float(guess.sum() / true.sum()),
    )


def within_journey_spearman(estimate: np.ndarray, true: np.ndarray, num_touches: np.ndarray) -> float:
    """Mean rank correlation over journeys of two touches or more whose true effects are not all equal."""
    values = []
    for length in np.unique(num_touches[num_touches >= 2]):
        rows = num_touches == length
        a, b = (rankdata(v[rows, :length], axis=1) for v in (estimate, true))
        a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
        kept = (b**2).sum(1) > 0
        norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        values.append(np.divide((a * b).sum(1), norm, out=np.zeros(len(a)), where=norm > 0)[kept])
    return float(np.concatenate(values).mean())
