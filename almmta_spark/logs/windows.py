"""The night's half-open windows. A touch at index_ts is out: it cannot have caused what it coincides with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import Column
from pyspark.sql import functions as F

from almmta_spark import tables
from almmta_spark.config import JourneysConfig

_MICROS_PER_HOUR = 3_600_000_000
_DAY = 24 * _MICROS_PER_HOUR


@dataclass(frozen=True)
class Windows:
    """Instants in microseconds since 1970, UTC."""

    pre_start: int
    lookback_start: int
    index: int
    outcome_end: int

    @classmethod
    def of(cls, ds: str, conf: JourneysConfig) -> Windows:
        """index_ts is ds 00:00 UTC."""
        day = datetime.strptime(ds, tables.DS_FORMAT).replace(tzinfo=UTC)
        index = int(day.timestamp()) * 1_000_000
        lookback_start = index - _micros(conf.lookback_hours)
        return cls(
            pre_start=lookback_start - _micros(conf.pre_hours),
            lookback_start=lookback_start,
            index=index,
            outcome_end=index + _micros(conf.outcome_window_hours),
        )

    @property
    def cuts(self) -> list[int]:
        """Times of day, in microseconds, at which a night's windows of exposures and signals begin, midnight first: the
        same for every night. Each window holds the part of a day between two of them whole or not at all."""
        return sorted({0, self.lookback_start % _DAY, self.pre_start % _DAY})

    def part_ts(self, event_ts: Column) -> Column:
        """Start of the part of the day that an event lies in."""
        micros = F.unix_micros(event_ts)
        within = F.pmod(micros, F.lit(_DAY))
        starts = [F.when(within >= cut, F.lit(cut)).otherwise(F.lit(0)) for cut in self.cuts]
        start = F.greatest(*starts) if len(starts) > 1 else F.lit(0)
        return F.timestamp_micros(micros - within + start)

    def in_lookback(self, event_ts: Column) -> Column:
        """[index_ts - lookback_hours, index_ts): touchpoints and outcome proxies."""
        return _between(event_ts, self.lookback_start, self.index)

    def in_pre(self, event_ts: Column) -> Column:
        """The pre_hours before the lookback window: intent proxies."""
        return _between(event_ts, self.pre_start, self.lookback_start)

    def in_outcome(self, event_ts: Column) -> Column:
        """[index_ts, index_ts + outcome_window_hours): uploads."""
        return _between(event_ts, self.index, self.outcome_end)

    def has_lookback(self, part: int | None) -> bool:
        """Whether the lookback window holds the part of a day that starts there."""
        return part is not None and self.lookback_start <= part < self.index

    def has_pre(self, part: int | None) -> bool:
        """The same of the window before it."""
        return part is not None and self.pre_start <= part < self.lookback_start

    def age_hours(self, event_ts: Column) -> Column:
        """Hours from an event to index_ts, as float; > 0 in the lookback window."""
        return ((F.lit(self.index) - F.unix_micros(event_ts)) / F.lit(float(_MICROS_PER_HOUR))).cast("float")


def _between(event_ts: Column, start: int, end: int) -> Column:
    return (event_ts >= F.timestamp_micros(F.lit(start))) & (event_ts < F.timestamp_micros(F.lit(end)))


def _micros(hours: float) -> int:
    return round(hours * _MICROS_PER_HOUR)
