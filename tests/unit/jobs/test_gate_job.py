"""Whether an earlier night's champion can speak for tonight. Real files, no Spark."""

import json
from dataclasses import replace

import pytest

from almmta_spark import manifest, runner, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.inference.udf import FittedModel
from almmta_spark.logs import clusters
from almmta_spark.logs.summary import IngestSummary
from almmta_spark.night_log import Claim
from jobs import gate
from tests.nights import DS
from tests.unit.inference.conftest import SPEC

BEFORE = "2026-01-12"


def candidate(spec=SPEC):
    return FittedModel("latent", "new", spec, {}, {})


@pytest.fixture
def night(tmp_path):
    return runner.Night(None, replace(Config(), warehouse=str(tmp_path / "warehouse")), DS, "gate")


def ingested(night, how):
    """The card of the night's events, which says how items came to their clusters."""
    meta = IngestSummary({}, 0, 2, how, {}, ()).to_dict()
    said = spark_tables.Published(tables.ACCEPTED_UPLOADS.name, DS, "v", 0, "", meta)
    conf = night.place.conf
    with Claim(None, conf, DS) as claim:
        url = storage.join(spark_tables.folder(conf, tables.ACCEPTED_UPLOADS, DS), "version=v.json")
        storage.write_text(None, url, json.dumps(said.__dict__))
        claim.draft[tables.ACCEPTED_UPLOADS.name] = "v"
        claim.publish()


def passed_before(night):
    """A model of an earlier night, and the manifest of the gate that let it through."""
    conf = night.place.conf
    folder = manifest.model_folder(conf, BEFORE, "latent")
    described = {"variant": "latent", "digest": "old", "spec": json.loads(SPEC.to_json())}
    storage.write_text(None, storage.join(folder, "model.json"), json.dumps(described))
    storage.write_text(None, storage.join(folder, "weights.pt"), "weights")
    made = {"made": {f"passed {BEFORE} latent": "old"}}
    storage.write_text(None, manifest.url(conf, BEFORE, "gate"), json.dumps(made))


def test_a_first_night_has_no_champion(night):
    assert gate.find_champion(night, candidate()) == (None, "no earlier night has passed")


def test_an_earlier_model_that_knows_what_tonight_has_can_speak(night):
    passed_before(night)
    ingested(night, clusters.GIVEN)
    (ds, model), why = gate.find_champion(night, candidate(replace(SPEC, base_rate=0.5)))
    assert (ds, model.version, model.variant, why) == (BEFORE, "old", "latent", "")


def test_one_that_does_not_know_tonights_clusters_cannot(night):
    passed_before(night)
    ingested(night, clusters.NEAREST)
    found = gate.find_champion(night, candidate(replace(SPEC, clusters=(*SPEC.clusters, 41))))
    assert found == (None, f"that of {BEFORE} cannot speak for tonight, since it does not know cluster 41")


def test_clusters_that_are_fitted_anew_are_other_clusters_under_the_same_numbers(night):
    passed_before(night)
    ingested(night, clusters.FITTED)
    found, why = gate.find_champion(night, candidate())
    assert found is None and why.startswith("clusters are fitted anew each night")
