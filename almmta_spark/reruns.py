"""Nights that run again: rows came late for them, or for a night that they read.

A published night that is being run again is due until it ends: that is written down (<warehouse>/_due/ds=D) before
anything of it is touched, with the nights after it that may have read it. So a command that is killed or refused in
between leaves nothing forgotten: the next run of nightly takes it up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from almmta_spark import manifest, night_log, spark_tables, storage
from almmta_spark.config import Config
from almmta_spark.storage import Spark

log = logging.getLogger("almmta")

IF_CHANGED = "runs again if it finds other rows in the nights before it"
UNFINISHED = "runs again, its last run did not end"


def due(spark: Spark, conf: Config, first: str) -> dict[str, str]:
    """Nights before `first` that run again or may have to, ascending, and why.

    Those of the lateness_nights whose input has changed since they ran, those that an earlier command has left, and
    published ones of the lateness_nights that come after one of them and may have read it.
    """
    why = {ds: _mark(spark, conf, ds) for ds in _marked(spark, conf) if ds < first}
    window = [spark_tables.shift(first, -n) for n in range(1, conf.lateness_nights + 1)]
    for ds in window:
        if looks := manifest.late(spark, conf, ds):
            why[ds] = f"runs again, rows came late: {manifest.told(looks)}"
    for ds in window:
        if why and ds > min(why) and ds not in why and _is_published(spark, conf, ds):
            why[ds] = IF_CHANGED
    return dict(sorted(why.items()))


def certain(nights: Mapping[str, str]) -> list[str]:
    """Those of the nights that are due which run whatever they find."""
    return [ds for ds, why in nights.items() if why != IF_CHANGED]


def run(spark: Spark, conf: Config, nights: Mapping[str, str], again: Callable[[str], object]) -> dict[str, Exception]:
    """Runs the nights that are due, oldest first, where they find anything new. Returns what kept which night from it.

    again: runs a night, from `begin` to `end`. A night that cannot run stays as it was published, and due: it keeps no
    other from running but those that are due for its sake.
    """
    failed: dict[str, Exception] = {}
    for ds, why in nights.items():
        if why == IF_CHANGED and failed:
            continue
        if why == IF_CHANGED and not manifest.overtaken(spark, conf, ds):
            log.info("night %s: nothing that it has read is another one now", ds)
            end(spark, conf, ds)
            continue
        log.info("night %s %s", ds, why)
        try:
            again(ds)
        except Exception as error:  # bad rows, another run's claim, Spark's own
            failed[ds] = error
            unforeseen = not isinstance(error, (ValueError, night_log.ClaimLost))  # those say all there is to say
            log.error("night %s could not run again, and stays as it was published: %s", ds, error, exc_info=unforeseen)
    return failed


def begin(spark: Spark, conf: Config, ds: str, later: Sequence[str] = ()) -> None:
    """A run of the night begins, under its claim: from here to its end it is due, where it has been published, and so
    are the later ones that may read it."""
    if _is_published(spark, conf, ds):
        _write(spark, conf, ds, UNFINISHED)
        for after in later:
            if _is_published(spark, conf, after) and not _mark(spark, conf, after):
                _write(spark, conf, after, IF_CHANGED)


def end(spark: Spark, conf: Config, ds: str) -> None:
    """The night has run to its end."""
    storage.delete(spark, _url(conf, ds))


def _is_published(spark: Spark, conf: Config, ds: str) -> bool:
    return night_log.latest(spark, conf, ds).current.number > 0


def _marked(spark: Spark, conf: Config) -> list[str]:
    names = storage.names(spark, storage.join(conf.warehouse, "_due"))
    return [n.removeprefix("ds=") for n in names if n.startswith("ds=")]


def _mark(spark: Spark, conf: Config, ds: str) -> str:
    """Why the night is due; empty where it is not."""
    return storage.read_text(spark, _url(conf, ds)) or ""


def _write(spark: Spark, conf: Config, ds: str, why: str) -> None:
    storage.write_text(spark, _url(conf, ds), why)


def _url(conf: Config, ds: str) -> str:
    return storage.join(conf.warehouse, "_due", f"ds={ds}")
