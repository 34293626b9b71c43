"""Small files and folders on any Hadoop URL: what publishing needs beside Spark's own readers and writers.

Local paths go through the operating system, because Hadoop's local file system keeps checksum files that a kill
between two renames would leave inconsistent; everything else goes through Hadoop's FileSystem.
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from fsspec.core import url_to_fs
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

Spark = SparkSession | None
"""None does for local paths."""
OBJECT_STORES = ("s3", "s3a", "gs", "abfs", "abfss", "wasbs", "oss", "cosn", "memory")


def join(root: str, *parts: str) -> str:
    """Names of folders and a file below a root, one slash between two. ValueError: one that could lead out of it."""
    for part in parts:
        if part in ("", ".", "..") or any(c in part for c in "/\\\0"):
            raise ValueError(f"{part!r} must be the name of one file or folder below {root}, not a path: correct it")
    return "/".join([root.rstrip("/"), *parts])


def local_path(url: str) -> Path | None:
    """The path of a local URL or plain path, None for a remote one."""
    parsed = urlparse(url)
    return Path(parsed.path if parsed.scheme == "file" else url) if parsed.scheme in ("", "file") else None


def qualified(spark: Spark, url: str) -> str:
    """The URL with its scheme and from its root: Spark's catalog takes what is relative for a place of its own."""
    system, target = _hadoop(spark, url)
    return str(target.makeQualified(system.getUri(), system.getWorkingDirectory()).toString())


def read_text(spark: Spark, url: str) -> str | None:
    """The file's text; None where it does not exist."""
    found = read_bytes(spark, url)
    return None if found is None else found.decode()


def write_text(spark: Spark, url: str, text: str) -> None:
    """Replaces the file in one atomic step, as write_bytes does."""
    write_bytes(spark, url, text.encode())


def read_bytes(spark: Spark, url: str) -> bytes | None:
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


def write_bytes(spark: Spark, url: str, content: bytes) -> None:
    """Replaces the file in one atomic step: rename on file systems, a single put on object stores."""
    path = local_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(_beside(str(path)))
        _write_through(beside, content)
        os.replace(beside, path)
        return
    if urlparse(url).scheme in OBJECT_STORES:
        _write_hadoop(spark, url, content)
        return
    beside_url = _beside(url)
    _write_hadoop(spark, beside_url, content)
    _rename_hadoop(spark, beside_url, url, "OVERWRITE")


def put_new(spark: Spark, url: str, content: bytes) -> bool:
    """Creates the file with all its content in one atomic step; False, and nothing written, where it already exists.

    Of several writers exactly one gets True: a hard link on local disks, a rename that does not overwrite on HDFS, a
    conditional put (If-None-Match or the store's own) through fsspec on object stores.
    """
    path = local_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(_beside(str(path)))
        try:
            _write_through(beside, content)
            os.link(beside, path)
            return True
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
    if urlparse(url).scheme in OBJECT_STORES:
        filesystem, target = url_to_fs(url)
        try:
            filesystem.pipe_file(target, content, mode="create")
            return True
        except FileExistsError:
            return False
    beside_url = _beside(url)
    _write_hadoop(spark, beside_url, content)
    try:
        _rename_hadoop(spark, beside_url, url, "NONE")
        return True
    except Py4JJavaError as error:
        delete(spark, beside_url)
        if "FileAlreadyExistsException" in str(error.java_exception):
            return False
        raise


def _rename_hadoop(spark: Spark, source: str, target: str, how: str) -> None:
    """One atomic rename of a file; how: OVERWRITE, or NONE to fail where the target exists."""
    jvm = _jvm(spark)
    rename = jvm.org.apache.hadoop.fs.Options.Rename
    assert spark is not None
    options = spark.sparkContext._gateway.new_array(rename, 1)  # type: ignore[union-attr]
    options[0] = getattr(rename, how)
    to = jvm.org.apache.hadoop.fs.Path(target)
    context = jvm.org.apache.hadoop.fs.FileContext.getFileContext(to.toUri(), _hadoop_conf(spark))
    context.rename(jvm.org.apache.hadoop.fs.Path(source), to, options)


