"""Tables on storage: input days checked against their schema, output nights written beside and published at once.

An input day is plain Parquet under <warehouse>/<table>/ds=D/. An output night is a folder version=V there with, once it
is verified, a card version=V.json beside it; the night's log (night_log.py) names the versions that readers see, those
of all its tables in one atomic step (DESIGN guarantee 2).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, DataFrameWriter, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from almmta_spark import night_log, pseudonyms, storage, tables
from almmta_spark.config import Config
from almmta_spark.night_log import NO_DRAFTS, Claim, Drafts
from almmta_spark.storage import Spark
from almmta_spark.tables import Table

_LOSSLESS = {("int", "bigint"), ("smallint", "bigint"), ("smallint", "int"), ("float", "double")}
_LOW_BITS = 2**28 - 1  # of a row's hash, so that a sum over 10^10 rows stays within 64 bits


@dataclass(frozen=True)
class Published:
    """The card of a version: what was verified when it was written."""

    table: str
    ds: str
    version: str
    rows: int
    checksum: str
    """Exclusive or, and a sum, of xxhash64 over rows: independent of their order."""
    meta: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what it says of the rows: equal for equal nights, whenever and wherever they were written."""
        return hashlib.sha256(json.dumps([self.rows, self.checksum, self.meta], sort_keys=True).encode()).hexdigest()


def index_ts(ds: str) -> datetime:
    """ds 00:00 UTC. ValueError unless ds is the one way to write its date, since it names folders and is compared."""
    try:
        day = datetime.strptime(ds, tables.DS_FORMAT).replace(tzinfo=UTC)
        if day.strftime(tables.DS_FORMAT) == ds:
            return day
    except ValueError:
        pass
    raise ValueError(f"a night (--ds, --from, --to) must be a date of the form YYYY-MM-DD, got {ds!r}: write it so")


def shift(ds: str, days: int) -> str:
    """The date so many days later, or earlier below 0."""
    return (index_ts(ds) + timedelta(days=days)).strftime(tables.DS_FORMAT)


def days_between(ds: str, hours_back: float, hours_ahead: float) -> list[str]:
    """UTC dates that overlap [index_ts - hours_back, index_ts + hours_ahead)."""
    start, end = index_ts(ds) - timedelta(hours=hours_back), index_ts(ds) + timedelta(hours=hours_ahead)
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return [
        d.strftime(tables.DS_FORMAT) for d in (first + timedelta(n) for n in range((end - first).days + 1)) if d < end
    ]


# ---- reading --------------------------------------------------------------------------------------------------------


def read(
    spark: SparkSession,
    conf: Config,
    table: Table,
    ds: str,
    hours_back: float = 0.0,
    hours_ahead: float = 0.0,
    drafts: Drafts = NO_DRAFTS,
) -> DataFrame:
    """An output table's published night, or an input table's days that overlap the window, with a column ds; with
    pseudonyms where conf names their key.

    drafts: versions that go before the published ones, here and below.

    Cost: the Parquet footers of one file a day to check the schema; the scan itself is lazy.
    """
    if table in tables.OUTPUTS:
        return _frame(spark, table, [path(spark, conf, table, ds, drafts)], ds)
    if table not in tables.INPUTS:
        return _read_days(spark, conf, table, [ds])
    return _read_days(spark, conf, table, window_days(table, ds, hours_back, hours_ahead))


def read_snapshot(spark: SparkSession, conf: Config, table: Table, not_after_ds: str) -> DataFrame:
    """The newest whole-table snapshot whose ds is not after the given one."""
    return _read_days(spark, conf, table, [snapshot_day(spark, conf, table, not_after_ds)])


def read_nights(
    spark: SparkSession, conf: Config, table: Table, days: Sequence[str], drafts: Drafts = NO_DRAFTS
) -> DataFrame:
    """Published nights, with a string column ds."""
    frames = [_frame(spark, table, [path(spark, conf, table, d, drafts)], d).withColumn("ds", F.lit(d)) for d in days]
    return reduce(DataFrame.unionByName, frames)


def read_day(spark: SparkSession, conf: Config, table: Table, day: str) -> DataFrame:
    """One day of an input table, or of a table the simulator writes, with a string column ds."""
    return _read_days(spark, conf, table, [day])


