"""A disk that is full in the middle of a write: a small tmpfs, where one may be mounted.

Spark holds on to the files that it could not close until its process ends, so that to delete them frees no space: not
even the claim can be given up, and the disk must be unmounted lazily.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from almmta_spark import manifest, night_log, runner, spark_tables, storage, tables
from almmta_spark.config import Config, PublishingConfig

DS = "2026-01-15"


def mount(*options):
    return subprocess.run(["mount", *map(str, options)], capture_output=True).returncode == 0


@pytest.fixture
def conf(tmp_path):
    """A warehouse on a disk of a megabyte; a claim that nobody gives up expires soon."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", disk):
        pytest.skip("only root may mount a tmpfs here")
    try:
        publishing = PublishingConfig(lease_seconds=5.0, wait_minutes=1.0)
        yield replace(Config(), warehouse=str(disk / "warehouse"), publishing=publishing)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def rejected(spark, number):
    """Rows of which each takes more than 30 bytes, however it is compressed."""
    ids = spark.range(0, number, 1, 2).select(F.sha2(F.col("id").cast("string"), 256).alias("row"))
    return ids.select(F.lit("exposures").alias("source"), F.lit("x").alias("reason"), "row")


def run(spark, conf, number):
    stage = lambda night: night.write(rejected(spark, number), tables.REJECTED_ROWS)  # noqa: E731
    runner.run_stage(runner.Night(spark, conf, DS, "ingest"), stage)


def test_a_full_disk_is_said_the_published_night_stays_and_a_rerun_is_right(spark, conf):
    run(spark, conf, 100)
    seen = night_log.versions(spark, conf, DS)
    where = f"file:{conf.warehouse}/rejected_rows/ds={DS}/version="
    said = rf"^no space is left on the disk of {where}\w+ \([\d,]+ bytes are free, .*run the night again"
    with pytest.raises(ValueError, match=said):
        run(spark, conf, 100_000)
    assert night_log.versions(spark, conf, DS) == seen and manifest.read(spark, conf, DS, "ingest") is None
    assert spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).count() == 100
    folders = [p.name for p in Path(spark_tables.folder(conf, tables.REJECTED_ROWS, DS)).iterdir() if p.is_dir()]
    assert folders == [f"version={seen['rejected_rows']}"], "nothing half-written is left"
    assert mount("-o", "remount,size=64m", Path(conf.warehouse).parent)
    run(spark, conf, 100_000)
    assert spark_tables.read(spark, conf, tables.REJECTED_ROWS, DS).distinct().count() == 100_000


def test_a_file_that_does_not_fit_is_named_and_nothing_of_it_is_left(conf):
    url = f"{conf.warehouse}/_manifests/ds={DS}/ingest.json"
    storage.write_text(None, url, "before")
    for write in (storage.write_bytes, storage.put_new):
        with (
            pytest.raises(ValueError, match=rf"^no space is left on the disk of {conf.warehouse}/\S+ingest\.json"),
            spark_tables.refused_by_name(),
        ):
            write(None, url, bytes(2_000_000))
    assert (
        storage.names(None, manifest.folder(conf, DS)) == ["ingest.json"] and storage.read_text(None, url) == "before"
    )
