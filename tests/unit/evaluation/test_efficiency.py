"""exposure_efficiency against the same figures by pandas, group by group."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.causal import jackknife
from almmta_spark.config import Config, EnsembleConfig, TrainingConfig
from almmta_spark.evaluation import efficiency, figures, stage
from tests.unit.evaluation.night import PLAN

CONF = Config(training=TrainingConfig(ensemble=PLAN))
KEYS = {"item": "item_id", "author": "author_id", "cluster": "cluster"}


@pytest.fixture(scope="module")
def found(small_night):
    return stage.exposure_efficiency(small_night.inputs.attribution, small_night.inputs.truth, CONF)[0]


@pytest.fixture(scope="module")
def touches(small_night):
    """The model's rows, a column an effect: by each method and member; ett where known."""
    rows = small_night.inputs.attribution.toPandas()
    wide = rows.pivot(index="touch_id", columns="method", values="removal_effect")
    keys = rows[rows.method == "latent"].set_index("touch_id")[list(KEYS.values())]
    local = small_night.touches.set_index("touch_id")
    members = pd.DataFrame(local.members.tolist(), index=local.index).add_prefix("member_")
    ett = small_night.inputs.truth.toPandas().set_index("touch_id").ett
    return wide.join(keys).join(members).join(ett).assign(exposures=1.0, known=lambda t: t.ett.notna().astype(float))


def slow_extra(groups: pd.DataFrame, score: pd.Series, column: str, share: float) -> float:
    """One group after the other until the share is given away; groups of one rounded score are mixed beforehand."""
    rounded = np.floor(np.arcsinh(score / 1e-5) * 128)
    mixed = groups.groupby(-rounded)[["exposures", column]].sum()
    left, got = share * groups.exposures.sum(), 0.0
    for exposures, total in mixed.itertuples(index=False):
        part = min(left / exposures, 1.0)
        got, left = got + part * total, left - part * exposures
    return got - share * groups[column].sum()


def scores(groups: pd.DataFrame, ranking: str) -> pd.Series:
    if ranking == "popularity":
        return groups.exposures
    if ranking == "present_policy":
        return 0.0 * groups.exposures
    return groups.ett / groups.known if ranking == "truth" else groups[ranking] / groups.exposures


def slow_pseudo_value(groups: pd.DataFrame, score: pd.Series, member: int, share: float) -> float:
    centre = slow_extra(groups, score, "latent", share)
    first = member - member % PLAN.folds
    split = [slow_extra(groups, score, f"member_{m}", share) for m in range(first, first + PLAN.folds)]
    return centre - (PLAN.folds - 1) * (split[member - first] - np.mean(split))


def test_every_ranking_has_a_row_a_level_and_share(found):
    rankings = {"latent", "last_touch", "linear", "popularity", "present_policy", "truth"}
    keys = [(r["level"], r["ranking"], r["share"]) for r in found]
    assert set(keys) == {(level, k, s) for level in KEYS for k in rankings for s in efficiency.SHARES}
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("level", list(KEYS))
def test_figures_are_those_of_one_group_after_the_other(found, touches, level):
    groups = touches.drop(columns=[k for k in KEYS.values() if k != KEYS[level]]).groupby(KEYS[level]).sum()
    total = groups.latent.sum()
    for row in (r for r in found if r["level"] == level and r["share"] in (0.05, 0.3, 0.75)):
        own = [slow_pseudo_value(groups, scores(groups, f"member_{m}"), m, row["share"]) for m in range(PLAN.members)]
        own = np.array(own)
        other = own
        if row["ranking"] != "latent":
            score = scores(groups, row["ranking"])
            other = np.array([slow_pseudo_value(groups, score, m, row["share"]) for m in range(PLAN.members)])
        for name, pseudo in (("extra_uploads", other), ("behind_model", own - other)):
            fits = pseudo.mean() - (pseudo - pseudo.mean()) / (PLAN.folds - 1)
            half = jackknife.half_width(fits, pseudo.mean(), PLAN.folds, 0.95, PLAN.shared_error)
            assert row[name] == pytest.approx(pseudo.mean(), abs=1e-5)
            assert row[f"{name}_lower"] == pytest.approx(pseudo.mean() - half, abs=1e-5)
            assert row[f"{name}_upper"] == pytest.approx(pseudo.mean() + half, abs=1e-5)
        assert row["exposures"] == pytest.approx(row["share"] * len(touches))
        assert row["uploads"] == pytest.approx(row["share"] * total + row["extra_uploads"])
        assert row["cross_fitted"]


