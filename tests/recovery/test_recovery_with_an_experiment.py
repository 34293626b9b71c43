"""World `direct`, whose touches also act beside the mediator: an experiment that is large enough corrects effects.

A night of 20,000 users trained in memory, its experiment among further users of the same world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from almmta_spark.causal import calibration
from almmta_spark.config import ModelConfig, TrainingConfig
from almmta_spark.evaluation import bootstrap, withholding
from tests.recovery import harness

pytestmark = pytest.mark.long

NUM_USERS, SEED = 20_000, 1
WEIGHTS = bootstrap.poisson_weights(0, 200)


@dataclass(frozen=True)
class Fitted:
    night: harness.Night
    model: torch.nn.Module
    effect_BL: np.ndarray
    p_deleted_BL: np.ndarray
    experiment: harness.Decisions
    effect_N: np.ndarray
    p_deleted_N: np.ndarray
    """Of the decisions' touches, where they were kept."""


@pytest.fixture(scope="module")
def direct() -> Fitted:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    night = harness.simulate("direct", NUM_USERS, SEED)
    model = harness.fit(night, "latent", ModelConfig(), TrainingConfig()).model
    experiment = harness.decisions("direct", night, 300_000, SEED)
    found = harness.effects_and_chances(model, experiment.columns, experiment.spec)
    at = (np.maximum(experiment.row, 0), np.minimum(np.maximum(experiment.position, 0), found[0].shape[1] - 1))
    of_night = harness.effects_and_chances(model, night.columns, night.spec)
    torch.set_num_threads(before)
    return Fitted(night, model, *of_night, experiment, *(values[at] for values in found))


def calibrated(fitted: Fitted, num_decisions: int) -> tuple[withholding.Comparison, np.ndarray]:
    """What the first num_decisions say, and the night's effects corrected by them, whether they call for it or not."""
    mask = np.arange(fitted.effect_BL.shape[1]) < fitted.night.columns["num_touches"][:, None]
    age = fitted.night.columns["age_hours"][:, : mask.shape[1]]
    cluster = fitted.night.columns["cluster_index"][:, : mask.shape[1]]
    hour = age[mask].astype(int)
    chance = fitted.p_deleted_BL * (1 - fitted.p_deleted_BL)
    sums = (np.bincount(hour, np.abs(values[mask])) for values in (fitted.effect_BL, chance))
    fade = calibration.fade_per_hour(*sums, np.arange(hour.max() + 1) + 0.5)
    measured, predicted = _sums(fitted, num_decisions, fade)
    totals = [np.einsum("rn,nk->rk", WEIGHTS.astype(float), values.sum(axis=1)) for values in (measured, predicted)]
    kept, withheld = (totals[0][:, i] / totals[0][:, i + 1] for i in (0, 2))
    effect = totals[1][:, 1] / totals[1][:, 0]
    compared = withholding.comparison(effect, kept - withheld - effect, 0.95, num_decisions)
    pooled = calibration.from_cells(measured, predicted, WEIGHTS)
    added = pooled.mean_C[cluster] * chance * np.exp(-fade * age)
    return compared, (fitted.effect_BL + np.minimum(added, fitted.p_deleted_BL)) * mask


def _sums(fitted: Fitted, num_decisions: int, fade: float) -> tuple[np.ndarray, np.ndarray]:
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
            weighted = (values * of.num_touches / 0.5)[:num_decisions]
            np.add.at(sums[..., i], (cell[:num_decisions], of.cluster[:num_decisions]), weighted)
        found.append(sums)
    return found[0], found[1]


def test_a_large_experiment_sees_the_direct_path_and_moves_effects_toward_the_truth(direct):
    compared, effects = calibrated(direct, 250_000)
    before, after = (harness.score(values, direct.night) for values in (direct.effect_BL, effects))
    print(f"before {before}  after {after}  {compared}")
    assert compared.calls_for_correction and compared.decisions_needed < compared.decisions, compared
    assert after.relative_rmse <= before.relative_rmse - 0.15, (before, after)
    assert after.within_journey_spearman >= before.within_journey_spearman, (before, after)
    assert abs(after.magnitude_ratio - 1) <= abs(before.magnitude_ratio - 1) / 2, (before, after)


def test_with_few_decisions_it_says_how_many_are_needed_and_corrects_nothing(direct):
    compared, _ = calibrated(direct, 5_000)
    print(compared)
    assert not compared.calls_for_correction
    assert compared.decisions_needed > 2 * compared.decisions
