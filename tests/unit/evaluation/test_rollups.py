"""Roll-ups against pandas, equal to the last bit under any order of rows."""

import numpy as np
import pytest
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.evaluation import stage


def test_rollups_are_pandas_sums_in_the_declared_schema(small_night):
    attribution = small_night.inputs.attribution
    local = attribution.toPandas()
    local["realised_share"] = local.attribution_share * local.outcome
    for table, rows in stage.rollups(attribution):
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
        assert found.efficiency_lower.isna().all()


@pytest.mark.parametrize("table", [tables.ATTRIBUTION_BY_AUTHOR], ids=lambda t: t.name)
def test_rollups_do_not_depend_on_the_order_of_rows(small_night, table):
    attribution = small_night.inputs.attribution
    shuffled = attribution.repartition(5, F.xxhash64("touch_id")).sortWithinPartitions(F.xxhash64("touch_id"))
    first, second = (
        sorted(map(tuple, dict(stage.rollups(a))[table].select(*table.column_names).collect()), key=str)
        for a in (attribution, shuffled)
    )
    assert first == second
