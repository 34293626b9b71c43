"""Small files and folders on any Hadoop URL: what publishing needs beside Spark's own readers and writers.

Local paths go through the operating system, because Hadoop's local file system keeps checksum files that a kill
between two renames would leave inconsistent; everything else goes through Hadoop's FileSystem.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pyspark.sql import SparkSession

OBJECT_STORES = ("s3", "s3a", "gs", "abfs", "abfss", "wasbs", "oss", "cosn")


def join(root: str, *parts: str) -> str:
    return "/".join([root.rstrip("/"), *parts])


def local_path(url: str) -> Path | None:
    """The path of a local URL or plain path, None for a remote one."""
    parsed = urlparse(url)
    return Path(parsed.path if parsed.scheme == "file" else url) if parsed.scheme in ("", "file") else None


def read_text(spark: SparkSession, url: str) -> str | None:
    """The file's text; None where it does not exist."""
    found = read_bytes(spark, url)
    return None if found is None else found.decode()


def write_text(spark: SparkSession, url: str, text: str) -> None:
    """Replaces the file in one atomic step, as write_bytes does."""
    write_bytes(spark, url, text.encode())


def read_bytes(spark: SparkSession, url: str) -> bytes | None:
    """A small file's content; None where it does not exist."""
    path = local_path(url)
    if path is not None:
        return path.read_bytes() if path.is_file() else None
    fs, target = _hadoop(spark, url)
    if not fs.exists(target):
        return None
    stream = fs.open(target)
    try:
        return bytes(_jvm(spark).org.apache.commons.io.IOUtils.toByteArray(stream))
    finally:
        stream.close()


def write_bytes(spark: SparkSession, url: str, content: bytes) -> None:
    """Replaces the file in one atomic step: rename on file systems, a single put on object stores."""
    path = local_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with beside.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, path)
        return
    fs, target = _hadoop(spark, url)
    jvm = _jvm(spark)
    direct = urlparse(url).scheme in OBJECT_STORES
    beside_url = url if direct else f"{url}.{os.getpid()}"
    stream = fs.create(jvm.org.apache.hadoop.fs.Path(beside_url), True)
    stream.write(bytearray(content))
    stream.close()
    if not direct:
        rename = jvm.org.apache.hadoop.fs.Options.Rename
        options = spark.sparkContext._gateway.new_array(rename, 1)  # type: ignore[union-attr]
        options[0] = rename.OVERWRITE
        context = jvm.org.apache.hadoop.fs.FileContext.getFileContext(target.toUri(), _hadoop_conf(spark))
        context.rename(jvm.org.apache.hadoop.fs.Path(beside_url), target, options)


def names(spark: SparkSession, url: str) -> list[str]:
    """Names in a folder, sorted; empty where it does not exist."""
    path = local_path(url)
    if path is not None:
        return sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    fs, target = _hadoop(spark, url)
    return sorted(s.getPath().getName() for s in fs.listStatus(target)) if fs.exists(target) else []


def sizes(spark: SparkSession, url: str) -> list[tuple[str, int]]:
    """(name, bytes) of the files in a folder, sorted; empty where it does not exist."""
    path = local_path(url)
    if path is not None:
        return sorted((p.name, p.stat().st_size) for p in path.iterdir() if p.is_file()) if path.is_dir() else []
    fs, target = _hadoop(spark, url)
    files = [s for s in fs.listStatus(target) if s.isFile()] if fs.exists(target) else []
    return sorted((s.getPath().getName(), int(s.getLen())) for s in files)


def delete(spark: SparkSession, url: str) -> None:
    """Removes a folder and all in it; nothing happens where it does not exist."""
    path = local_path(url)
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        return
    fs, target = _hadoop(spark, url)
    fs.delete(target, True)


def move(spark: SparkSession, source: str, target: str) -> None:
    """Renames a folder; the target must not exist."""
    path, to = local_path(source), local_path(target)
    if path is not None and to is not None:
        path.rename(to)
        return
    fs, old = _hadoop(spark, source)
    if not fs.rename(old, _jvm(spark).org.apache.hadoop.fs.Path(target)):
        raise OSError(f"could not rename {source} to {target}")


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


def _hadoop_conf(spark: SparkSession) -> Any:
    return spark.sparkContext._jsc.hadoopConfiguration()


def _hadoop(spark: SparkSession, url: str) -> tuple[Any, Any]:
    target = _jvm(spark).org.apache.hadoop.fs.Path(url)
    return target.getFileSystem(_hadoop_conf(spark)), target
