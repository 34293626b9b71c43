"""Roll-ups against pandas, equal to the last bit under any order of rows."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import Config, EnsembleConfig, TrainingConfig
from almmta_spark.evaluation import stage
from tests.unit.evaluation.night import PLAN, half_width

CONF = Config(training=TrainingConfig(ensemble=PLAN))


def test_rollups_are_pandas_sums_in_the_declared_schema(small_night):
    attribution = small_night.inputs.attribution
    local = attribution.toPandas()
    local["realised_share"] = local.attribution_share * local.outcome
    for table, rows in stage.rollups(attribution, CONF):
        key = table.key[0]
        found = rows.toPandas().sort_values([key, "method"]).reset_index(drop=True)
        assert list(found.columns) == list(table.column_names)
        groups = local.groupby([key, "method"])
        sums = groups[["removal_effect", "credit", "realised_share", "outcome"]].sum().reset_index(drop=True)
        assert found.exposures.tolist() == groups.size().tolist()
        assert found.users.tolist() == groups.user_id.nunique().tolist()
        assert found.outcomes.tolist() == sums.outcome.tolist()
        for name, column in [
            ("removal_effect_sum", sums.removal_effect),
            ("credit_sum", sums.credit),
            ("attribution_share_sum", sums.realised_share),
            ("removal_effect_mean", sums.removal_effect / found.exposures),
            ("efficiency", sums.removal_effect / found.exposures),
        ]:
            np.testing.assert_allclose(found[name], column, atol=1e-9)
        assert (found.efficiency_lower.isna() == (found.method != "latent")).all()


def test_intervals_of_groups_come_from_the_members_sums(small_night):
    """Not from the touches' intervals: errors that a group's touches share do not average out."""
    found = dict(stage.rollups(small_night.inputs.attribution, CONF))[tables.ATTRIBUTION_BY_AUTHOR].toPandas()
    of_latent = found[found.method == "latent"].set_index("author_id")
    touches = small_night.touches.assign(author_id=7 + small_night.touches.cluster % 2)
    for author, rows in touches.groupby("author_id"):
        members = np.array(rows.members.tolist())
        row = of_latent.loc[author]
        for name, per_touch in (("removal_effect_sum", members), ("credit_sum", members.clip(min=0))):
            half = half_width(per_touch.sum(0), row[name], rows.chance.sum())
            assert row[f"{name}_lower"] == pytest.approx(row[name] - half, abs=1e-6)
            assert row[f"{name}_upper"] == pytest.approx(row[name] + half, abs=1e-6)
        centre = row.removal_effect_sum
        half = half_width(members.sum(0), centre, rows.chance.sum()) / len(rows)
        for name in ("removal_effect_mean", "efficiency"):
            assert row[f"{name}_upper"] - row[name] == pytest.approx(half, abs=1e-8)
            assert row[name] - row[f"{name}_lower"] == pytest.approx(half, abs=1e-8)


def test_effects_of_another_number_of_fits_than_conf_says_are_refused(small_night):
    other = Config(training=TrainingConfig(ensemble=EnsembleConfig(folds=2, repeats=2)))
    with pytest.raises(Exception, match=r"must hold 4 effects a touch .training\.ensemble., got 6"):
        dict(stage.rollups(small_night.inputs.attribution, other))[tables.ATTRIBUTION_BY_CLUSTER].collect()


@pytest.mark.parametrize("table", [tables.ATTRIBUTION_BY_AUTHOR], ids=lambda t: t.name)
def test_rollups_do_not_depend_on_the_order_of_rows(small_night, table):
    attribution = small_night.inputs.attribution
    shuffled = attribution.repartition(5, F.xxhash64("touch_id")).sortWithinPartitions(F.xxhash64("touch_id"))
    first, second = (
        sorted(map(tuple, dict(stage.rollups(a, CONF))[table].select(*table.column_names).collect()), key=str)
        for a in (attribution, shuffled)
    )
    assert first == second