def test_the_truth_of_a_ranking_is_that_of_the_known_touches_of_its_top(found, touches):
    groups = touches.groupby("cluster")[["exposures", "latent", "known", "ett"]].sum()
    best = groups.assign(score=groups.latent / groups.exposures).sort_values("score", ascending=False)
    first = best.iloc[0]
    (row,) = [r for r in found if (r["level"], r["ranking"], r["share"]) == ("cluster", "latent", 0.1)]
    assert first.exposures > 0.1 * len(touches)  # so that it takes them all
    expected = (first.ett / first.known - groups.ett.sum() / groups.known.sum()) * 0.1 * len(touches)
    assert row["true_extra_uploads"] == pytest.approx(expected) and row["num_groups"] == 1
    oracle = {r["share"]: r for r in found if (r["level"], r["ranking"]) == ("cluster", "truth")}
    assert all(oracle[s]["true_extra_uploads"] > -1e-9 for s in efficiency.SHARES)


def test_the_present_policy_is_where_extra_starts_from(found):
    for row in (r for r in found if r["ranking"] == "present_policy"):
        assert row["extra_uploads"] == pytest.approx(0, abs=1e-9)
        assert row["true_extra_uploads"] == pytest.approx(0, abs=1e-9)
        assert row["extra_uploads_upper"] - row["extra_uploads_lower"] == pytest.approx(0, abs=1e-9)


def test_rows_fit_the_table_and_do_not_depend_on_the_order_of_touches(spark, small_night, found):
    inputs = small_night.inputs
    shuffled = inputs.attribution.repartition(5, F.xxhash64("touch_id", "method"))
    again = stage.exposure_efficiency(shuffled, inputs.truth.repartition(3, "touch_id"), CONF)[0]
    assert again == found
    frame = stage.to_frame(spark, tables.EXPOSURE_EFFICIENCY, found)
    assert frame.count() == len(found) and frame.columns == list(tables.EXPOSURE_EFFICIENCY.column_names)


def test_without_an_ensemble_there_is_no_interval_and_it_says_so(small_night):
    single = small_night.inputs.attribution.withColumn("removal_effect_members", F.lit(None).cast("array<float>"))
    rows = efficiency.exposure_efficiency(single, None, dataclasses.replace(CONF))
    ends = [r[f"{n}_{e}"] for r in rows for n in ("extra_uploads", "behind_model") for e in ("lower", "upper")]
    assert set(ends) == {None} and not any(r["cross_fitted"] for r in rows)
    assert {r["true_extra_uploads"] for r in rows} == {None} and "truth" not in {r["ranking"] for r in rows}
    assert all(r["behind_model"] >= -1e-9 for r in rows)  # by the very figures that ranked


def test_a_night_without_rows_of_its_own_model_is_refused(small_night):
    others = small_night.inputs.attribution.where("method != 'latent'")
    with pytest.raises(ValueError, match=r"no rows of latent.*last_touch, linear.*run the attribute job"):
        efficiency.exposure_efficiency(others, None, CONF)


def test_effects_of_another_number_of_fits_have_no_interval(small_night):
    """The roll-ups refuse such a night before."""
    other = Config(training=TrainingConfig(ensemble=EnsembleConfig(folds=2, repeats=2)))
    rows = efficiency.exposure_efficiency(small_night.inputs.attribution, None, other)
    assert not any(r["cross_fitted"] for r in rows)


def test_the_figure_has_a_panel_a_level_and_a_line_a_ranking(found):
    axes = figures.exposure_efficiency(found, "latent", "title").axes
    assert [a.get_title() for a in axes] == ["by item", "by author", "by cluster"]
    for axis in axes:
        labels = [line.get_label() for line in axis.get_lines()]
        assert labels[:2] == ["latent", "latent, truth"] and {"popularity", "last_touch", "truth"} <= set(labels)
