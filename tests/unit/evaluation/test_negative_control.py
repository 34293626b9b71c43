"""The negative control sees an intent that the proxies know of, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from almmta_spark.evaluation import diagnostics
from almmta_spark.evaluation.negative_control import negative_controls

ROWS = 4_000


@pytest.fixture(scope="module")
def tables(spark):
    """Journeys whose intent drives g0, with the posterior means of an honest and of a leaking model."""
    rng = np.random.default_rng(0)
    intent, noise = rng.normal(size=(2, ROWS))
    acts = rng.poisson(np.exp(0.7 * intent))
    ids = np.arange(ROWS)
    journeys = pd.DataFrame({"journey_id": ids, "touches": [[0]] * ROWS, "value": acts.astype(float)})
    journeys = spark.createDataFrame(journeys).selectExpr(
        "journey_id", "touches", "array(named_struct('signal', 'search', 'value', value)) as intent_proxies"
    )
    shared = {"journey_id": ids, "sample": "logged", "mu": 0.5 * intent, "g0": intent, "slope": 1.0}
    scores = [
        pd.DataFrame(shared | {"method": "honest", "posterior_mean": 0.4 * noise}),
        pd.DataFrame(shared | {"method": "leaking", "posterior_mean": 0.4 * noise + 0.1 * np.log1p(acts)}),
        pd.DataFrame(shared | {"method": "backdoor", "posterior_mean": None}),
    ]
    scores = pd.concat(scores).astype({"posterior_mean": float})
    frame = spark.createDataFrame(scores).selectExpr("*", "nanvl(posterior_mean, null) as p").drop("posterior_mean")
    return frame.withColumnRenamed("p", "posterior_mean"), journeys


def test_a_model_whose_noise_knows_the_intent_is_told_from_one_whose_noise_does_not(tables):
    found = negative_controls(*tables)
    assert set(found) == {"honest", "leaking"}
    assert abs(found["honest"]) < 3 < 5 < found["leaking"]
    verdicts = {c.name: c.verdict for c in diagnostics.negative_control_checks(found)}
    assert verdicts == {"negative_control/honest": "pass", "negative_control/leaking": "warn"}


def test_the_order_and_the_partitions_of_the_rows_change_no_bit(tables):
    scores, journeys = tables
    assert negative_controls(scores.orderBy("g0").repartition(5), journeys) == negative_controls(scores, journeys)


def test_without_intent_proxies_nothing_is_said(tables):
    scores, journeys = tables
    silent = journeys.selectExpr("journey_id", "touches", "slice(intent_proxies, 1, 0) as intent_proxies")
    assert negative_controls(scores, silent) == {}
