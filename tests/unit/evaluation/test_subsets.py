"""Members held against all of them together, by pandas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from almmta_spark.config import EnsembleConfig
from almmta_spark.evaluation import diagnostics, subsets
from tests.unit.evaluation.night import PLAN


def test_the_member_that_departs_most_counts(small_night):
    found = subsets.agreement(small_night.inputs.attribution, "latent", PLAN)
    touches = small_night.touches
    members = np.array(touches.members.tolist())
    totals = members.sum(0)
    assert found.total == pytest.approx(abs(totals / totals.mean() - 1).max(), abs=1e-6)
    means = touches.assign(**{f"m{i}": m for i, m in enumerate(members.T)}).groupby("cluster").mean(numeric_only=True)
    means = means[[f"m{i}" for i in range(PLAN.members)]].to_numpy()
    lowest = min(spearmanr(member, means.mean(1)).statistic for member in means.T)
    assert found.ranking == pytest.approx(lowest) and lowest < 1
    assert found.ranking_by_chance == pytest.approx(PLAN.members**-0.5)


def test_methods_without_an_ensemble_have_none(small_night):
    attribution = small_night.inputs.attribution
    assert subsets.agreement(attribution, "linear", PLAN) is None
    assert subsets.agreement(attribution, "latent", EnsembleConfig(folds=2, repeats=2)) is None


def test_fits_that_disagree_warn_and_fits_that_contradict_each_other_fail_by_size_and_by_order():
    def verdicts(found: subsets.Subsets) -> dict[str, str]:
        return {check.name: check.verdict for check in diagnostics.subset_checks(found)}

    names = ("random_subset_total/m", "random_subset_ranking/m")
    assert verdicts(subsets.Subsets("m", 0.05, 0.98, 0.3)) == dict.fromkeys(names, "pass")
    assert verdicts(subsets.Subsets("m", 0.5, 0.5, 0.3)) == dict.fromkeys(names, "warn")
    assert verdicts(subsets.Subsets("m", 1.2, 0.2, 0.3)) == dict.fromkeys(names, "fail")


def test_members_with_nothing_in_common_agree_with_their_mean_by_chance_alone():
    rng = np.random.default_rng(0)
    members = rng.normal(size=(400, 10, 40))
    found = [spearmanr(member[0], member.mean(0)).statistic for member in members]
    assert np.mean(found) == pytest.approx(10**-0.5, abs=0.03)
