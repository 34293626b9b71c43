"""One thread a process, and one Spark session, for the whole test run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests import quick_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Before torch is imported. Two workers fill two cores; threads that wait for each other spin, which cost the fast tests
# twice the processor time that they need. Nor do bits then depend on the number of cores.
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a Spark session is marked spark, so that `make test-fast` can leave it out."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker("spark")


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    from pyspark.sql import SparkSession

    from almmta_spark import java_home, runner

    java_home.ensure()
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config(map=runner.SPARK_DEFAULTS)
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "3")
        .config("spark.default.parallelism", "2")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.extraJavaOptions", f"-Duser.timezone=UTC {quick_java.OPTIONS}")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    _keep_rows_in_the_jvm(session)
    yield session
    session.stop()


def _keep_rows_in_the_jvm(session: SparkSession) -> None:
    """Rows given as a list become a local relation; otherwise every scan of them would start in a Python worker."""
    create = session.createDataFrame

    def local(data: object, schema: object = None, **options: object) -> object:
        rows = create(data, schema, **options)
        return create(rows.toArrow(), rows.schema) if isinstance(data, list) and data else rows

    session.createDataFrame = local


@pytest.fixture(autouse=True)
def _clean_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cached frames and temporary views of one test never reach the next."""
    yield
    if "spark" in request.fixturenames:
        session = request.getfixturevalue("spark")
        session.catalog.clearCache()
        for table in session.catalog.listTables():
            if table.isTemporary:
                session.catalog.dropTempView(table.name)