def input_days(spark: Spark, conf: Config, table: Table) -> list[str]:
    """Days an input table has, ascending."""
    return [n[3:] for n in storage.names(spark, folder(conf, table)) if n.startswith("ds=")]


def fingerprint(spark: Spark, conf: Config, table: Table, days: Sequence[str]) -> str:
    """SHA-256 of the names, sizes and times of an input table's files on those days, in sub-folders too; a missing day
    is not an empty one.

    Cost: a listing of the table and one of each day.
    """
    there = set(input_days(spark, conf, table))
    files = [(day, storage.files_below(spark, folder(conf, table, day)) if day in there else None) for day in days]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def window_days(table: Table, ds: str, hours_back: float, hours_ahead: float) -> list[str]:
    """Days of an input table that read() takes: the day ds itself where no window is given."""
    return days_between(ds, hours_back, hours_ahead or (0.0 if hours_back else 24.0))


def snapshot_day(spark: Spark, conf: Config, table: Table, not_after_ds: str) -> str:
    """Day of the newest snapshot whose ds is not after the given one."""
    days = [d for d in input_days(spark, conf, table) if d <= not_after_ds]
    if not days:
        raise ValueError(
            f"table {table.name}: a snapshot with ds <= {not_after_ds} is needed (later ones would tell the future), "
            f"found {input_days(spark, conf, table)[:3] or 'none'} under {folder(conf, table)}: write one"
        )
    return days[-1]


def exists(spark: Spark, conf: Config, table: Table, ds: str, drafts: Drafts = NO_DRAFTS) -> bool:
    """Whether the night (output) or the day (input) can be read."""
    if table in tables.OUTPUTS:
        return published(spark, conf, table, ds, drafts) is not None
    return ds in input_days(spark, conf, table)


def published(spark: Spark, conf: Config, table: Table, ds: str, drafts: Drafts = NO_DRAFTS) -> Published | None:
    """What was published last for the night; None where nothing was."""
    drafted = drafts.get(ds, {}).get(table.name)
    version = drafted or night_log.versions(spark, conf, ds).get(table.name)
    return None if version is None else card(spark, conf, table, ds, version)


def card(spark: Spark, conf: Config, table: Table, ds: str, version: str) -> Published | None:
    """What was verified of a version, published or not; None where it is not there or not whole."""
    text = storage.read_text(spark, f"{_version_folder(conf, table, ds, version)}.json")
    return None if text is None else Published(**json.loads(text))


def path(spark: Spark, conf: Config, table: Table, ds: str, drafts: Drafts = NO_DRAFTS) -> str:
    """Folder of the published version of a table's night."""
    return _version_folder(conf, table, ds, _found(spark, conf, table, ds, drafts).version)


def meta(spark: Spark, conf: Config, table: Table, ds: str, drafts: Drafts = NO_DRAFTS) -> Mapping[str, Any]:
    """The small facts written with a table's night."""
    return _found(spark, conf, table, ds, drafts).meta


def _found(spark: Spark, conf: Config, table: Table, ds: str, drafts: Drafts) -> Published:
    found = published(spark, conf, table, ds, drafts)
    if found is None:
        raise ValueError(
            f"table {table.name}: night ds={ds} has not been published in {conf.warehouse}: run the job that writes it"
        )
    return found


def folder(conf: Config, table: Table, ds: str | None = None) -> str:
    """Where a table is, or its night or day."""
    root = storage.join(conf.warehouse, table.name)
    return root if ds is None else storage.join(root, f"ds={ds}")


def _version_folder(conf: Config, table: Table, ds: str, version: str) -> str:
    return storage.join(folder(conf, table, ds), f"version={version}")


def refuse_missing(spark: Spark, conf: Config, table: Table, days: Sequence[str]) -> None:
    """ValueError where an input table lacks one of the days."""
    missing = sorted(set(days) - set(input_days(spark, conf, table)))
    if missing:
        raise ValueError(
            f"table {table.name}: needs ds={', '.join(missing)} under {folder(conf, table)}, there is no such folder: "
            "wait until the day is complete, or write an empty folder if it really had no rows"
        )


