"""What the report of nights on a cluster says of its aims."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench import scale


def night(exposures, seconds, peak, spilled=0):
    stage = {
        "stage": "ingest",
        "seconds": seconds / 2,
        "peak_memory_gb": peak / 2,
        "shuffle_write": 5,
        "spilled_memory": 0,
        "spilled_disk": spilled,
    }
    return {"exposures": exposures, "seconds": seconds, "peak_memory_gb": peak, "stages": [stage]}


def test_time_per_exposure_is_that_of_the_largest_over_the_smallest():
    assert scale.per_row([night(100, 10, 1), night(1000, 50, 1)]) == {"ingest": 0.5, "night": 0.5}


def test_an_aim_that_is_missed_is_said():
    assert scale.missed([night(100, 10, 1), night(1000, 100, 12)]) == []
    slow, large = scale.missed([night(100, 10, 1), night(1000, 150, 12.1)])
    assert "grew 1.5 times" in slow and "12.1 GB" in large


def test_the_page_has_a_row_a_stage_and_says_what_was_spilled():
    nights = [night(100, 10, 1), night(1000, 150, 2, spilled=3_000_000_000)]
    machine = {"started": "now", "cores": 2, "processor": "any", "load_before": 0}
    page = scale.page({"command": "x", "machine": machine, "nights": nights, "per_row": scale.per_row(nights)})
    assert "| ingest | 5.0 | 75.0 (3.0 GB spilled) | 1.5 | 0.5 | 1.0 |" in page and "grew 1.5 times" in page


def test_a_stages_peak_is_the_largest_sample_while_it_ran():
    made = {"started": "1970-01-01T00:01:40+00:00", "seconds": 10}
    assert scale.peak_of(made, [(99, 9.0), (100, 1.0), (105, 3.0), (110, 2.0), (111, 8.0)]) == 3.0
    assert scale.peak_of(made, [(99, 9.0)]) == 0.0


def test_processes_are_found_by_their_mark():
    sleeps = [sys.executable, "-c", "input()"]
    with subprocess.Popen(sleeps, stdin=subprocess.PIPE, env={**os.environ, scale.MARK: "mine"}) as marked:
        assert [p.pid for p in scale.marked("mine")] == [marked.pid]
        marked.communicate(b"\n")
    assert not list(scale.marked("mine"))
