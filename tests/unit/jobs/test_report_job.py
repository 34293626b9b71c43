"""What the report job reads of the nights before, from a real warehouse."""

import json
from dataclasses import replace

import pytest

from almmta_spark import manifest, runner, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.report.contents import Gate
from jobs import report
from tests.unit.report.nights import CHECKS, CLUSTERS, COUNTS, auuc, cluster

DS = "2026-01-15"
NOTHING = {"bigint": 0, "int": 0, "double": 0.0, "string": ""}
OF_A_NIGHT = {
    tables.AUUC_BY_BUCKET: [auuc(), auuc("backdoor")],
    tables.DIAGNOSTICS: CHECKS,
    tables.ATTRIBUTION_BY_CLUSTER: [*CLUSTERS, {**cluster(3, 0.5), "method": "backdoor"}],
}


@pytest.fixture(scope="module")
def night(spark, tmp_path_factory):
    """Three nights whose tables are all there, and one that was killed on the way."""
    conf = replace(Config(), warehouse=str(tmp_path_factory.mktemp("nights") / "warehouse"))
    nights = {day: list(OF_A_NIGHT) for day in ("2026-01-12", "2026-01-14", DS)}
    for day, written in {**nights, "2026-01-13": [tables.DIAGNOSTICS]}.items():
        for table in written:
            write(spark, conf, table, day)
    notes = {"accounting": {"users": COUNTS}, "rejection_reasons": {}}
    storage.write_text(spark, manifest.url(conf, "2026-01-12", "build_journeys"), json.dumps({"notes": notes}))
    return runner.Night(spark, conf, DS, "report")


def write(spark, conf, table, day):
    """The hand-made rows of a table, with nothing in what they leave out and may not be null."""
    empty = {c.name: None if c.nullable else NOTHING[c.type] for c in table.columns}
    rows = [tuple({**empty, **row}[name] for name in table.column_names) for row in OF_A_NIGHT[table]]
    spark_tables.write(spark.createDataFrame(rows, table.ddl), conf, table, day)


def test_the_nights_before_are_those_that_are_whole(night):
    nights = report.figures(night, "latent")
    assert [n.ds for n in nights] == ["2026-01-12", "2026-01-14", DS]
    for found in nights:
        assert sorted(found.clusters.cluster) == [3, 5, 8] and set(found.clusters.method) == {"latent"}
        assert set(found.auuc.method) == {"latent", "backdoor"} and len(found.checks) == len(CHECKS)
    assert [n.accounting for n in nights] == [{"users": COUNTS}, {}, {}]


def test_a_night_without_its_own_method_has_no_report(night):
    other = replace(night.conf, training=replace(night.conf.training, variants=("paper",)))
    with pytest.raises(ValueError, match=r"attribution_by_cluster: ds=2026-01-15 must hold .* paper, got none"):
        report.contents(replace(night, conf=other))


def test_a_night_without_a_gate_has_no_report_and_one_with_it_says_who_speaks(night):
    with pytest.raises(ValueError, match=r"ds=2026-01-15 has had no gate: run jobs/gate.py"):
        report.said_by_gate(night)
    speaks = {"ds": "2026-01-14", "model_version": "0"}
    notes = {"gate_reasons": ["It leaks."], "speaks": speaks, "champion": "2026-01-14", "no_champion": ""}
    url = manifest.url(night.place.conf, DS, "gate")
    storage.write_text(night.spark, url, json.dumps({"notes": notes}))
    assert report.said_by_gate(replace(night)) == Gate(("It leaks.",), "2026-01-14", "2026-01-14")
    storage.delete(night.spark, url)


def test_what_stages_noted_in_words_is_said():
    ingested, trained = {"unknown_signals": "x (not in conf)"}, {"nights_not_pooled": "2026-01-14 (without journeys)"}
    assert report.warnings(ingested, trained) == (
        "Unknown signals: x (not in conf).",
        "Nights not pooled: 2026-01-14 (without journeys).",
    )
    assert report.warnings({}, {}) == ()
