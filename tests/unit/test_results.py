"""The tables for the README, from reports. No Spark."""

import json
from pathlib import Path

from tests import results

ROOT = Path(__file__).parents[2]


def test_the_committed_reports_make_the_tables(monkeypatch):
    monkeypatch.chdir(ROOT)
    truth = results.known_truth().splitlines()
    assert len(truth) == 2 + len(results.REPORTS) * len(results.METHODS)
    report = json.loads(results.REAL_LOGS.read_text())
    assert len(results.nights(report).splitlines()) == 2 + len(report["nights"])


def test_a_night_is_a_row_of_what_came_in_what_went_and_what_was_left():
    exposures = {"rows_in": 1200, "rejected": 3, "deduplicated": 20, "capped": 5, "used": 1172, "outside_window": 0}
    night = {"ds": "2022-05-04", "accounting": {"exposures": exposures}, "journeys": 900, "outcomes": 4}
    row = results.nights({"nights": [night]}).splitlines()[-1]
    assert row == "| 2022-05-04 | 1,200 | 3 | 20 | 5 | 1,172 | 900 | 4 |"


def test_no_committed_report_names_a_machine_or_a_credential():
    texts = {p.name: p.read_text() for p in (ROOT / "reports").iterdir()}
    assert not [name for name, text in texts.items() if ":////" in text or "@" in text]