def _read_days(spark: SparkSession, conf: Config, table: Table, days: Sequence[str]) -> DataFrame:
    refuse_missing(spark, conf, table, days)
    key = pseudonyms.key_of(conf)
    if key and table in tables.SIMULATED and "user_id" in table.column_names:
        raise ValueError(
            f"table {table.name}: its touches are hashes of the simulator's users: run simulated nights without "
            "ingest.pseudonym_key"
        )
    frames = []
    for day in days:
        url = folder(conf, table, day)
        has_rows = any(not n.startswith(("_", ".")) for n in storage.names(spark, url))
        frame = _frame(spark, table, [url], day) if has_rows else spark.createDataFrame([], table.ddl)
        frames.append(frame.withColumn("ds", F.lit(day)))
    rows = reduce(DataFrame.unionByName, frames)
    return pseudonyms.applied(rows, key) if key else rows


def _frame(spark: SparkSession, table: Table, urls: list[str], ds: str) -> DataFrame:
    """Spark takes the schema of one file for all: a column that others lack is null there, and one that others have in
    another type is refused when they are read (refused_by_name)."""
    try:
        with refused_by_name():
            raw = spark.read.option("recursiveFileLookup", "true").parquet(*urls)
    except (PySparkException, Py4JJavaError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"table {table.name}: ds={ds} cannot be read as Parquet from {urls[0]}: {first}. "
            "Timestamps must be microsecond UTC instants; write the day again"
        ) from error
    return raw.select(*[_checked(raw.schema, table, column, ds) for column in table.columns])


@contextmanager
def refused_by_name() -> Iterator[None]:
    """Turns Spark's failure to read a table's file into a ValueError that names table, night and file; a full disk into
    one that says which, as far as it can be told."""
    try:
        yield
    except (PySparkException, Py4JJavaError, OSError, RuntimeError) as error:
        said = _unreadable(str(error)) or _full(str(error))
        if said is None:
            raise
        raise ValueError(said) from error


_WRITING = re.compile(r"Task failed while writing rows to (\S+)\. |No space left on device: '(.+?)'")


def _full(said: str) -> str | None:
    """What to tell of a disk that is full, with how much of it is free; None where the words are of another thing."""
    if "No space left on device" not in said:
        return None
    found = _WRITING.search(said)
    url = found and (found[1] or found[2])
    free = storage.free_bytes(url) if url else None
    where = (
        f"on the disk of {url}" if url else "on a disk that the night writes to (its warehouse's, or spark.local.dir)"
    )
    left = "" if free is None else f" ({free:,} bytes are free, fewer than what was to be written)"
    return f"no space is left {where}{left}: free some and run the night again; what was published stays as it is"


_UNREADABLE = re.compile(r"Encountered error while reading file (.+?)\.(?:\s+|$)(.*)")
_MISMATCH = re.compile(r"Parquet column \[(.*?)\]\. Expected Spark type (\S+), actual Parquet type (\S+?)\.")
_CAUSE = re.compile(r"^Caused by: (?!org\.apache\.spark)[\w.$]*?(\w+: .*)$", re.MULTILINE)


def _unreadable(said: str) -> str | None:
    """What to tell of Spark's words; None where they are not of a file that cannot be read."""
    found = _UNREADABLE.search(said)
    if found is None:
        return None
    url = found[1]
    place = re.search(r"([^/]+)/ds=([^/]+)/", url)
    where = f"table {place[1]}: ds={place[2]}" if place else "a table"
    again = "run the job that writes it again" if "/version=" in url else "write the day again"
    mismatch = _MISMATCH.search(said)
    if mismatch:
        column = mismatch[1].split(",")[0]
        return f"{where}: column {column} must be {mismatch[2]}, is {mismatch[3]} in the file {url}: {again}"
    causes = _CAUSE.findall(said)
    reason = causes[-1] if causes else found[2]
    return f"{where} cannot be read as Parquet, the file {url} is broken ({reason[:200]}): {again}"


