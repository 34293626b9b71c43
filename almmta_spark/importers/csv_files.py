"""CSV files with a declared schema: header checked, nothing inferred, rows that do not parse kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark import storage

CORRUPT = "_corrupt_record"


def find(spark: SparkSession, folder: str, pattern: str) -> list[str]:
    """URLs of the files in a folder whose name fits the pattern, plain or gzip; at least one."""
    there = storage.names(spark, folder)
    found = [n for n in there if fnmatch(n, pattern) or fnmatch(n, f"{pattern}.gz")]
    if not found:
        raise ValueError(
            f"{folder} must hold a file {pattern} or {pattern}.gz, found {', '.join(there[:5]) or 'nothing'}: "
            "download the data set and point DATA (or ALMMTA_KUAIRAND) at its folder"
        )
    return [storage.join(folder, n) for n in found]


def read(spark: SparkSession, urls: list[str], columns: Mapping[str, str]) -> DataFrame:
    """The declared columns (name -> Spark type) and CORRUPT, the raw line of a row that does not parse.

    Lazy; a gzip file is one task, so callers that use the frame more than once cache it.
    """
    return reduce(DataFrame.unionByName, [_read_one(spark, url, columns) for url in urls])


def _read_one(spark: SparkSession, url: str, columns: Mapping[str, str]) -> DataFrame:
    first = spark.read.text(url).first()
    header = [] if first is None else first[0].removeprefix("\ufeff").strip().split(",")
    for name, kind in columns.items():
        if name not in header:
            raise ValueError(
                f"{url}: column {name} ({kind}) is missing, the header has {', '.join(header) or 'nothing'}: "
                "use the public download's files as they are"
            )
    schema = ", ".join([f"`{n}` {columns.get(n, 'string')}" for n in header] + [f"{CORRUPT} string"])
    raw = spark.read.csv(url, schema=schema, header=True, columnNameOfCorruptRecord=CORRUPT, mode="PERMISSIVE")
    return raw.select(*columns, CORRUPT)


def is_corrupt() -> F.Column:
    """A row whose line does not fit the declared types."""
    return F.col(CORRUPT).isNotNull()
