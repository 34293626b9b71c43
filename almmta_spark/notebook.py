"""The night that a notebook is about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from almmta_spark import config, runner, spark_tables, tables
from almmta_spark.config import Config
from almmta_spark.storage import Spark

ROOT = Path(__file__).parents[1]


def night(conf_file: str = "conf/local.yaml", made_by: str = "make run") -> runner.Night:
    """The newest published night of a conf file, to be read. ALMMTA_CONF names another file, ALMMTA_DS another night.

    Paths in conf files are relative to the repository, so that becomes the working directory where the file is not
    found from here. made_by: the command to run first. ValueError, with it, where no night is published. Local
    warehouses are looked at before Spark is started.
    """
    chosen = os.environ.get("ALMMTA_CONF", conf_file)
    if not Path(chosen).exists():
        os.chdir(ROOT)
    conf = config.load(chosen)
    with _quiet():
        spark = runner.storage_session(conf, "notebook")
        ds = os.environ.get("ALMMTA_DS") or _newest(spark, conf, made_by)
        return runner.Night(spark or runner.session(conf, "notebook"), conf, ds)


def _newest(spark: Spark, conf: Config, made_by: str) -> str:
    days = spark_tables.input_days(spark, conf, tables.DIAGNOSTICS)
    there = [d for d in days if spark_tables.exists(spark, conf, tables.DIAGNOSTICS, d)]
    if not there:
        raise ValueError(f"no night is published in {conf.warehouse}, which this notebook reads: {made_by}")
    return there[-1]


@contextmanager
def _quiet() -> Iterator[None]:
    """What is started here inherits no stderr: Java's warnings would stand in the notebook."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
