"""The share of journeys whose deletions leave the mediators seen, counted exactly."""

import numpy as np
import pandas as pd
import pytest

from almmta_spark.evaluation import diagnostics
from almmta_spark.evaluation.overlap import mediator_overlap


def test_it_is_the_fifth_percentile_of_each_models_logged_journeys(spark):
    values = np.linspace(0.2, 1.0, 801)
    rows = pd.concat(
        [
            pd.DataFrame({"method": "good", "sample": "logged", "mediator_overlap": values}),
            pd.DataFrame({"method": "bad", "sample": "logged", "mediator_overlap": values / 2}),
            pd.DataFrame({"method": "good", "sample": "randomised", "mediator_overlap": np.zeros(900)}),
            pd.DataFrame({"method": "backdoor", "sample": "logged", "mediator_overlap": [np.nan]}),
        ]
    )
    scores = spark.createDataFrame(rows).selectExpr(
        "method", "sample", "nanvl(mediator_overlap, null) as mediator_overlap"
    )
    found = mediator_overlap(scores)
    assert found == {"bad": pytest.approx(0.12, abs=2e-3), "good": pytest.approx(0.24, abs=2e-3)}
    assert mediator_overlap(scores.repartition(7)) == found
    verdicts = {c.name: c.verdict for c in diagnostics.mediator_overlap_checks(found | {"fine": 0.5})}
    assert verdicts == {
        "mediator_overlap/bad": "warn",
        "mediator_overlap/good": "pass",
        "mediator_overlap/fine": "pass",
    }
