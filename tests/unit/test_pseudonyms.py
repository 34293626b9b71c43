"""Ids of people replaced where rows enter a night: against Python's own HMAC."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from almmta_spark import config, manifest, pseudonyms, runner, spark_tables, tables
from almmta_spark.manifest import Place
from jobs import ingest
from tests.pseudonyms import of

KEY = b"0123456789abcdef0123456789abcdef"
LARGEST = 2**63 - 1
DAY = "2026-01-15"


@pytest.mark.parametrize("key", [KEY, b"k" * 64, b"longer than a block " * 9])
def test_a_pseudonym_is_the_hmac_that_anybody_with_the_key_can_compute(spark, key):
    ids = [0, 1, -1, 153, 10**12, LARGEST, -LARGEST - 1, None]
    found = pseudonyms.applied(spark.createDataFrame([(i, i) for i in ids], "user_id bigint, item_id bigint"), key)
    assert found.dtypes == [("user_id", "bigint"), ("item_id", "bigint")]
    expected = {i: None if i is None else of(key, i) for i in ids}
    assert {row.item_id: row.user_id for row in found.collect()} == expected


def test_pseudonyms_spread_over_all_64_bits_and_no_two_of_many_are_the_same(spark):
    made = pseudonyms.applied(spark.range(100_000).withColumnRenamed("id", "user_id"), KEY)
    bits = [F.mean(F.getbit("user_id", F.lit(b))).alias(str(b)) for b in range(64)]
    found = made.agg(F.count_distinct("user_id").alias("distinct"), *bits).first().asDict()
    assert found.pop("distinct") == 100_000
    assert all(abs(share - 0.5) < 0.01 for share in found.values())  # six standard errors


def test_the_key_is_in_no_plan(spark):
    made = pseudonyms.applied(spark.range(3).withColumnRenamed("id", "user_id"), KEY)
    made.collect()
    execution = made._jdf.queryExecution()
    plans = [execution.toString(), execution.logical().toJSON(), execution.optimizedPlan().toJSON()]
    plans += [execution.executedPlan().treeString(), execution.logical().treeString()]
    for secret in (KEY, pseudonyms._pad(KEY, 0x36), pseudonyms._pad(KEY, 0x5C)):
        said = "\n".join(plans).lower()
        assert "user_id" in said
        assert secret.hex() not in said and str(list(secret))[1:20] not in said and secret.decode("latin1") not in said


def conf_of(folder, place):
    return config.from_dict({"warehouse": str(folder), "ingest": {"pseudonym_key": place}})


def test_the_key_comes_from_the_environment_or_from_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ALMMTA_KEY", KEY.decode())
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert pseudonyms.key_of(conf_of(tmp_path, "env:ALMMTA_KEY")) == KEY
    assert pseudonyms.key_of(conf_of(tmp_path, f"file:{tmp_path}/key")) == KEY
    assert pseudonyms.key_of(conf_of(tmp_path, "")) is None
    assert KEY.decode() not in str(config.to_dict(conf_of(tmp_path, "env:ALMMTA_KEY")))


@pytest.mark.parametrize("place", ["env:ALMMTA_KEY", "file:{}/key"])
def test_a_key_that_is_too_short_or_not_there_is_refused_without_being_said(tmp_path, monkeypatch, place):
    monkeypatch.delenv("ALMMTA_KEY", raising=False)
    conf = conf_of(tmp_path, place.format(tmp_path))
    with pytest.raises(ValueError, match=r"ingest.pseudonym_key: the .* must hold a key of at least 32 bytes, holds 0"):
        pseudonyms.key_of(conf)
    monkeypatch.setenv("ALMMTA_KEY", "hunter2")
    (tmp_path / "key").write_text("hunter2")
    with pytest.raises(ValueError, match="holds 7: make one with `openssl rand -hex 32`") as refused:
        pseudonyms.key_of(conf)
    assert "hunter2" not in str(refused.value)


def test_the_setting_names_a_place_and_never_the_key():
    with pytest.raises(ValueError, match=r"ingest.pseudonym_key must be env:NAME or file:PATH") as refused:
        conf_of("w", KEY.decode())
    assert KEY.decode() not in str(refused.value)


@pytest.fixture
def logs(spark, tmp_path, monkeypatch):
    """A day of exposures and a snapshot of items, and a key."""
    monkeypatch.setenv("ALMMTA_KEY", KEY.decode())
    conf = conf_of(tmp_path, "env:ALMMTA_KEY")
    rows = spark.createDataFrame([(7, 10), (8, 10)], "user_id bigint, item_id bigint")
    rows = rows.withColumn("event_ts", F.lit(f"{DAY} 10:00:00").cast("timestamp"))
    spark_tables.write_input(rows, conf, tables.EXPOSURES, DAY)
    items = spark.createDataFrame(
        [(10, 7, 1, None)], "item_id bigint, author_id bigint, cluster int, embedding array<float>"
    )
    spark_tables.write_input(items, conf, tables.ITEMS, DAY)
    return conf


def test_whatever_reads_input_sees_pseudonyms_and_an_author_is_still_the_user(spark, logs):
    exposures = spark_tables.read(spark, logs, tables.EXPOSURES, DAY).collect()
    assert {row.user_id for row in exposures} == {of(KEY, 7), of(KEY, 8)} and {row.item_id for row in exposures} == {10}
    assert spark_tables.read_day(spark, logs, tables.EXPOSURES, DAY).where(F.col("user_id") == of(KEY, 7)).count() == 1
    (item,) = spark_tables.read_snapshot(spark, logs, tables.ITEMS, DAY).collect()
    assert (item.item_id, item.author_id) == (10, of(KEY, 7))


def test_without_a_key_ids_stay_as_they_are(spark, logs):
    plain = replace(logs, ingest=replace(logs.ingest, pseudonym_key=""))
    assert {row.user_id for row in spark_tables.read(spark, plain, tables.EXPOSURES, DAY).collect()} == {7, 8}


def test_another_key_is_a_change_to_whoever_read_ids(spark, logs, monkeypatch):
    looked = {"pseudonyms": Place(spark, logs).find("pseudonyms")}
    assert manifest.changed({"looked": looked, "made": {}}, Place(spark, logs)) == []
    monkeypatch.setenv("ALMMTA_KEY", KEY.decode()[::-1])
    assert manifest.changed({"looked": looked, "made": {}}, Place(spark, logs)) == ["pseudonyms"]
    assert manifest.told(["pseudonyms"]) == "the key of the pseudonyms"
    assert not {looked["pseudonyms"]} & {KEY.decode(), KEY.hex()}


def test_simulated_truth_is_refused_at_ingest_and_by_whoever_reads_it(spark, logs):
    Path(spark_tables.folder(logs, tables.TRUTH_ATTRIBUTION, DAY)).mkdir(parents=True)
    night = runner.Night(spark, logs, DAY, "ingest")
    with pytest.raises(ValueError, match=r"table truth_attribution: ds=2026-01-15 is simulated"):
        ingest.refuse_simulated_pseudonyms(night)
    with pytest.raises(ValueError, match=r"table truth_attribution: .* without ingest.pseudonym_key"):
        night.read(tables.TRUTH_ATTRIBUTION)


def test_nights_without_a_key_do_not_ask_for_truth_at_ingest(spark, logs):
    plain = runner.Night(spark, replace(logs, ingest=replace(logs.ingest, pseudonym_key="")), DAY, "ingest")
    ingest.refuse_simulated_pseudonyms(plain)
    assert not [look for look in plain.looked if look.startswith("days")]
