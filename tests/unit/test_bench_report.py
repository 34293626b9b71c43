"""The benchmark's arithmetic, and that its page says what was measured. No Spark."""

import copy
import itertools
import json

import pytest

from tests.bench import report


def timed(stage, seconds, rows):
    return {"stage": stage, "seconds": seconds, "rows": rows, "rows_per_second": round(rows / seconds)}


def etl(exposures, seconds):
    """seconds: of the bare operators, ingest, build_journeys, build_pairs."""
    bare, *stages = seconds
    names = ("ingest", "build_journeys", "build_pairs")
    return {
        "exposures": exposures,
        "log_rows": 2 * exposures,
        "journeys": exposures // 5,
        "bare": timed("bare", bare, 2 * exposures),
        "stages": [
            timed(name, s, 2 * exposures) | {"bare_seconds": s / 2} for name, s in zip(names, stages, strict=True)
        ],
    }


def pairs(exposures):
    ours = {"threshold": 0.5, "scored": 4000, "found": 1200, "seconds": 2.0, "scored_per_second": 2000}
    ours["found_per_second"] = 600
    lsh = {"bucket_length": 1.0, "hash_tables": 2, "seconds": 8.0, "matches_everywhere": 90_000, "found": 900}
    return {
        "exposures": exposures,
        "all_journeys": ours | {"scored": 40_000},
        "sample": {"share": 0.125, "journeys": 100, "uploads": 120, "items": 1000, "content_length": 4},
        "ours": ours,
        "distance": 1.0,
        "lsh": [lsh | {"found_per_second": 112, "recall": 0.75}],
    }


@pytest.fixture
def measured():
    """A report of figures chosen by hand."""
    etls = [etl(1_000_000, (10, 15, 10, 5)), etl(10_000_000, (100, 120, 110, 100))]
    for one in etls:
        one.update(report.etl_ratios(one))
    readers = [("petastorm", 50_000), ("arrow", 80_000), ("pyarrow", 100_000)]
    machine = {"processor": "some CPU", "cores": 2, "memory_gb": 24.0, "system": "Linux", "load_before": 0.1}
    return {
        "command": "python -m tests.bench",
        "machine": machine | {"started": "2026-01-15T00:00:00+00:00", "versions": {"torch": "2.13"}},
        "seconds": 1234.5,
        "etl": etls,
        "growth": report.growth(etls),
        "pairs": [pairs(10_000_000)],
        "loader": {
            "rows": 200_000,
            "row_groups": 16,
            "columns": 17,
            "readers": [{"reader": name, "seconds": 1.0, "rows_per_second": rate} for name, rate in readers],
        },
        "training": [
            {
                "ranks": ranks,
                "journeys": 180_000,
                "batch_size": 1024,
                "loader": "petastorm",
                "journeys_per_second": 20_000 * ranks,
                "data_wait_share": [0.2, 0.01],
            }
            for ranks in (1, 2)
        ],
        "effects": {
            "journeys": 20_000,
            "effects": 110_000,
            "rows_per_batch": 4096,
            "forwards_one_by_one": 5.8,
            "variants": [
                {
                    "variant": variant,
                    "effects_per_second": 400_000,
                    "journeys_per_second": 80_000,
                    "forward_journeys_per_second": 200_000,
                    "deletions_to_forward": cost,
                }
                for variant, cost in (("latent", 1.2), ("paper", 2.6))
            ],
        },
        "peak_memory_gb": {"ETL 10,000,000 exposures": 4.25},
    }


def test_ratios_are_seconds_over_those_of_the_bare_operators():
    assert report.etl_ratios(etl(1_000_000, (10, 15, 10, 5))) == {
        "etl_seconds": 30,
        "own_bare_seconds": 15,
        "etl_to_own_bare": 2.0,
        "journeys_to_bare": 2.5,
        "etl_to_bare": 3.0,
    }


def test_growth_is_seconds_per_exposure_against_the_size_before():
    small, large = etl(1_000_000, (10, 15, 10, 5)), etl(10_000_000, (100, 120, 110, 100))
    (step,) = report.growth([small, large])
    assert step["ratio"] == {"ingest": 0.8, "build_journeys": 1.1, "build_pairs": 2.0, "etl": 1.1, "bare": 1.0}
    assert (step["from_exposures"], step["to_exposures"]) == (1_000_000, 10_000_000)


def test_one_size_has_no_growth():
    assert report.growth([etl(1_000_000, (10, 15, 10, 5))]) == []


