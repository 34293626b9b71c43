"""The report of many nights: each part stands by itself, and what differs is counted."""

from __future__ import annotations

from tests.bench import many_nights

ABOUT = {"command": "x", "machine": {"started": "now", "cores": 2, "processor": "any", "load_before": 0}}
FIGURES = dict.fromkeys(many_nights.FIGURES, 3.0)


def cost():
    made = {"stage_seconds": {"ingest": 4.0}, "days_written": ["a"], "digests": {"journeys": "1", "pairs": "2"}}
    kept = FIGURES | made | {"stage_seconds": {"ingest": 1.0}, "digests": {"journeys": "1", "pairs": "3"}}
    measured = {"on what was kept": kept, "from nothing": FIGURES | made}
    ratios = dict.fromkeys(FIGURES, 1.0)
    return ABOUT | {"users": 5, "lookback_days": 7, "night": "n", "measured": measured, "ratios": ratios}


def late():
    night = {"night": "n", "days_grown": [], "nights_again": ["m"], "written": ["exposures n"]}
    compared = [{"night": "n", "table": t, "equal": t == "journeys"} for t in ("journeys", "pairs")]
    return ABOUT | {"users": 5, "nights": [night], "compared": compared}


def test_the_page_says_what_is_equal_and_what_is_not():
    page = many_nights.page({"cost": cost(), "late": late()})
    assert "Tables with equal rows: 1 of 2." in page and "| seconds of ingest | 1.0 | 4.0 | 0.250 |" in page
    assert "1 of 2 tables of a night have equal rows." in page and "| n | - | m | exposures n |" in page


def test_a_part_that_was_not_run_is_not_on_the_page():
    assert "Late rows" not in many_nights.page({"cost": cost()})
    assert "What a night costs" not in many_nights.page({"late": late()})