def _checked(schema: T.StructType, table: Table, column: tables.Column, ds: str) -> Column:
    """The column as declared; missing or retyped ones are errors that say what to write instead."""
    if column.name not in schema.names:
        if column.optional:
            return F.lit(None).cast(column.type).alias(column.name)
        raise ValueError(
            f"table {table.name}: column {column.name} ({column.type}) is missing in ds={ds}, found "
            f"{', '.join(schema.names)}: write the column"
        )
    wanted = T._parse_datatype_string(column.type)
    found = schema[column.name].dataType
    if found == wanted or _same_shape(found, wanted):
        return F.col(column.name)
    if (found.simpleString(), wanted.simpleString()) in _LOSSLESS:
        return F.col(column.name).cast(column.type).alias(column.name)
    raise ValueError(
        f"table {table.name}: column {column.name} must be {wanted.simpleString()}, is {found.simpleString()} in "
        f"ds={ds}: write it with the declared type"
    )


def _same_shape(found: T.DataType, wanted: T.DataType) -> bool:
    """Equal but for nullability inside arrays and structs, which Parquet writers set as they like."""
    return found.simpleString() == wanted.simpleString()


# ---- writing --------------------------------------------------------------------------------------------------------


def write(
    df: DataFrame,
    conf: Config,
    table: Table,
    ds: str,
    meta: Mapping[str, Any] | None = None,
    options: Mapping[str, str] | None = None,
    check: Callable[[], object] | None = None,
    claim: Claim | None = None,
) -> Published:
    """Writes a version of a table's night beside those that are there, verifies it and adds it to the claim's draft;
    without a claim, claims the night for as long as it takes and publishes the table by itself.

    Verified: every column declared and of its type, no null where none may be, the files read back to the schema, row
    count and checksum that were written, and whatever check, called once the files lie there, asserts. Cost: one write
    and one scan of what was written; sums only on the driver.
    """
    spark = df.sparkSession
    with nullcontext(claim) if claim else Claim(spark, conf, ds) as held:
        assert held.ds == ds, f"a claim of {held.ds} cannot write {ds}"
        done = _write_version(df, conf, table, ds, meta or {}, options or {}, check)
        held.draft[table.name] = done.version
        if claim is None:
            held.publish()
    return done


def _write_version(
    df: DataFrame,
    conf: Config,
    table: Table,
    ds: str,
    meta: Mapping[str, Any],
    options: Mapping[str, str],
    check: Callable[[], object] | None,
) -> Published:
    version = uuid.uuid4().hex[:12]
    target = _version_folder(conf, table, ds, version)

    def save(writer: DataFrameWriter) -> None:
        writer.options(**options).mode("errorifexists").parquet(target)

    def facts() -> Mapping[str, Any]:
        if check is not None:
            check()
        return meta

    return _written(df, conf, table, ds, version, save, facts)


def write_buckets(
    df: DataFrame,
    conf: Config,
    table: Table,
    ds: str,
    version: str,
    num_buckets: int,
    meta: Callable[[DataFrame], Mapping[str, Any]],
) -> Published:
    """Writes a version that no night's log names, a file for each bucket of users; df has the buckets for partitions.

    num_buckets: 0 where df has no rows. meta: of the rows as they were read back. Cost: as write, and meta's; the rows
    are sorted by user within a bucket.
    """
    spark, target = df.sparkSession, _version_folder(conf, table, ds, version)
    name, place = f"almmta_written_{version}", storage.qualified(spark, target)

    def save(writer: DataFrameWriter) -> None:
        if num_buckets:
            writer.bucketBy(num_buckets, "user_id").sortBy("user_id").option("path", place).saveAsTable(name)
        else:  # a bucketed table without rows would be a folder without files
            writer.parquet(target)

    try:
        return _written(df, conf, table, ds, version, save, lambda: meta(_frame(spark, table, [target], ds)))
    finally:
        spark.sql(f"DROP TABLE IF EXISTS {name}")


