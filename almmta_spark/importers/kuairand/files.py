"""The three files: what is read from each, and which rows are refused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from almmta_spark.importers import csv_files

RECORDED = (1640995200000, 1672531199999)
"""First and last time_ms of 2022, UTC: one row of another century would make the days of the log endless."""
SIGNALS = ("is_click", "long_view", "is_like", "is_profile_enter")
CREATING = ("is_comment", "is_forward")
MISSING = -124.0
"""The files' flag for a value nobody knows."""

LOG_FILE, USER_FILE, VIDEO_FILE = "log_*_pure.csv", "user_features_pure.csv", "video_features_basic_pure.csv"
LOG = {"user_id": "bigint", "video_id": "bigint", "date": "int", "hourmin": "int", "time_ms": "bigint"} | dict.fromkeys(
    (*SIGNALS, *CREATING, "is_follow", "is_hate", "is_rand", "tab"), "int"
)
LOG |= dict.fromkeys(("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"), "bigint")
VIDEO = {"video_id": "bigint", "author_id": "bigint", "tag": "string"}

DEGREES = ("full_active", "high_active", "middle_active")
"""Activity degrees with an indicator of their own; the rest (new and rarely active users) are the base."""
FLAGS = ("is_lowactive_period", "is_live_streamer", "is_video_author")
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
WIDE = tuple(f"onehot_feat{n}" for n in (2, 3, 5, 7, 8))
"""Encrypted categories with up to 1,471 codes: a code stands as the log of its share of users."""
NARROW = tuple(f"onehot_feat{n}" for n in (0, 1, 4, 6, *range(9, 18)))
"""Encrypted categories with at most 15 codes, as numbers."""
NUMBERS = (*FLAGS, *COUNTS, *NARROW, *WIDE)
USER = {"user_id": "bigint", "user_active_degree": "string"} | dict.fromkeys(NUMBERS, "double")
COVARIATES = (*DEGREES, *NUMBERS)
"""Order of users.covariates."""


@dataclass(frozen=True)
class Raw:
    """The three files, as they are."""

    log: DataFrame
    users: DataFrame
    videos: DataFrame


def read(spark: SparkSession, folder: str) -> Raw:
    """The files of a folder (local or any Hadoop URL), cached when first used: one scan of each."""
    parts = ((LOG_FILE, LOG), (USER_FILE, USER), (VIDEO_FILE, VIDEO))
    return Raw(*[csv_files.read(spark, csv_files.find(spark, folder, f), columns).cache() for f, columns in parts])


def log_reason() -> Column:
    """Why a row of the log is refused; null, here and below: it is not."""
    return (
        F.when(csv_files.is_corrupt(), "the line does not fit the columns")
        .when(F.isnull("user_id") | F.isnull("video_id"), "user_id or video_id is missing")
        .when(F.coalesce("time_ms", F.lit(0)) <= 0, "time_ms is missing or not positive")
        .when(~F.col("time_ms").between(*RECORDED), "time_ms is not of 2022, when the log was recorded")
    )


def user_reason() -> Column:
    """Why a row of the users' file is refused."""
    unknown = F.isnull("user_id")
    return F.when(csv_files.is_corrupt(), "the line does not fit the columns").when(unknown, "user_id is missing")


def video_reason() -> Column:
    """Why a row of the videos' file is refused."""
    unknown = F.isnull("video_id") | F.isnull("author_id")
    return F.when(csv_files.is_corrupt(), "the line does not fit the columns").when(
        unknown, "video_id or author_id is missing"
    )


def rejected(raw: Raw) -> DataFrame:
    """source (input table), reason and the row as JSON, of every refused row of the three files."""
    parts = (
        ("exposures", raw.log, log_reason()),
        ("users", raw.users, user_reason()),
        ("items", raw.videos, video_reason()),
    )
    frames = [
        frame.select(F.lit(source).alias("source"), reason.alias("reason"), F.to_json(F.struct("*")).alias("row"))
        for source, frame, reason in parts
    ]
    return reduce(DataFrame.unionByName, frames).filter("reason IS NOT NULL")
