"""The ingest job on a night with an experiment, and what of it evaluation takes for decisions and outcomes."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from almmta_spark import runner, spark_tables, tables
from almmta_spark.config import Config, IngestConfig, PropensityConfig
from jobs import evaluate, experiment, ingest
from tests.hand_made import DAY_BEFORE, DS, after, before, frame

NAN = float("nan")
INPUTS = {
    (tables.EXPOSURES, DAY_BEFORE): [(1, 10, before(3)), (2, 20, before(3)), (3, 20, before(3))],
    (tables.SIGNALS, DAY_BEFORE): [],
    (tables.WITHHOLDINGS, DAY_BEFORE): [
        (1, 10, before(3), False, None),
        (2, 10, before(4), True, 0.25),
        (2, 10, before(4), True, 0.25),
        (3, 10, before(5), True, None),
        (3, 10, before(5), False, None),
        (3, 20, before(5), True, 1.0),
        (999, 20, before(5), True, None),
    ],
    (tables.UPLOADS, DS): [(1, 7, after(1), [1.0, 0.0]), (2, 8, after(1), [NAN, 0.0]), (3, 9, after(1), [0.0, 0.0])],
    (tables.ITEMS, DS): [(10, 100, None, [1.0, 0.0]), (20, 100, None, [0.0, 1.0])],
    (tables.USERS, DAY_BEFORE): [(1, [0.5]), (2, [1.5]), (3, [2.5])],
}


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    conf = replace(
        Config(),
        warehouse=str(tmp_path_factory.mktemp("experiment")),
        ingest=IngestConfig(max_rejected_rate=1.0, user_buckets=2),
        propensity=PropensityConfig(num_clusters=2),
    )
    for (table, day), rows in INPUTS.items():
        folder = Path(spark_tables.folder(conf, table, day))
        folder.mkdir(parents=True)
        pq.write_table(frame(spark, table, rows).toArrow(), folder / "rows.parquet")
    night = runner.Night(spark, conf, DS, "ingest")
    cached_before = _cached(spark)
    ingest.run(night)
    night.notes["cached"] = _cached(spark) - cached_before
    for table in (*evaluate.POOLED, tables.MATCHED_PAIRS):
        if table != tables.ACCEPTED_UPLOADS:
            spark_tables.write(spark.createDataFrame([], table.ddl), conf, table, DS)
    return night


def test_outcomes_and_decisions_of_the_experiment_are_those_that_ingest_accepted(night):
    found = evaluate.inputs(replace(night, stage="evaluate"))
    assert [(r.user_id, r.ds) for r in found.uploads.collect()] == [(1, DS)]
    assert sorted((r.user_id, r.item_id, r.withheld, r.p_withheld, r.ds) for r in found.decisions.collect()) == [
        (1, 10, False, None, DS),
        (2, 10, True, 0.25, DS),
    ]
    assert found.refused_decisions == 4


def test_ingest_leaves_nothing_in_sparks_cache(night):
    assert night.notes["clusters"] == "fitted" and not night.notes["cached"]


def test_an_experiment_of_nobody_who_is_known_corrects_nothing_and_says_what_it_had(spark, night):
    """The fixture's nights have no propensities, so no decision has a bucket."""
    of_night = replace(night, stage="attribute", notes={})
    own = spark.createDataFrame([], tables.ATTRIBUTION.ddl)
    assert experiment.correction(of_night, own, "latent", [0, 1]) is None
    said = of_night.notes["experiment"]
    assert (said["method"], said["decisions"], said["shortfall"], said["corrected"]) == ("latent", 0, None, False)


def test_a_night_without_withholdings_costs_a_look_at_its_metadata(night, monkeypatch):
    meta = dict(night.meta(tables.ACCEPTED_UPLOADS))
    accounts = {name: account for name, account in meta["accounts"].items() if name != tables.WITHHOLDINGS.name}
    of_night = replace(night, spark=None, stage="attribute", inputs={}, notes={})
    monkeypatch.setattr(runner.Night, "meta", lambda *_: meta | {"accounts": accounts})
    assert experiment.correction(of_night, None, "latent", [0, 1]) is None
    assert experiment.experiment(of_night, [DS]) is None
    assert not of_night.inputs and not of_night.notes


def _cached(spark):
    """Ids of what the session holds in its cache: other tests of the session may hold frames of their own."""
    return {int(i) for i in spark.sparkContext._jsc.getPersistentRDDs().keySet()}