def read_buckets(
    spark: SparkSession, conf: Config, table: Table, versions: Sequence[Published], num_buckets: int
) -> DataFrame:
    """Versions of write_buckets as one DataFrame of num_buckets partitions, which are the users' buckets: to group by
    user_id, or to join on it, shuffles nothing (Spark's bucketed tables; the session's own catalog holds the name)."""
    versions = [v for v in versions if v.rows]
    folders = {v.version: storage.qualified(spark, _version_folder(conf, table, v.ds, v.version)) for v in versions}
    if not folders:
        return spark.createDataFrame([], table.ddl)
    name = f"almmta_read_{hashlib.sha256(json.dumps(sorted(folders.values())).encode()).hexdigest()[:16]}"
    columns = ", ".join(f"{c.name} {c.type}" for c in table.columns)
    place = _sql(storage.qualified(spark, folder(conf, table)))
    spark.sql(
        f"CREATE TABLE IF NOT EXISTS {name} ({columns}, version string) USING parquet PARTITIONED BY (version) "
        f"CLUSTERED BY (user_id) INTO {num_buckets} BUCKETS LOCATION {place}"
    )
    added = " ".join(f"PARTITION (version = {_sql(version)}) LOCATION {_sql(url)}" for version, url in folders.items())
    spark.sql(f"ALTER TABLE {name} ADD IF NOT EXISTS {added}")
    return spark.table(name).select(*table.column_names)


def _sql(text: str) -> str:
    """A string of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _written(
    df: DataFrame,
    conf: Config,
    table: Table,
    ds: str,
    version: str,
    save: Callable[[DataFrameWriter], None],
    meta: Callable[[], Mapping[str, Any]],
) -> Published:
    """Writes, verifies, and writes the card, which makes the version whole; meta is called once the files lie there."""
    spark, target = df.sparkSession, _version_folder(conf, table, ds, version)
    shaped = df.select(*[_checked(df.schema, table, c, ds) for c in table.columns])
    seen = Observation()
    try:
        save(shaped.observe(seen, *_count_and_checksum(table)).write)
        rows, checksum = _verified(spark, table, ds, target, seen.get)
        facts = dict(meta())
    except BaseException:
        storage.delete(spark, target)
        raise
    done = Published(table.name, ds, version, rows, checksum, facts)
    storage.write_text(spark, f"{target}.json", json.dumps(asdict(done), sort_keys=True))
    return done


def _verified(spark: SparkSession, table: Table, ds: str, target: str, written: Mapping[str, Any]) -> tuple[int, str]:
    """Row count and checksum of the files, which must be those of what was written, in the declared schema."""
    there = spark.read.parquet(target).schema
    shapes = {c.name: T._parse_datatype_string(c.type).simpleString() for c in table.columns}
    found_shapes = {f.name: f.dataType.simpleString() for f in there}
    if found_shapes != shapes:
        raise OSError(f"table {table.name}: wrote {shapes} but read back {found_shapes} from {target}: run again")
    present = [F.count(c.name).alias(c.name) for c in table.columns if not c.nullable]
    found = _frame(spark, table, [target], ds).agg(*_count_and_checksum(table), *present).first()
    assert found is not None
    back = found.asDict()
    rows, checksum = _rows_and_checksum(back)
    if (rows, checksum) != _rows_and_checksum(written):
        raise OSError(f"table {table.name}: wrote {written} but read back {back} from {target}: run again")
    holes = {c.name: rows - back[c.name] for c in table.columns if not c.nullable and back[c.name] < rows}
    assert not holes, f"table {table.name}: nulls where none may be: {holes}"
    return rows, checksum


def write_input(df: DataFrame, conf: Config, table: Table, ds: str) -> None:
    """Writes one day of an input table as a platform would: plain Parquet, the folder replaced."""
    target = folder(conf, table, ds)
    beside = f"{storage.join(conf.warehouse, table.name)}/_{ds}.writing"
    df.select(*[_checked(df.schema, table, c, ds) for c in table.columns]).write.mode("overwrite").parquet(beside)
    spark = df.sparkSession
    storage.delete(spark, target)
    storage.move(spark, beside, target)


def _count_and_checksum(table: Table) -> list[Column]:
    """Rows, and two 64-bit sums of their hashes: rows that come in pairs cancel in the first, not in the second."""
    row_hash = F.xxhash64(*table.column_names)
    low = F.sum(row_hash.bitwiseAND(F.lit(_LOW_BITS)))
    return [F.count(F.lit(1)).alias("_rows"), F.bit_xor(row_hash).alias("_xor"), low.alias("_sum")]


def _rows_and_checksum(found: Mapping[str, Any]) -> tuple[int, str]:
    return int(found["_rows"]), f"{(found['_xor'] or 0) % 2**64:016x}-{found['_sum'] or 0:x}"
