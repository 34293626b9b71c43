"""Nights that run again: what is due is found however often a command dies. Real files, no Spark."""

from dataclasses import replace
from pathlib import Path

import pytest

from almmta_spark import manifest, night_log, reruns, spark_tables, tables, tracking
from almmta_spark.config import Config
from almmta_spark.reruns import IF_CHANGED, UNFINISHED
from jobs import nightly as jobs_nightly
from tests.bench import late_rows
from tests.nights import written

FIRST, SECOND, THIRD, AFTER = (f"2026-01-{day}" for day in (15, 16, 17, 18))


class Killed(BaseException):
    """Stands for the end of the process: nothing after it runs."""


@pytest.fixture
def conf(tmp_path):
    conf = replace(Config(), warehouse=str(tmp_path / "warehouse"), lateness_nights=3)
    for ds in (FIRST, SECOND, THIRD, AFTER):
        log_rows(conf, ds, "first")
    return conf


def log_rows(conf, ds, name):
    """Rows of one night, of which no other reads."""
    folder = Path(conf.warehouse, tables.UPLOADS.name, f"ds={ds}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.parquet").write_text("rows")


def ingest(night):
    """Its rows say how many files the night's day has, three at most."""
    night.has_input(tables.UPLOADS, night.ds)
    there = Path(night.place.conf.warehouse, tables.UPLOADS.name, f"ds={night.ds}")
    written(night, tables.ACCEPTED_UPLOADS, str(min(3, len(list(there.iterdir())))))


def pool(night):
    """Reads the night before as well."""
    days = [spark_tables.shift(night.ds, -1), night.ds]
    found = [night.published(tables.ACCEPTED_UPLOADS, day) for day in days]
    written(night, tables.JOURNEYS, " ".join(f.checksum for f in found if f))


STAGES = {"ingest": ingest, "pool": pool}


def night(conf, ds, later=(), stages=STAGES):
    """As jobs/nightly runs one. Returns the stages that ran."""
    return late_rows.run(None, conf, ds, stages, later)


def nightly(conf, wanted, **stages):
    """The command, with some stages replaced: what was due, what ran, what failed."""
    due, ran = reruns.due(None, conf, wanted), {}
    every = [*due, wanted]

    def run(ds):
        ran[ds] = night(conf, ds, every[every.index(ds) + 1 :], {**STAGES, **stages})

    failed = reruns.run(None, conf, due, run)
    run(wanted)
    return due, ran, failed


def of(conf, ds):
    """What readers of the night see of its journeys."""
    found = spark_tables.published(None, conf, tables.JOURNEYS, ds)
    return found.checksum if found else None


def three_nights(conf):
    for ds in (FIRST, SECOND, THIRD):
        assert nightly(conf, ds) == ({}, {ds: ["ingest", "pool"]}, {})


def killed(_):
    raise Killed


def refused(_):
    raise ValueError("table uploads: too many rows are rejected")


def test_nothing_is_due_where_no_rows_came_late_and_neither_code_nor_settings_are_late_rows(conf, monkeypatch):
    three_nights(conf)
    monkeypatch.setattr(manifest, "code_version", lambda: "other")
    assert reruns.due(None, replace(conf, pairs=replace(conf.pairs, match_quantile=0.5)), AFTER) == {}


def test_a_night_is_due_where_its_input_has_changed_and_those_after_it_where_they_find_other_rows(conf):
    three_nights(conf)
    log_rows(conf, FIRST, "late")
    due, ran, _ = nightly(conf, AFTER)
    assert due[FIRST].startswith("runs again, rows came late: uploads of 2026-01-15")
    assert (due[SECOND], due[THIRD]) == (IF_CHANGED, IF_CHANGED)
    assert ran == {FIRST: ["ingest", "pool"], SECOND: ["pool"], AFTER: ["ingest", "pool"]}, "the third reads the second"
    assert of(conf, SECOND) == "2 1" and reruns.due(None, conf, AFTER) == {}