def test_the_page_says_which_aims_were_met(measured):
    page = report.page(measured)
    assert "ingest + build_journeys over bare operators: 2.50 (aim 3: met)" in page
    assert "all stages (330.0 s) over bare operators: 3.30 (aim 3: missed)" in page
    assert "all stages over their own bare operators (165.0 s): 2.00 (aim 3: met)" in page
    assert "| ingest | 120.0 | 20,000,000 | 166,667 | 60.0 | 2.00 |" in page
    assert "| `latent` | 400,000 | 80,000 | 200,000 | 1.20 | met |" in page
    assert "| `paper` | 400,000 | 80,000 | 200,000 | 2.60 | missed |" in page


def test_the_page_says_what_was_compared_and_on_which_machine(measured):
    page = report.page(measured)
    assert "a hash sample of 12.5% of the journeys with an upload: 100 journeys, 120 uploads" in page
    assert "1,000 items with contents of length 4;" in page
    assert "| LSH, 2 tables, bucket 1.00 | 8.0 | 90,000 | 900 | 0.750 | 112 |" in page
    assert "2 cores (some CPU), 24 GB" in page and "torch 2.13" in page and "`python -m tests.bench`" in page
    assert "| petastorm | 50,000 | 0.50 |" in page


def test_every_row_of_a_table_has_as_many_cells_as_its_head(measured):
    lines = report.page(measured).splitlines()
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert above.count("|") == line.count("|"), (above, line)


def test_both_files_are_written_and_the_json_holds_every_figure(measured, tmp_path):
    before = copy.deepcopy(measured)
    paths = report.write(measured, tmp_path / "reports")
    assert [p.name for p in paths] == ["bench.json", "bench.md"] and measured == before
    assert json.loads(paths[0].read_text()) == before
    assert paths[1].read_text() == report.page(measured)


@pytest.fixture
def auuc_measured(measured):
    """Two sizes, at the larger of which a peer runs out of memory."""

    def size(rows, seconds, driver_gb, peers):
        ours = {"seconds": seconds, "driver_memory_gb": driver_gb, "uplift": 0.02, "auuc_normalised": 0.0131}
        ours |= {"auuc": 0.0132, "auuc_lower": 0.0125, "auuc_upper": 0.0139}
        return {"rows": rows, "ours": ours, "peers": peers}

    causalml = {"seconds": 4.0, "memory_gb": 2.5, "value": 0.6601}
    scikit_uplift = {"seconds": 2.0, "memory_gb": 1.5, "value": 0.01312}
    sizes = [
        size(10_000_000, 3.0, 0.8, {"causalml": causalml, "scikit-uplift": scikit_uplift}),
        size(50_000_000, 18.0, 1.1, {"causalml": {"error": "out of memory at 12.0 GB"}}),
    ]
    plain = {name: measured[name] for name in ("command", "machine", "seconds")}
    return plain | {
        "replicates": 200,
        "repeats": 3,
        "heap": "512m",
        "sizes": sizes,
        "growth": [report.growth_per_row(*sizes)],
    }


def test_the_page_of_auuc_sets_times_and_figures_side_by_side_and_judges_them(auuc_measured):
    page = report.auuc_page(auuc_measured)
    assert "| 10,000,000 | ours | 3.0 | 0.80 | 0.01320 [0.01250, 0.01390] |  |" in page
    assert "|  | causalml | 4.0 | 2.50 | 0.66010 (ours 0.66000) | 0.75 |" in page
    assert "|  | scikit-uplift | 2.0 | 1.50 | 0.01312 (ours 0.01310) | 1.50 |" in page
    assert "|  | causalml | out of memory at 12.0 GB |  |  |  |" in page
    assert "over causalml without at 10,000,000 rows: 0.75 (aim 1: met)" in page and "without at 50" not in page
    assert "memory at 50,000,000 rows: 1.10 GB (aim 1: missed)" in page
    assert "a row at 50,000,000 over those at 10,000,000 rows: 1.20" in page


def test_the_files_of_auuc_have_names_of_their_own(auuc_measured, tmp_path):
    paths = report.write_auuc(auuc_measured, tmp_path)
    assert [p.name for p in paths] == ["bench_auuc.json", "bench_auuc.md"]
    assert json.loads(paths[0].read_text()) == auuc_measured and paths[1].read_text() == report.auuc_page(auuc_measured)
