"""What a part of a job cost Spark: tasks, bytes shuffled and spilled, skew, as Spark's own listener counted them.

Read from the status store that every driver keeps, with its pages on or off, on any kind of cluster. It forgets the
oldest Spark stages beyond spark.ui.retainedStages (1,000), so it is read after each stage of a night, of which Spark
makes tens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

_WAIT_MILLISECONDS = 10_000
T = TypeVar("T")


@dataclass(frozen=True)
class SparkMetrics:
    """Sums over Spark stages and all their attempts."""

    tasks: int = 0
    """That ended, well or not."""
    shuffle_read_bytes: int = 0
    shuffle_write_bytes: int = 0
    spilled_memory_bytes: int = 0
    """Size in memory of what was spilled."""
    spilled_disk_bytes: int = 0
    skew: float | None = None
    """Longest over median task time of the Spark stage that waited longest for its last task beyond the median; None
    where no stage had two tasks."""
    forgotten_stages: int = 0
    """Spark stages that the store had dropped already: where there are any, all else is a lower bound."""


def newest_stage(spark: SparkSession) -> int:
    """Number of the newest Spark stage; -1 before the first."""
    return next((int(stage.stageId()) for stage in _stages(spark)), -1)


def since(spark: SparkSession, after: int) -> SparkMetrics:
    """Of the Spark stages with numbers above `after`. Cost: some milliseconds a Spark stage, on the driver."""
    found = []
    for stage in _stages(spark):
        if stage.stageId() <= after:
            break
        found.append(stage)
    numbers = {int(stage.stageId()) for stage in found}
    times = [t for stage in found if stage.numCompleteTasks() > 1 for t in _task_times(spark, stage)]
    median, longest = max(times, key=lambda t: t[1] - t[0], default=(0.0, 0.0))
    return SparkMetrics(
        tasks=sum(s.numCompleteTasks() + s.numFailedTasks() + s.numKilledTasks() for s in found),
        shuffle_read_bytes=sum(s.shuffleReadBytes() for s in found),
        shuffle_write_bytes=sum(s.shuffleWriteBytes() for s in found),
        spilled_memory_bytes=sum(s.memoryBytesSpilled() for s in found),
        spilled_disk_bytes=sum(s.diskBytesSpilled() for s in found),
        skew=round(longest / max(median, 1.0), 2) if times else None,
        forgotten_stages=max(numbers, default=after) - after - len(numbers),
    )


def _stages(spark: SparkSession) -> Iterator[Any]:
    """Spark's StageData of every attempt of every stage, the newest first, once its listener has heard of all."""
    context = spark.sparkContext._jsc.sc()  # type: ignore[union-attr]
    context.listenerBus().waitUntilEmpty(_WAIT_MILLISECONDS)
    stages = context.statusStore().stageList(None, False, False, _doubles(spark), _jvm(spark).java.util.ArrayList())
    each = stages.iterator()
    while each.hasNext():
        yield each.next()


def _task_times(spark: SparkSession, stage: Any) -> list[tuple[float, float]]:
    """(median, longest) run time in milliseconds of the tasks that ended well; empty where Spark has none."""
    store = spark.sparkContext._jsc.sc().statusStore()  # type: ignore[union-attr]
    found = store.taskSummary(stage.stageId(), stage.attemptId(), _doubles(spark, 0.5, 1.0))
    if found.isEmpty():
        return []
    times = found.get().executorRunTime()
    return [(float(times.apply(0)), float(times.apply(1)))]


def _doubles(spark: SparkSession, *values: float) -> Any:
    made = spark.sparkContext._gateway.new_array(_jvm(spark).double, len(values))  # type: ignore[union-attr]
    for place, value in enumerate(values):
        made[place] = value
    return made


def _jvm(spark: SparkSession) -> Any:
    return spark.sparkContext._jvm


class Meter:
    """What has been spent since it was made."""

    def __init__(self, spark: SparkSession | None) -> None:
        self._spark = spark
        self._after = _said(lambda: newest_stage(spark)) if spark else None
        self._clock = time.monotonic()

    def read(self) -> tuple[float, dict[str, Any]]:
        """(Seconds, SparkMetrics as a dictionary): empty without a session, or where Spark does not say in time."""
        seconds, spark, after = round(time.monotonic() - self._clock, 3), self._spark, self._after
        found = None if spark is None or after is None else _said(lambda: since(spark, after))
        return seconds, asdict(found) if found else {}


def _said(ask: Callable[[], T]) -> T | None:
    """None where the listener lags, or the driver is going down: no reason to lose a stage."""
    try:
        return ask()
    except Py4JError:
        return None


def told(cost: Mapping[str, Any]) -> str:
    """The metrics, as a dictionary, in words; empty where there are none, or there was no task."""
    if not cost.get("tasks"):
        return ""
    skew = "" if cost["skew"] is None else f", skew {cost['skew']:.1f}"
    lost = f" and what {cost['forgotten_stages']} forgotten Spark stages did" if cost["forgotten_stages"] else ""
    return f": {cost['tasks']:,} tasks, {size(shuffled(cost))} shuffled, {size(spilled(cost))} spilled{skew}{lost}"


def shuffled(cost: Mapping[str, Any]) -> int:
    """Bytes that were written to be shuffled; nearly the same were read."""
    return int(cost["shuffle_write_bytes"])


def spilled(cost: Mapping[str, Any]) -> int:
    """Bytes that went to disk for want of memory."""
    return int(cost["spilled_disk_bytes"])


def size(number: float) -> str:
    """Bytes in a unit that can be read: 0 B, 3.2 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError(number)
