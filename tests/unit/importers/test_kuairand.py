"""The importer on small files written in the download's own format, and on the real slice where it is."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import pytest
from chispa import assert_df_equality

pytest.importorskip("pyspark")

from almmta_spark import spark_tables, tables
from almmta_spark.config import Config, IngestConfig
from almmta_spark.importers import csv_files, kuairand
from almmta_spark.importers.kuairand import files, log, report, snapshots
from jobs.import_kuairand import import_kuairand

REAL = Path(os.environ.get("ALMMTA_KUAIRAND", Path(__file__).parents[4] / "shared/data/kuairand"))
NOON = 1650801600000  # 2022-04-24 12:00 UTC, 20:00 at UTC+8
DAY = 24 * 3600 * 1000


def log_row(user: int, video: int, time_ms: int, **flags: object) -> str:
    values = dict.fromkeys(files.LOG, 0) | {"user_id": user, "video_id": video, "time_ms": time_ms, "play_time_ms": 1}
    return ",".join(str(v) for v in (values | {"date": 20220424, "duration_ms": 9} | flags).values())


def user_row(user: object, **features: object) -> str:
    values = dict.fromkeys(files.USER, "1") | {"user_id": user, "user_active_degree": "full_active"} | features
    return ",".join(str(v) for v in values.values())


def write(folder: Path, name: str, columns: object, rows: list[str]) -> None:
    with gzip.open(folder / name, "wt") as out:
        out.write("\n".join([",".join(columns), *rows]) + "\n")  # type: ignore[call-overload]


@pytest.fixture
def download(tmp_path):
    def build(rows, people=("1", "2"), videos=("10,7,39", '11,8,"2,5"', "12,9,")):
        folder = tmp_path / f"download-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write(folder, "log_standard_4_22_to_5_08_pure.csv.gz", files.LOG, list(rows))
        write(folder, "user_features_pure.csv.gz", files.USER, [user_row(p) if len(p) == 1 else p for p in people])
        write(folder, "video_features_basic_pure.csv.gz", files.VIDEO, list(videos))
        return str(folder)

    return build


def test_a_log_row_written_twice_is_two_exposures_but_one_act_and_one_upload(spark, download):
    row = log_row(1, 10, NOON, is_click=1, is_like=1, is_comment=1, is_forward=1)
    accepted = log.tidy(files.read(spark, download([row, row])).log)
    vectors = spark.createDataFrame([(10, [1.0])], "item_id bigint, embedding array<float>")
    assert log.exposures(accepted).count() == 2
    acts = log.signals(accepted).orderBy("signal").collect()
    assert [(a["user_id"], a["signal"], a["value"], a["ds"]) for a in acts] == [
        (1, "is_click", 1.0, "2022-04-24"),
        (1, "is_like", 1.0, "2022-04-24"),
    ]
    assert {a["event_ts"] for a in acts} == {log.exposures(accepted).first()["event_ts"]}
    assert [u["embedding"] for u in log.uploads(accepted, vectors, "2022-04-24").collect()] == [[1.0]]
    assert [u["embedding"] for u in log.uploads(accepted, vectors, "2022-04-25").collect()] == [None]


def test_days_are_utc_days_of_time_ms_whatever_the_date_column_says_and_have_no_gap(spark, download):
    accepted = log.tidy(files.read(spark, download([log_row(1, 10, NOON), log_row(1, 10, NOON + 2 * DAY)])).log)
    assert log.days(accepted) == [("2022-04-24", 1), ("2022-04-25", 0), ("2022-04-26", 1)]


def test_rows_that_do_not_parse_are_refused_with_a_reason_and_the_others_stay(spark, download):
    rows = [log_row(1, 10, NOON), log_row(1, 10, "soon"), log_row("", 10, NOON), log_row(2, 11, -124)]
    rows += [log_row(3, 12, time_ms) for time_ms in (NOON * 1000, NOON // 1000, 2**63 - 1)]
    raw = files.read(spark, download(rows, people=["1", "x"], videos=["10,7,39", "11,,2"]))
    refused = files.rejected(raw).select("source", "reason").collect()
    assert sorted((r["source"], r["reason"]) for r in refused) == [
        ("exposures", "the line does not fit the columns"),
        ("exposures", "time_ms is missing or not positive"),
        *[("exposures", "time_ms is not of 2022, when the log was recorded")] * 3,
        ("exposures", "user_id or video_id is missing"),
        ("items", "video_id or author_id is missing"),
        ("users", "the line does not fit the columns"),
    ]
    assert log.tidy(raw.log).count() == 1


def test_a_missing_column_or_file_is_named(spark, download):
    folder = download([log_row(1, 10, NOON)])
    write(Path(folder), "video_features_basic_pure.csv.gz", ("video_id", "tag"), ["10,39"])
    with pytest.raises(ValueError, match=r"video_features_basic_pure.csv.gz: column author_id \(bigint\) is missing"):
        files.read(spark, folder)
    with pytest.raises(ValueError, match=r"must hold a file log_other\.csv"):
        csv_files.find(spark, folder, "log_other.csv")


def test_the_first_tag_is_the_cluster_and_a_video_without_tag_has_one_only_where_it_has_no_content(spark, download):
    raw = files.read(spark, download([log_row(1, 10, NOON)], videos=["10,7,39", '11,8,"2,5"', "12,9,", "13,9,"]))
    vectors = spark.createDataFrame([(12, [1.0, 0.0])], "item_id bigint, embedding array<float>")
    wanted = [(10, 7, 39, None), (11, 8, 2, None), (12, 9, None, [1.0, 0.0]), (13, 9, -1, None)]
    expected = spark.createDataFrame(wanted, "item_id bigint, author_id bigint, cluster int, embedding array<float>")
    assert_df_equality(snapshots.items(raw.videos, vectors), expected, ignore_row_order=True, ignore_nullable=True)


def test_flagged_and_missing_user_features_are_nan_and_wide_codes_are_log_shares(spark, download):
    people = [
        user_row(1, fans_user_num=-124, onehot_feat4="", is_live_streamer=-124, onehot_feat3=5),
        user_row(2, fans_user_num=0, user_active_degree="UNKNOWN", onehot_feat3=5),
        user_row(3, fans_user_num=99, user_active_degree="2_14_day_new", onehot_feat3=6),
    ]
    raw = files.read(spark, download([log_row(1, 10, NOON)], people=people))
    rows = {
        r["user_id"]: dict(zip(files.COVARIATES, r["covariates"], strict=True))
        for r in snapshots.users(raw.users).collect()
    }
    assert all(math.isnan(rows[1][c]) for c in ("fans_user_num", "onehot_feat4", "is_live_streamer"))
    assert all(math.isnan(rows[2][d]) for d in files.DEGREES)
    assert [rows[3][d] for d in files.DEGREES] == [0.0, 0.0, 0.0]
    assert [rows[u]["fans_user_num"] for u in (2, 3)] == pytest.approx([0.0, math.log(100)])
    assert [rows[u]["onehot_feat3"] for u in (1, 2, 3)] == pytest.approx([math.log(2 / 3)] * 2 + [math.log(1 / 3)])


def test_contents_depend_neither_on_partitions_nor_on_later_days(spark, download):
    early = [log_row(u, 10 + (u + k) % 3, NOON + k) for u in (1, 2) for k in range(6)]
    late = [log_row(1, 99, NOON + DAY + k) for k in range(5)]
    one = log.tidy(files.read(spark, download(early)).log).coalesce(1)
    many = log.tidy(files.read(spark, download(early[::-1] + late)).log).repartition(7, "time_ms")
    vectors = [
        {r["item_id"]: r["embedding"] for r in snapshots.content(frame, "2022-04-25", 0, length=4).collect()}
        for frame in (one, many)
    ]
    assert vectors[0] == vectors[1]
    assert set(vectors[0]) == {10, 11, 12}


def test_content_days_beyond_the_log_are_refused(spark, download):
    raw = files.read(spark, download([log_row(1, 10, NOON + n * DAY) for n in range(3)]))
    with pytest.raises(ValueError, match=r"--content-days must leave days after it: .* has 2 up to 2022-04-25, got 2"):
        next(kuairand.input_tables(raw, seed=0, content_days=2, last="2022-04-25"))


def test_the_job_writes_every_table_up_to_the_day_asked_for_and_counts_what_it_refused(spark, download, tmp_path):
    rows = [
        log_row(u, 10 + k % 2, NOON + n * DAY + k, is_comment=1) for n in range(4) for u in (1, 2) for k in range(2)
    ]
    conf = Config(warehouse=str(tmp_path / "warehouse"), ingest=IngestConfig(max_rejected_rate=0.1))
    found = import_kuairand(spark, conf, download([*rows, log_row("", 10, NOON)]), 2, "2022-04-26")
    assert found["files"]["log rows refused"] == 1
    assert found["rows"] == {
        "users": {"2022-04-24": 2},
        "items": {"2022-04-24": 3, "2022-04-26": 3},
        **{t: dict.fromkeys(("2022-04-24", "2022-04-25", "2022-04-26"), 4) for t in ("exposures", "uploads")},
        "signals": {},
    }
    items = spark_tables.read_snapshot(spark, conf, tables.ITEMS, "2022-04-26")
    known = {r["item_id"]: r["embedding"] is not None for r in items.collect()}
    assert known == {10: True, 11: True, 12: False}
    refused = spark.read.json(str(tmp_path / "warehouse/_import/rejected")).collect()
    assert [r["reason"] for r in refused] == ["user_id or video_id is missing"]


def test_too_many_refused_rows_stop_the_import_before_a_table_is_written(spark, download, tmp_path):
    conf = Config(warehouse=str(tmp_path / "warehouse"))
    folder = download([log_row(1, 10, NOON), log_row("", 10, NOON)])
    with pytest.raises(ValueError, match=r"at most 0 of 2 rows may be refused \(ingest.max_rejected_rate\), 1 were"):
        import_kuairand(spark, conf, folder, 1, "2022-04-30")
    assert [p.name for p in (tmp_path / "warehouse").iterdir()] == ["_import"]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no KuaiRand-Pure in {REAL}: set ALMMTA_KUAIRAND to its folder")
def test_the_real_slice_has_the_dirt_that_its_readme_names(spark):
    raw = files.read(spark, str(REAL))
    accepted = log.tidy(raw.log)
    found = report.dirt(raw, accepted)
    assert (found["log rows"], found["log rows refused"]) == (228_329, 0)
    assert found["equal to another row on every column, kept: ingest drops them"] == 5_460
    assert found["zero durations, kept: nothing reads them"] == 3_568
    assert log.days(accepted)[0] == ("2022-04-24", 2_452)
