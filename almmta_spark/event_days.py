"""Days of exposures and signals by user: written by the first night that needs one, read by all that follow.

A night's lookback holds days that earlier nights had already. So what depends on a day alone (which rows break a rule,
duplicates, sums of signals, whose they are) is found once and kept in `event_days`, a version for a day and source, in
files by hash of the user (logs/days.py). A night writes the days that are missing, the new one as a rule, and puts each
user's days together where they lie: no row of the lookback is shuffled again (spark_tables.read_buckets).

Which version is right depends on nothing but the key in its card: the input's files, the code, where windows cut a day,
the number of buckets, the key of pseudonyms. A day that gets late rows has other files, therefore another key, and is
written again; others are not. There is no log: versions are never changed, two nights that write a day at once write
two equal ones, and a version without a card was left by a run that died. Its name begins with the night that writes it,
whose claim says that nobody else is at it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import uuid
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession

from almmta_spark import manifest, spark_tables, storage
from almmta_spark.config import Config
from almmta_spark.logs import days as of_day
from almmta_spark.logs.days import Counted
from almmta_spark.logs.windows import Windows
from almmta_spark.spark_tables import Published
from almmta_spark.tables import BY_NAME, EVENT_DAYS, Table

Days = Mapping[str, Sequence[str]]
"""Days of exposures and of signals, by the table's name."""


def written(spark: SparkSession, conf: Config, ds: str, days: Days) -> list[Published]:
    """The days' versions for a claimed night; those that are missing are written first.

    Cost: two listings and the cards of each day; for one that is missing its Parquet footers, a scan and a shuffle of
    its rows, a write, and two scans of what was written.
    """
    found = []
    for source, wanted in days.items():
        for day in wanted:
            _clear(spark, conf, BY_NAME[source], day, ds)
            found.append(find(spark, conf, BY_NAME[source], day) or _write(spark, conf, BY_NAME[source], day, ds))
    return found


def read(spark: SparkSession, conf: Config, versions: Sequence[Published]) -> DataFrame:
    """Rows of the versions, a partition for each bucket of users."""
    return spark_tables.read_buckets(spark, conf, EVENT_DAYS, versions, conf.ingest.user_buckets)


def counted(versions: Sequence[Published]) -> list[Counted]:
    """Input rows of the versions."""
    return [c for version in versions for c in of_day.from_json(version.meta["counted"])]


def is_of(version: Published, ds: str) -> bool:
    """Whether the night has written it."""
    return version.version.startswith(_of_night(ds))


def fingerprints(versions: Sequence[Published]) -> dict[str, dict[str, str]]:
    """Of the rows, by source and day: equal for equal days, whenever and wherever they were written."""
    found: dict[str, dict[str, str]] = {}
    for v in versions:
        found.setdefault(v.meta["source"], {})[v.ds] = _fingerprint(v)
    return found


def with_fingerprints(
    spark: SparkSession, conf: Config, ds: str, wanted: Mapping[str, Mapping[str, str]]
) -> list[Published]:
    """The versions of a claimed night that have these fingerprints, by source and day, though rows may have come since.

    Where one was cleared away the day is written again, as `written` does. ValueError: it has other rows by now.
    """
    found = []
    for source, fingerprints_of in wanted.items():
        for day, fingerprint in fingerprints_of.items():
            cards = (spark_tables.card(spark, conf, EVENT_DAYS, day, v) for v in _versions(spark, conf, day))
            same = (c for c in cards if c and c.meta["source"] == source and _fingerprint(c) == fingerprint)
            version = next(same, None) or written(spark, conf, ds, {source: [day]})[0]
            if _fingerprint(version) != fingerprint:
                raise ValueError(
                    f"table {source}: ds={day} must be as it was when ingest ran for night ds={ds}, and has other "
                    "rows now: run the job ingest again"
                )
            found.append(version)
    return found


def _fingerprint(version: Published) -> str:
    said = json.dumps([version.rows, version.checksum, version.meta["counted"]])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def find(spark: SparkSession, conf: Config, table: Table, day: str) -> Published | None:
    """The version of a day as its input is now; None where there is none."""
    key = _key(spark, conf, table, day)
    cards = (spark_tables.card(spark, conf, EVENT_DAYS, day, v) for v in _versions(spark, conf, day))
    return next((card for card in cards if card is not None and card.meta["key"] == key), None)


def _key(spark: SparkSession, conf: Config, table: Table, day: str) -> str:
    files = spark_tables.fingerprint(spark, conf, table, [day])
    place = manifest.Place(spark, conf)
    how = [Windows.of(day, conf.journeys).cuts, conf.ingest.user_buckets, place.code(), place.pseudonyms()]
    return hashlib.sha256(json.dumps([table.name, files, how]).encode()).hexdigest()


def _write(spark: SparkSession, conf: Config, table: Table, day: str, ds: str) -> Published:
    """AssertionError where the rows that went in are not those that came out."""
    key = _key(spark, conf, table, day)  # before the rows are read: files that come meanwhile make it another day
    raw = spark_tables.read_day(spark, conf, table, day)
    rows_in, num_buckets = raw.count(), conf.ingest.user_buckets
    rows = of_day.by_user(of_day.with_status(raw, table), table, Windows.of(day, conf.journeys), num_buckets)

    def facts(back: DataFrame) -> Mapping[str, object]:
        found = of_day.counted(back)
        rows_out = sum(c.rows for c in found)
        assert rows_in == rows_out, f"{table.name} of {day}: {rows_in} rows in, {rows_out} accounted for"
        return {"key": key, "source": table.name, "counted": of_day.to_json(found)}

    version = f"{_of_night(ds)}{uuid.uuid4().hex[:12]}"
    return spark_tables.write_buckets(rows, conf, EVENT_DAYS, day, version, num_buckets if rows_in else 0, facts)


def _clear(spark: SparkSession, conf: Config, table: Table, day: str, ds: str) -> None:
    """Deletes what a run of this night that died has left, and what was replaced publishing.keep_nights ago."""
    root = spark_tables.folder(conf, EVENT_DAYS, day)
    long_ago = 1000 * (time.time() - 86_400 * conf.publishing.keep_nights)
    written = {name: at for name, _, at in storage.files(spark, root) if name.endswith(".json")}
    names = [n for n in storage.names(spark, root) if n.startswith("version=")]
    versions = {n.removeprefix("version=").removesuffix(".json") for n in names}
    cards = {v: spark_tables.card(spark, conf, EVENT_DAYS, day, v) for v in versions}
    gone = {v for v, card in cards.items() if card is None and v.startswith(_of_night(ds))}
    own = sorted(
        (written.get(f"version={v}.json", 0), v) for v, c in cards.items() if c and c.meta["source"] == table.name
    )
    gone |= {v for (_, v), (replaced, _) in itertools.pairwise(own) if replaced < long_ago}
    for version in gone:
        storage.delete(spark, storage.join(root, f"version={version}.json"))  # whatever has a card is whole
        storage.delete(spark, storage.join(root, f"version={version}"))


def _versions(spark: SparkSession, conf: Config, day: str) -> list[str]:
    names = storage.names(spark, spark_tables.folder(conf, EVENT_DAYS, day))
    return [n.removeprefix("version=").removesuffix(".json") for n in names if n.endswith(".json") and n[0] != "."]


def _of_night(ds: str) -> str:
    return ds.replace("-", "") + "_"
