"""What `make kill-test` calls the same, and when it has killed too late."""

from __future__ import annotations

import math

import pyarrow as pa

from jobs import nightly
from tests import kill_runs
from tests.kill_runs import CASES, Outcome

ROWS = pa.table({"user_id": [3, 1, 2], "effect": [math.nan, 0.1, None], "touches": [[1.0], [], [2.0, None]]})
REFERENCE = Outcome({"attribution": ROWS}, {"model latent": "a", "alias champion": None})


def with_rows(rows: pa.Table) -> Outcome:
    return Outcome({"attribution": rows}, REFERENCE.facts)


def test_the_order_of_rows_is_no_difference():
    other = with_rows(ROWS.take([2, 0, 1]))
    assert kill_runs.differences(REFERENCE, other) == [] and kill_runs.num_lost(REFERENCE, other) == 0


def test_the_last_bit_of_a_number_is_a_difference():
    effects = pa.array([math.nan, math.nextafter(0.1, 1), None])
    other = with_rows(ROWS.set_column(1, "effect", effects))
    assert kill_runs.differences(REFERENCE, other) == ["attribution"] and kill_runs.num_lost(REFERENCE, other) == 1


def test_what_is_nested_is_compared_too():
    other = with_rows(ROWS.set_column(2, "touches", pa.array([[1.0], [], [2.0, 3.0]])))
    assert kill_runs.differences(REFERENCE, other) == ["attribution"] and kill_runs.num_lost(REFERENCE, other) == 1


def test_a_row_twice_is_a_difference_and_no_loss():
    other = with_rows(ROWS.take([0, 1, 2, 2]))
    assert kill_runs.differences(REFERENCE, other) == ["attribution"] and kill_runs.num_lost(REFERENCE, other) == 0
    assert kill_runs.num_lost(other, REFERENCE) == 1


def test_a_table_that_is_missing_has_lost_all_its_rows():
    other = Outcome({}, REFERENCE.facts)
    assert kill_runs.differences(REFERENCE, other) == ["attribution"] and kill_runs.num_lost(REFERENCE, other) == 3


def test_another_model_and_an_alias_that_points_elsewhere_are_differences():
    other = Outcome(REFERENCE.rows, {"model latent": "b", "alias champion": {"model_version": "b"}})
    assert kill_runs.differences(REFERENCE, other) == ["alias champion", "model latent"]


def test_a_manifest_means_the_same_whatever_its_run_was_called_and_however_long_it_took():
    def made(version: str, seconds: float, rows: int):
        return {
            "stage": "train",
            "started": f"2026-01-15T00:00:{seconds}",
            "seconds": seconds,
            "outputs": {"journeys": {"rows": rows, "checksum": "c", "version": version}},
            "notes": {"history": {"latent": [{"loss": 0.5, "journeys_per_second": seconds}]}},
            "looked": {"setting seed": "1", f"notes {kill_runs.DS} ingest": version},
            "made": {f"version journeys {kill_runs.DS} {version}": "f", f"model {kill_runs.DS} latent": "m"},
        }

    assert kill_runs.meaning(made("0a", 1.0, 7)) == kill_runs.meaning(made("0b", 2.0, 7))
    assert kill_runs.meaning(made("0a", 1.0, 7)) != kill_runs.meaning(made("0a", 1.0, 8))
    assert kill_runs.meaning(made("0a", 1.0, 7))["looked"] == {"setting seed": "1"}


def test_there_are_cases_at_every_boundary_and_three_inside_every_stage():
    assert len(CASES) == len({str(case) for case in CASES}) >= 40
    inside = [case.stage for case in CASES if case.moment != kill_runs.BOUNDARY]
    assert {inside.count(stage) for stage in nightly.STAGES} == {3}
    at_boundaries = {case.stage for case in CASES if case.moment == kill_runs.BOUNDARY}
    assert at_boundaries == {kill_runs.START, *nightly.STAGES}


def test_a_stage_that_was_whole_and_runs_again_is_named():
    log = "12:00:00 ingest: unchanged, skipped\n12:00:01 build_journeys: changed: the code\n"
    killed_at = kill_runs.Case("build_journeys", kill_runs.BOUNDARY)
    assert kill_runs.not_resumed(killed_at, log) == ["build_journeys ran again"]
    assert kill_runs.not_resumed(kill_runs.Case("build_journeys", kill_runs.HALF_TIME), log) == []
    assert kill_runs.not_resumed(kill_runs.Case(kill_runs.START, kill_runs.BOUNDARY), "") == []
