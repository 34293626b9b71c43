"""Records from a night's tables, their means over seeds, and the file they are kept in."""

import json
import math

import pytest

from almmta_spark.study import records
from almmta_spark.study.records import Found, Key, Record

KEY = Key("hard", 5000, 1)
AUUC = {
    "propensity_bucket": 2,
    "method": "latent",
    "protocol": "exact",
    "auuc_normalised": 0.98,
    "auuc_normalised_lower": 0.97,
    "auuc_normalised_upper": 0.99,
    "qini": 0.4,
    "qini_lower": 0.3,
    "qini_upper": 0.5,
}


def record(seed, value, lower=None, upper=None, method="latent", metric="relative_rmse", bucket=None):
    return Record("hard", 5000, seed, method, metric, bucket, value, lower, upper)


def test_an_auuc_row_becomes_its_figures_with_their_intervals():
    found = records.of_night(KEY, [], [AUUC], [])
    assert found == [
        Record("hard", 5000, 1, "latent", "auuc_normalised_exact", 2, 0.98, 0.97, 0.99),
        Record("hard", 5000, 1, "latent", "qini_exact", 2, 0.4, 0.3, 0.5),
    ]


def test_the_row_of_all_buckets_has_no_bucket_and_sampled_protocols_have_no_oracle():
    row = AUUC | {"propensity_bucket": -1, "protocol": "randomised", "auuc_normalised": None}
    assert [(r.metric, r.bucket) for r in records.of_night(KEY, [], [row], [])] == [("qini_randomised", None)]


def test_a_diagnostic_says_what_it_saw_and_whether_it_warns():
    rows = [{"name": "overlap", "value": 0.2, "verdict": "warn"}, {"name": "rejected", "value": 0.0, "verdict": "pass"}]
    found = {r.metric: r.value for r in records.of_night(KEY, [], [], rows)}
    assert found == {"diagnostic/overlap": 0.2, "fires/overlap": 1, "diagnostic/rejected": 0.0, "fires/rejected": 0}


def test_a_mean_over_seeds_has_their_spread_and_the_mean_of_their_intervals():
    found = records.mean([record(0, 0.2, 0.1, 0.3), record(1, 0.4, 0.2, 0.6)])
    assert found is not None
    assert (found.value, found.seeds) == (pytest.approx(0.3), 2)
    assert found.spread == pytest.approx(math.sqrt(0.02))
    assert (found.lower, found.upper) == (pytest.approx(0.15), pytest.approx(0.45))


def test_seeds_without_the_figure_are_left_out_and_none_at_all_is_no_figure():
    found = records.mean([record(0, None), record(1, math.nan), record(2, 0.5)])
    assert found is not None and found.seeds == 1
    assert math.isnan(found.spread) and math.isnan(found.lower)
    assert records.mean([record(0, None)]) is None


def test_figures_are_found_by_what_they_are_of():
    found = Found([record(0, 0.2), record(1, 0.4), record(0, 9.0, method="linear"), record(0, 7.0, bucket=3)])
    mean = found.mean("hard", 5000, "latent", "relative_rmse")
    assert mean is not None and mean.value == pytest.approx(0.3)
    assert found.mean("default", 5000, "latent", "relative_rmse") is None
    assert found.distinct("method", metric="relative_rmse") == ["latent", "linear"]
    assert set(found.of_seeds("hard", 5000, "latent", "relative_rmse", 3)) == {0}


def test_records_come_back_from_their_file_one_a_line_in_one_order(tmp_path):
    rows = [record(1, 0.4), record(0, None, bucket=2), record(0, 0.2, 0.1, 0.3)]
    records.write(rows, tmp_path / "deep" / "truth.json")
    assert records.read(tmp_path / "deep" / "truth.json") == [rows[2], rows[1], rows[0]]
    lines = (tmp_path / "deep" / "truth.json").read_text().splitlines()
    assert len(lines) == 2 + len(rows)
    records.write(list(reversed(rows)), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text().splitlines() == lines


def test_a_file_that_holds_something_else_is_refused_by_name(tmp_path):
    (tmp_path / "truth.json").write_text(json.dumps([{"world": "hard"}]))
    with pytest.raises(ValueError, match=r"truth\.json: must be a list of records"):
        records.read(tmp_path / "truth.json")


def test_a_report_keeps_what_others_measured_of_other_nights_and_methods_and_says_who():
    old_code, new_code = (record(0, 9.0, method=records.NIGHT, metric=f"{records.CODE}{c}") for c in ("old", "new"))
    old = [old_code, record(0, 0.4), record(0, 0.9, method="backdoor"), record(1, 0.5)]
    new = [new_code, record(0, 0.3)]
    found = records.completed(new, old)
    assert found == [new_code, record(0, 0.3), record(0, 0.9, method="backdoor"), record(1, 0.5), old_code]
    assert records.completed([new_code, record(0, 0.3), record(0, 0.8, method="backdoor")], old[:3])[0] == new_code
    assert old_code not in records.completed([new_code, record(0, 0.3), record(0, 0.8, method="backdoor")], old[:3])
