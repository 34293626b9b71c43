"""What evaluate leaves for publish, and the model that publish registers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from almmta_spark import runner, storage, tables
from almmta_spark.config import Config
from jobs.evaluate import write_figures
from jobs.publish import gate_tags, headline, of_gate, refuse_another_model, reviewed
from tests.nights import DS
from tests.unit.report.nights import auuc, frame


def test_a_rerun_leaves_no_figure_of_the_run_before(tmp_path):
    night = runner.Night(None, replace(Config(), warehouse=str(tmp_path)), DS, "evaluate")
    write_figures(night, {"overlap.png": Figure(), "estimated_vs_true.png": Figure()})
    write_figures(night, {"overlap.png": Figure()})
    assert storage.names(None, night.figures_folder()) == ["overlap.png"]


def test_a_table_of_another_model_than_the_gate_named_is_not_logged(spark):
    rows = spark.createDataFrame([("latent", "old"), ("linear", "rule")], "method string, model_version string")
    night = SimpleNamespace(read=lambda table: rows, ds=DS)

    refuse_another_model(night, "latent", "old")
    with pytest.raises(ValueError, match=r"latent rows of ds=2026-01-15 .* new, got old: .* again from jobs/gate.py"):
        refuse_another_model(night, "latent", "new")
    with pytest.raises(ValueError, match=r"paper rows .* got no model"):
        refuse_another_model(night, "paper", "new")


def test_the_runs_tags_say_the_decision_each_reason_and_who_speaks():
    speaks = {"ds": "2026-01-12", "model_version": "abc"}
    notes = {"gate": "refused", "gate_reasons": ["It leaks.", "It is worse."], "speaks": speaks}
    assert gate_tags(of_gate([{"stage": "gate", "notes": notes}], DS)) == {
        "gate": "refused",
        "gate_reason_1": "It leaks.",
        "gate_reason_2": "It is worse.",
        "model_version": "abc",
        "model_ds": "2026-01-12",
    }
    with pytest.raises(ValueError, match=r"ds=2026-01-15 has had no gate.*: run jobs/gate.py before publish"):
        of_gate([], DS)


def test_metrics_are_the_areas_of_the_nights_own_method_with_their_ends():
    others = [auuc("backdoor"), auuc(protocol="observational")]
    areas = frame(tables.AUUC_BY_BUCKET, [auuc(), auuc(bucket=3, area=(0.5, None, 0.7)), *others])
    truth = frame(tables.TRUTH_METRICS, [{"method": "latent", "metric": "relative_rmse", "value": 0.2}])
    found = headline({"auuc_by_bucket": areas, "truth_metrics": truth}, "latent", "randomised")
    sides = ("", "_lower", "_upper")
    assert {f"{f}/{b}{s}" for f in ("auuc", "qini") for b in ("all", "bucket_03") for s in sides} < set(found)
    assert (found["auuc/bucket_03"], found["auuc/bucket_03_upper"], found["auuc/all_lower"]) == (500.0, 700.0, 4.0)
    assert found["truth/relative_rmse"] == 0.2 and len(found) == 12 + 2 + 1


def test_a_night_without_a_report_is_not_published():
    said = {"verdict": "pass"}
    manifests = [{"stage": "evaluate", "notes": {}}, {"stage": "report", "notes": {"said": said}}]
    assert reviewed(manifests, DS) == said
    with pytest.raises(ValueError, match=r"ds=2026-01-15 has no report.* run jobs/report.py before publish"):
        reviewed(manifests[:1], DS)
