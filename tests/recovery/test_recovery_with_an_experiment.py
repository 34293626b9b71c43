"""World `direct`, whose touches also act beside the mediator: an experiment that is large enough corrects effects.

A night of 20,000 users trained in memory, its experiment among further users of the same world.
"""

from __future__ import annotations

import pytest
import torch

from tests.recovery import experiment, harness

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def direct() -> experiment.Fitted:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = experiment.fitted("direct", 20_000, 300_000, seed=1)
    torch.set_num_threads(before)
    return found


def test_a_large_experiment_sees_the_direct_path_and_moves_effects_toward_the_truth(direct):
    compared, effects = experiment.calibrated(direct, 250_000)
    before, after = (harness.score(values, direct.night) for values in (direct.effect_BL, effects))
    print(f"before {before}  after {after}  {compared}")
    assert compared.calls_for_correction and compared.decisions_needed < compared.decisions, compared
    assert after.relative_rmse <= before.relative_rmse - 0.15, (before, after)
    assert after.within_journey_spearman >= before.within_journey_spearman, (before, after)
    assert abs(after.magnitude_ratio - 1) <= abs(before.magnitude_ratio - 1) / 2, (before, after)


def test_with_few_decisions_it_says_how_many_are_needed_and_corrects_nothing(direct):
    compared, _ = experiment.calibrated(direct, 5_000)
    print(compared)
    assert not compared.calls_for_correction
    assert compared.decisions_needed > 2 * compared.decisions
