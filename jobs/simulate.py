"""Writes the logs of a simulated platform, and the truth behind them, as the input tables of the nights up to ds."""

from __future__ import annotations

from collections.abc import Mapping

from almmta_spark import arrivals, runner, spark_tables
from almmta_spark.config import SignalConfig
from almmta_spark.simulator import worlds
from almmta_spark.simulator.truth import truth_error
from almmta_spark.simulator.write_logs import simulate, world_of


def run(night: runner.Night) -> None:
    """The configured world -> input tables and the truth about them."""
    conf = night.conf
    arrivals.forget(night.spark, night.place.conf, night.ds)  # a world made anew comes in time
    for table, day, rows in simulate(night.spark, conf.simulator, conf.seed, night.ds):
        spark_tables.write_input(rows, conf, table, day)
        night.note(**{f"{table.name} ds={day}": spark_tables.folder(conf, table, day)})
    error = truth_error(world_of(conf.simulator, conf.seed), conf.seed)
    night.note(world=conf.simulator.world, truth_error=error)  # of the exact effects, as a share of their RMS


def declared_signals(world: str) -> Mapping[str, SignalConfig]:
    """conf.signals of a platform that is this world: roles, kinds, and the anchors that it declares."""
    return worlds.signals_of(world)


if __name__ == "__main__":
    runner.main("simulate", run, __doc__)
