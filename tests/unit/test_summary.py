"""What a run of nightly leaves behind to read. No Spark."""

import json
from dataclasses import replace

from almmta_spark import config, summary

NIGHT = {
    "ds": "2026-01-15",
    "world": None,
    "seconds": 3.0,
    "peak_memory_gb": 1.0,
    "stages": [],
    "accounting": None,
    "late": {},
    "truth_metrics": None,
    "auuc_by_bucket": None,
    "diagnostics": None,
    "gate": None,
    "mlflow": {"uri": "sqlite:///runs/hard/mlflow.db", "run_id": "abc"},
}


def settings(folder):
    return replace(config.Config(), warehouse=str(folder / "warehouse"), report_file=str(folder / "reports/run.json"))


def test_the_report_of_several_nights_holds_them_all_and_what_the_importer_counted(tmp_path):
    conf = settings(tmp_path)
    counted = {"files": {"log rows": 7}}
    (tmp_path / "warehouse/_import").mkdir(parents=True)
    (tmp_path / "warehouse/_import/kuairand.json").write_text(json.dumps(counted))
    summary.write(None, conf, [NIGHT])
    summary.write(None, conf, [NIGHT, {**NIGHT, "ds": "2026-01-16"}])
    report = json.loads((tmp_path / "reports/run.json").read_text())
    assert [night["ds"] for night in report["nights"]] == ["2026-01-15", "2026-01-16"]
    assert report["imports"] == {"kuairand": counted}


def test_a_warehouse_that_was_not_imported_has_no_counts_of_importers(tmp_path):
    summary.write(None, settings(tmp_path), [NIGHT])
    assert json.loads((tmp_path / "reports/run.json").read_text())["imports"] == {}


def test_the_summary_says_how_to_look_at_the_store_that_the_night_is_in(tmp_path, capsys):
    summary.show(settings(tmp_path), NIGHT)
    assert "`make ui STORE=sqlite:///runs/hard/mlflow.db`" in capsys.readouterr().out
    summary.show(settings(tmp_path), {**NIGHT, "mlflow": {"uri": "http://mlflow.example", "run_id": "abc"}})
    assert "make ui" not in capsys.readouterr().out
    summary.show(settings(tmp_path), {**NIGHT, "mlflow": None})
    assert "MLflow   did not take this night's log: the next run of nightly" in capsys.readouterr().out


STAGE = {
    "stage": "ingest",
    "seconds": 12.34,
    "rows_out": {"rejected_rows": 3, "accepted_uploads": 1200},
    "skipped": False,
    "spark": {"tasks": 1234, "shuffle_write_bytes": 5_600_000, "spilled_disk_bytes": 0, "skew": 1.75},
}


def test_the_summary_says_what_each_stage_took_and_cost(tmp_path, capsys):
    trained = {**STAGE, "stage": "train", "rows_out": {}, "spark": {"tasks": 0}}
    summary.show(settings(tmp_path), {**NIGHT, "stages": [STAGE, {**STAGE, "skipped": True}, trained]})
    said = capsys.readouterr().out.splitlines()
    head = said.index(next(line for line in said if line.startswith("  stage")))
    rows = ["rejected_rows", "3,", "accepted_uploads", "1,200"]
    assert said[head].split() == ["stage", "seconds", "tasks", "shuffled", "spilled", "skew", "rows", "written"]
    assert said[head + 1].split() == ["ingest", "12.3", "1,234", "5.6", "MB", "0", "B", "1.8", *rows]
    assert said[head + 2].split() == ["ingest", "skipped", *rows]
    assert said[head + 3].split() == ["train", "12.3"]
    assert said[head].index("rows") == said[head + 1].index("rejected") == said[head + 2].index("rejected")


def test_the_summary_says_where_rows_went_and_how_many_came_late(tmp_path, capsys):
    accounting = {"exposures": {"rows_in": 1200, "used": 1100}, "uploads": {"rows_in": 7, "used": 7}}
    summary.show(settings(tmp_path), {**NIGHT, "accounting": accounting, "late": {"exposures": 30}})
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["table", "rows_in", "used", "late"] in said
    assert ["exposures", "1200", "1100", "30"] in said and ["uploads", "7", "7", "0"] in said


def test_the_summary_says_what_the_gate_said(tmp_path, capsys):
    judged = {"gate": "refused", "gate_reasons": ["It leaks."], "speaks": {"ds": "2026-01-12", "model_version": "ab"}}
    summary.show(settings(tmp_path), {**NIGHT, "gate": judged})
    assert "Gate: refused; model ab of 2026-01-12 speaks\n  It leaks.\n" in capsys.readouterr().out


def test_the_summary_says_where_the_review_lies_once_there_is_one(tmp_path, capsys):
    conf = settings(tmp_path)
    summary.show(
        conf, {**NIGHT, "stages": [{"stage": "report", "seconds": 1.0, "rows_out": {}, "skipped": False, "spark": {}}]}
    )
    assert f"Review   {conf.warehouse}/_reports/ds=2026-01-15/report.html" in capsys.readouterr().out
    summary.show(conf, NIGHT)
    assert "Review" not in capsys.readouterr().out