def names(spark: Spark, url: str) -> list[str]:
    """Names in a folder, sorted; empty where it does not exist."""
    path = local_path(url)
    if path is not None:
        return sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    fs, target = _hadoop(spark, url)
    return sorted(s.getPath().getName() for s in fs.listStatus(target)) if fs.exists(target) else []


def files(spark: Spark, url: str) -> list[tuple[str, int, int]]:
    """(name, bytes, milliseconds since 1970 of its last change) of the files in a folder, sorted; empty without one."""
    path = local_path(url)
    if path is not None:
        found = [(p.name, p.stat()) for p in path.iterdir() if p.is_file()] if path.is_dir() else []
        return sorted((name, stat.st_size, stat.st_mtime_ns // 1_000_000) for name, stat in found)
    fs, target = _hadoop(spark, url)
    there = [s for s in fs.listStatus(target) if s.isFile()] if fs.exists(target) else []
    return sorted((s.getPath().getName(), int(s.getLen()), int(s.getModificationTime())) for s in there)


def files_below(spark: Spark, url: str) -> list[tuple[str, int, int]]:
    """What `files` says of those in a folder and in its sub-folders, hidden ones (`_x`, `.x`) left out as Spark does;
    names with the sub-folder, `hour=00/a.parquet`."""
    found = files(spark, url)
    for name in sub_folders(spark, url):
        found += [(f"{name}/{file}", size, at) for file, size, at in files_below(spark, join(url, name))]
    return sorted(found)


def sub_folders(spark: Spark, url: str) -> list[str]:
    """Names of the folders in a folder, hidden ones left out, sorted."""
    path = local_path(url)
    if path is not None:
        found = [p.name for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
    else:
        fs, target = _hadoop(spark, url)
        there = fs.listStatus(target) if fs.exists(target) else []
        found = [str(s.getPath().getName()) for s in there if s.isDirectory()]
    return sorted(name for name in found if name[0] not in "_.")


def delete(spark: Spark, url: str) -> None:
    """Removes a file, or a folder and all in it; nothing happens where it does not exist."""
    path = local_path(url)
    if path is not None and path.is_file():
        path.unlink(missing_ok=True)
        return
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        return
    fs, target = _hadoop(spark, url)
    fs.delete(target, True)


def free_bytes(url: str) -> int | None:
    """Bytes that are free on the disk of a local file, be it there or not; None of a remote one."""
    path = local_path(url)
    there = path and next((p for p in (path, *path.parents) if p.exists()), None)
    return shutil.disk_usage(there).free if there else None


def move(spark: Spark, source: str, target: str) -> None:
    """Renames a folder; the target must not exist."""
    path, to = local_path(source), local_path(target)
    if path is not None and to is not None:
        path.rename(to)
        return
    fs, old = _hadoop(spark, source)
    if not fs.rename(old, _jvm(spark).org.apache.hadoop.fs.Path(target)):
        raise OSError(f"could not rename {source} to {target}")


def _beside(url: str) -> str:
    """A hidden name in the same folder, nobody else's."""
    folder, _, name = url.rpartition("/")
    return f"{folder}/.{name}.{uuid.uuid4().hex[:12]}"


def _write_through(path: Path, content: bytes) -> None:
    """OSError that names the file, of which nothing is left, where it cannot be written: the disk is full, say."""
    try:
        with path.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_hadoop(spark: Spark, url: str, content: bytes) -> None:
    fs, target = _hadoop(spark, url)
    stream = fs.create(target, True)
    stream.write(bytearray(content))
    stream.close()


def _jvm(spark: Spark) -> Any:
    assert spark is not None, "a remote URL needs a Spark session"
    return spark.sparkContext._jvm


def _hadoop_conf(spark: Spark) -> Any:
    assert spark is not None
    return spark.sparkContext._jsc.hadoopConfiguration()


def _hadoop(spark: Spark, url: str) -> tuple[Any, Any]:
    target = _jvm(spark).org.apache.hadoop.fs.Path(url)
    return target.getFileSystem(_hadoop_conf(spark)), target
