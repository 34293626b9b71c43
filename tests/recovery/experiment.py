"""World `direct` in memory: effects of one fit, corrected by experiments of any size among further users.

python -m tests.recovery.experiment [WORLD] [SEED ...]   the table of README, "With an experiment"
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch

from almmta_spark.causal import calibration
from almmta_spark.config import ModelConfig, TrainingConfig
from almmta_spark.evaluation import bootstrap, withholding
from tests.recovery import harness

WEIGHTS = bootstrap.poisson_weights(0, 200)


@dataclass(frozen=True)
class Fitted:
    night: harness.Night
    effect_BL: np.ndarray
    p_deleted_BL: np.ndarray
    experiment: harness.Decisions
    effect_N: np.ndarray
    p_deleted_N: np.ndarray
    """Of the decisions' touches, where they were kept."""


def fitted(world: str, num_users: int, num_decided: int, seed: int) -> Fitted:
    """One fit of `latent`, and what it says of the night and of num_decided further users."""
    night = harness.simulate(world, num_users, seed)
    model = harness.fit(night, "latent", ModelConfig(), TrainingConfig()).model
    experiment = harness.decisions(world, night, num_decided, seed)
    found = harness.effects_and_chances(model, experiment.columns, experiment.spec)
    at = (np.maximum(experiment.row, 0), np.clip(experiment.position, 0, found[0].shape[1] - 1))
    of_night = harness.effects_and_chances(model, night.columns, night.spec)
    return Fitted(night, *of_night, experiment, *(values[at] for values in found))


def calibrated(fitted: Fitted, num_decisions: int, first: int = 0) -> tuple[withholding.Comparison, np.ndarray]:
    """What num_decisions from the first on say, and the night's effects corrected by them, called for or not."""
    mask = np.arange(fitted.effect_BL.shape[1]) < fitted.night.columns["num_touches"][:, None]
    age = fitted.night.columns["age_hours"][:, : mask.shape[1]]
    cluster = fitted.night.columns["cluster_index"][:, : mask.shape[1]]
    hour = age[mask].astype(int)
    chance = fitted.p_deleted_BL * (1 - fitted.p_deleted_BL)
    sums = (np.bincount(hour, np.abs(values[mask])) for values in (fitted.effect_BL, chance))
    fade = calibration.fade_per_hour(*sums, np.arange(hour.max() + 1) + 0.5)
    measured, predicted = _sums(fitted, slice(first, first + num_decisions), fade)
    totals = [np.einsum("rn,nk->rk", WEIGHTS.astype(float), values.sum(axis=1)) for values in (measured, predicted)]
    kept, withheld = (totals[0][:, i] / totals[0][:, i + 1] for i in (0, 2))
    effect = totals[1][:, 1] / totals[1][:, 0]
    compared = withholding.comparison(effect, kept - withheld - effect, 0.95, num_decisions)
    pooled = calibration.from_cells(measured, predicted, WEIGHTS)
    added = pooled.mean_C[cluster] * chance * np.exp(-fade * age)
    return compared, (fitted.effect_BL + np.minimum(added, fitted.p_deleted_BL)) * mask


def _sums(fitted: Fitted, taken: slice, fade: float) -> tuple[np.ndarray, np.ndarray]:
    """What calibration.from_cells takes; weights undo that one of a user's touches was drawn, and the arm."""
    of = fitted.experiment
    scale = fitted.p_deleted_N * (1 - fitted.p_deleted_N) * np.exp(-fade * of.age_hours)
    kept = (of.kept, of.kept * fitted.effect_N, of.kept * scale)
    arms = (of.kept * of.outcome, of.kept, ~of.kept * of.outcome, ~of.kept)
    cell = np.random.default_rng(0).integers(0, bootstrap.NUM_CELLS, len(of.kept))
    found = []
    for columns in (arms, kept):
        sums = np.zeros((bootstrap.NUM_CELLS, len(of.spec.clusters), len(columns)))
        for i, values in enumerate(columns):
            np.add.at(sums[..., i], (cell[taken], of.cluster[taken]), (values * of.num_touches / 0.5)[taken])
        found.append(sums)
    return found[0], found[1]


def main(world: str, seeds: list[int]) -> None:
    """A line an experiment's size: over as many disjoint experiments of it as 400,000 users hold, and over seeds."""
    torch.set_num_threads(1)
    every = [fitted(world, 60_000, 400_000, seed) for seed in seeds]
    for one in every:
        print(f"latent: {harness.score(one.effect_BL, one.night)}")
    print("decisions  sees  corrects  needed   corrected: Spearman  relative RMSE  ratio")
    for size in (12_000, 50_000, 75_000, 100_000, 200_000, 390_000):
        tried = [
            (calibrated(one, size, first), one.night)
            for one in every
            for first in range(0, len(one.experiment.kept) - size + 1, size)
        ]
        found = [(c, harness.score(effects, night)) for (c, effects), night in tried]
        sees, called = (np.mean([getattr(c, n) > 0 for c, _ in found]) for n in ("distance", "calls_for_correction"))
        needed = np.mean([c.decisions_needed for c, _ in found])
        scores = [s for c, s in found if c.calls_for_correction]
        names = ("within_journey_spearman", "relative_rmse", "magnitude_ratio")
        means = "  ".join(f"{np.mean([getattr(s, n) for s in scores]):.3f}" for n in names) if scores else "-"
        print(f"{size:>9,}  {sees:.2f}  {called:.2f}  {needed:>9,.0f}  {means}  ({len(found)} experiments)", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "direct", [int(s) for s in sys.argv[2:]] or [0])