def test_late_rows_that_change_no_table_change_no_night_after_theirs(conf):
    for name in ("second", "third"):
        log_rows(conf, FIRST, name)
    three_nights(conf)
    log_rows(conf, FIRST, "late")
    assert nightly(conf, AFTER)[1] == {FIRST: ["ingest"], AFTER: ["ingest", "pool"]}


def test_nights_further_back_than_the_lateness_are_not_looked_at(conf):
    three_nights(conf)
    log_rows(conf, FIRST, "late")
    assert reruns.due(None, replace(conf, lateness_nights=2), AFTER) == {}
    assert reruns.due(None, replace(conf, lateness_nights=0), AFTER) == {}


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_rerun_for_late_rows_that_was_killed_is_taken_up_by_the_next_command(conf, stage):
    three_nights(conf)
    log_rows(conf, FIRST, "late")
    with pytest.raises(Killed):
        nightly(conf, AFTER, **{stage: killed})
    assert of(conf, FIRST) == "1", "as it was published"
    due, ran, _ = nightly(conf, AFTER)
    assert due == {FIRST: UNFINISHED, SECOND: IF_CHANGED, THIRD: IF_CHANGED}
    assert ran[SECOND] == ["pool"] and (of(conf, FIRST), of(conf, SECOND)) == ("2", "2 1")
    assert reruns.due(None, conf, AFTER) == {}


def test_nights_that_read_a_rerun_one_are_due_when_the_command_dies_between_them(conf):
    three_nights(conf)
    log_rows(conf, FIRST, "late")

    def killed_at_second(night):
        if night.ds == SECOND:
            raise Killed
        pool(night)

    with pytest.raises(Killed):
        nightly(conf, AFTER, pool=killed_at_second)
    assert of(conf, FIRST) == "2" and reruns.due(None, conf, AFTER) == {SECOND: UNFINISHED, THIRD: IF_CHANGED}
    nightly(conf, AFTER)
    assert of(conf, SECOND) == "2 1" and reruns.due(None, conf, AFTER) == {}


def test_a_night_that_is_refused_keeps_no_other_from_running_and_stays_due(conf):
    three_nights(conf)
    log_rows(conf, FIRST, "late")
    for _ in range(2):
        due, ran, failed = nightly(conf, AFTER, ingest=lambda night: (refused if night.ds == FIRST else ingest)(night))
        assert list(failed) == [FIRST] and AFTER in ran and SECOND not in ran
        assert list(due) == [FIRST, SECOND, THIRD] and of(conf, FIRST) == "1"
    nightly(conf, AFTER)
    assert of(conf, FIRST) == "2" and of(conf, SECOND) == "2 1" and reruns.due(None, conf, AFTER) == {}


def test_a_night_that_died_between_its_note_to_log_it_and_its_publication_is_not_logged(conf):
    tracking.wait(None, conf, FIRST, {})
    assert tracking.waiting(None, conf) == [FIRST] and jobs_nightly._waiting(None, conf, []) == []
    night(conf, FIRST)
    assert jobs_nightly._waiting(None, conf, []) == [FIRST] and jobs_nightly._waiting(None, conf, [FIRST]) == []


def test_a_published_night_that_was_asked_for_again_and_killed_is_due_however_old_and_a_new_one_is_not(conf):
    for wanted, found in ((FIRST, {}), (FIRST, {FIRST: UNFINISHED})):
        with pytest.raises(Killed):
            night(conf, wanted, stages={**STAGES, "pool": killed})
        assert reruns.due(None, replace(conf, lateness_nights=0), AFTER) == found
        night(conf, FIRST)
        log_rows(conf, FIRST, "more")
    assert reruns.due(None, replace(conf, lateness_nights=0), AFTER) == {}
    assert night_log.latest(None, conf, FIRST).current.number
