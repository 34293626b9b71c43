"""The tables for the README, from reports. No Spark."""

import json
from pathlib import Path

from almmta_spark.study import cells, records
from almmta_spark.study.records import Found, Record
from tests import results

ROOT = Path(__file__).parents[2]


def test_the_committed_reports_make_the_tables(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = Found(records.read(results.TRUTH))
    methods = [m for world, n in cells.main_nights(found) for m in cells.methods_of(found, world, n)]
    assert len(results.known_truth(found, found.distinct("world")).splitlines()) == 2 + len(methods) > 2
    report = json.loads(results.REAL_LOGS.read_text())
    assert len(results.nights(report).splitlines()) == 2 + len(report["nights"])


def test_a_night_is_a_row_of_what_came_in_what_went_and_what_was_left():
    exposures = {"rows_in": 1200, "rejected": 3, "deduplicated": 20, "capped": 5, "used": 1172, "outside_window": 0}
    night = {"ds": "2022-05-04", "accounting": {"exposures": exposures}, "journeys": 900, "outcomes": 4}
    row = results.nights({"nights": [night]}).splitlines()[-1]
    assert row == "| 2022-05-04 | 1,200 | 3 | 20 | 5 | 1,172 | 900 | 4 |"


def test_a_method_is_a_row_of_means_over_seeds_and_of_its_buckets():
    errors = [Record("hard", 60_000, s, "latent", m, None, 0.5 + 0.1 * s) for m in results.METRICS for s in (0, 1)]
    areas = [Record("hard", 60_000, 0, "latent", cells.AUUC, b, 0.9 + b / 100) for b in (0, 1)]
    row = results.known_truth(Found([*errors, *areas])).splitlines()[-1]
    assert row == "| hard | 60,000 | 2 | latent | " + "0.550 ± 0.071 | " * 3 + "0.900 0.910 |"


def test_other_worlds_are_a_row_each_and_the_family_one_of_medians():
    def figures(world: str, value: float) -> list[Record]:
        return [Record(world, 60_000, 0, "latent", m, None, value) for m in (*results.METRICS, results.COVERAGE)]

    worlds = {"default": 0.1, "leak_y": 0.2, "random:0": 0.3, "random:1": 0.4, "random:2": 0.9}
    found = Found([record for world, value in worlds.items() for record in figures(world, value)])
    assert results.other_worlds(found).splitlines()[2:] == [
        "| leak_y | 60,000 | 1 |" + " 0.200 |" * 4,
        "| random:<k>, median of 3 | 60,000 | 1 |" + " 0.400 |" * 4,
    ]


def test_no_committed_report_names_a_machine_or_a_credential():
    texts = {p.name: p.read_text() for p in (ROOT / "reports").iterdir() if p.is_file()}
    assert not [name for name, text in texts.items() if ":////" in text or "@" in text]
